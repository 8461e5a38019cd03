// The answers going into the groups: asked for, watched, and then what changed and where the report is.

import { Following } from "./following.js";
import { counted, isolated, listed } from "./names.js";
import { stripOf } from "./pictures.js";
import { get, post } from "./server.js";

const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

export class Applying {
  constructor(session) {
    this.session = session;
    this.dialog = element("apply");
    this.following = new Following("/api/apply", "apply");
    this.watching = false;
    element("apply-open").addEventListener("click", () => this.open());
    element("apply-start").addEventListener("click", () => this.start());
    element("apply-again").addEventListener("click", () => this.turn("ask"));
    for (const button of this.dialog.querySelectorAll(".close"))
      button.addEventListener("click", () => this.dialog.close());
    this.watch();
  }

  /** What is promised ends with it, and that is said before. */
  async open() {
    this.dialog.showModal();
    let names = [];
    let words = [];
    try {
      const { later, described } = await get("/api/apply");
      words = described;
      if (later || (this.session.outbox.waiting.length && !element("apply-end").hidden)) this.turn("ask");
      names = (await get("/api/certify")).holding.map(({ label }) => label);
    } catch (error) {
      this.session.tell("offline", error.message);
    }
    element("apply-promised").textContent = `What was promised of ${listed(names)} ends with this, as the model is another then.`;
    element("apply-promised").hidden = !names.length;
    element("apply-described").textContent = `The words that describe ${listed(words)} have changed: that takes effect now.`;
    element("apply-described").hidden = !words.length;
  }

  turn(part) {
    for (const one of ["ask", "run", "end"]) element(`apply-${one}`).hidden = one !== part;
    const running = part === "run";
    element("apply-open").textContent = running ? "Applying…" : "Apply";
    this.dialog.querySelector(`#apply-${part} button`)?.focus();
  }

  async start() {
    try {
      await post("/api/apply", {});
    } catch (error) {
      return this.session.say(`Not applied: ${error.message}`);
    }
    this.turn("run");
    return this.watch(true);
  }

  /** Show how far it is until it is at an end; `ran`: it was started from here. */
  async watch(ran = false) {
    if (this.watching) return;
    this.watching = true;
    try {
      const now = await this.following.end(() => {
        if (!ran) this.turn("run");
        ran = true;
      });
      if (ran || now.state === "failed" || now.state === "done") this.end(now, ran);
    } catch {
      // refused: there is nothing to show
    }
    this.watching = false;
  }

  end({ state, message, fell, changes, summary }, ran) {
    this.turn("end");
    const done = state === "done";
    const ended = fell.length ? ` What was promised of ${listed(fell)} does not hold any more.` : "";
    element("apply-verdict").textContent = done ? `The answers are applied.${ended}` : `It failed: ${message}`;
    element("apply-verdict").classList.toggle("bad", !done);
    for (const id of ["apply-where", "apply-more"]) element(id).hidden = !done;
    element("apply-changes").replaceChildren(...(done ? changes.map(changeOf) : []));
    element("apply-summary").replaceChildren(
      ...summary.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
    );
    if (ran && !this.dialog.open)
      this.session.say(
        done ? `The answers are applied; Apply says what changed.${ended}` : `Applying failed: ${message}`,
      );
    if (ran) this.session.refresh();
  }
}

/** What became of a class: how many images it holds, and which were added or are gone. */
function changeOf({ label, before, now, added, gone }) {
  const box = document.createElement("section");
  box.className = "change";
  const title = document.createElement("h3");
  const name = document.createElement("b");
  name.dir = "auto";
  name.textContent = label;
  const same = !added.count && !gone.count;
  const from = before === now ? "" : `, ${number.format(before)} before`;
  title.append(name, `: ${counted(now, "image")} found${from}${same ? ": nothing changed" : ""}`);
  box.append(title);
  for (const [word, part, sign] of [["Added", added, "+"], ["Gone", gone, "−"]])
    if (part.count)
      box.append(stripOf(part, `${word}, ${isolated(label)}`, `${word} ${sign}${number.format(part.count)}`));
  return box;
}
