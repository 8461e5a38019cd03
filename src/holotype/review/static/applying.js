// The answers going into the groups: asked for, watched, and where the report is then.

import { listed } from "./names.js";
import { get, pause, post, Refused } from "./server.js";

const LOOK = 500; // milliseconds
const element = (id) => document.getElementById(id);

export class Applying {
  constructor(session) {
    this.session = session;
    this.dialog = element("apply");
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
    try {
      const { later } = await get("/api/apply");
      if (later || (this.session.outbox.waiting.length && !element("apply-end").hidden)) this.turn("ask");
      names = (await get("/api/certify")).holding.map(({ label }) => label);
    } catch (error) {
      this.session.tell("offline", error.message);
    }
    element("apply-promised").textContent = `What was promised of ${listed(names)} ends with this, as the model is another then.`;
    element("apply-promised").hidden = !names.length;
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
    return this.watch();
  }

  /** Show how far it is until it is at an end. */
  async watch() {
    if (this.watching) return;
    this.watching = true;
    for (let ran = false; ; ran = true) {
      try {
        const now = await get("/api/apply");
        if (now.state !== "running") {
          if (ran || now.state === "failed" || now.state === "done") this.end(now, ran);
          break;
        }
        if (!ran) this.turn("run");
        this.tell(now);
      } catch (error) {
        if (error instanceof Refused) break;
        element("apply-stage").textContent = error.message;
      }
      await pause(LOOK);
    }
    this.watching = false;
  }

  tell({ stage, done, total }) {
    const bar = element("apply-bar");
    const text = stage || "Starting";
    if (element("apply-stage").textContent !== text) element("apply-stage").textContent = text;
    if (total) {
      bar.max = total;
      bar.value = done;
    } else {
      bar.removeAttribute("value");
    }
  }

  end({ state, message, fell, summary }, ran) {
    this.turn("end");
    const done = state === "done";
    const ended = fell.length ? ` What was promised of ${listed(fell)} does not hold any more.` : "";
    element("apply-verdict").textContent = done ? `The answers are applied.${ended}` : `It failed: ${message}`;
    element("apply-verdict").classList.toggle("bad", !done);
    element("apply-where").hidden = !done;
    element("apply-summary").replaceChildren(
      ...summary.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
    );
    if (ran && !this.dialog.open)
      this.session.say(
        done ? `The answers are applied; Apply says where the report is.${ended}` : `Applying failed: ${message}`,
      );
    if (ran) this.session.refresh();
  }
}
