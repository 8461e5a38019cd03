// A precision that is certified: what is to be, the random sample that is answered for it, and what came of it.

import { isolated } from "./names.js";
import { Selected } from "./selected.js";
import { get, pause, post, Refused } from "./server.js";

const LOOK = 300; // milliseconds
const element = (id) => document.getElementById(id);

/** Images that were drawn at random, on pages; what the model makes of them is not said. */
export class Sample extends Selected {
  /** `quit` leaves them before the end. */
  constructor(session, sheet, back, quit) {
    super(session, sheet, back, "images that were drawn at random");
    this.quit = quit;
  }

  draw(images) {
    this.images = new Map(images.map((one) => [one.row, { ...one, why: "Drawn at random", verdict: "" }]));
    this.choose([...this.images.keys()]);
  }

  enter() {
    if (this.label !== this.session.label) return this.quit(); // another class was opened
    return super.enter();
  }

  /** How far one is, in words. */
  get progress() {
    const last = this.start + this.cells.length;
    return this.cells.length ? `${this.start + 1} to ${last} of ${this.rows.length} drawn at random` : "";
  }

  async asked(rows) {
    return rows.map((row) => this.images.get(row));
  }

  key(event) {
    if (event.key !== "Escape") return super.key(event);
    this.quit();
    return true;
  }
}

export class Certify {
  /** `show(label, images)` lets images be answered, and calls `next` after the last. */
  constructor(session, show) {
    this.session = session;
    this.show = show;
    this.dialog = element("certify");
    this.goal = null;
    this.found = null;
    this.left = [];
    for (const label of session.labels) element("certify-class").append(new Option(isolated(label), label));
    element("certify-open").addEventListener("click", () => this.open());
    element("certify-start").addEventListener("click", () => this.begin());
    element("certify-answer").addEventListener("click", () => this.answer());
    element("certify-more").addEventListener("click", () => this.look({ ...this.goal, answers: this.found.enough }));
    element("certify-again").addEventListener("click", () => this.turn("ask"));
    for (const button of this.dialog.querySelectorAll(".close"))
      button.addEventListener("click", () => this.dialog.close());
  }

  open() {
    if (element("certify-run").hidden && element("certify-end").hidden) element("certify-class").value = this.session.label;
    this.dialog.showModal();
    this.dialog.querySelector("#certify > div:not([hidden]) .chief:not([hidden])")?.focus();
  }

  turn(part) {
    for (const one of ["ask", "run", "end"]) element(`certify-${one}`).hidden = one !== part;
    element("certify-open").textContent = part === "run" ? "Certifying…" : "Certify";
    this.dialog.querySelector(`#certify-${part} .chief:not([hidden])`)?.focus();
  }

  begin() {
    const label = element("certify-class").value || null;
    return this.look({ label, precision: Number(element("certify-precision").value), answers: null });
  }

  /** Look what can be promised by the answers that are saved. */
  async look(goal) {
    this.goal = goal;
    this.turn("run");
    element("certify-stage").textContent = "Saving the answers";
    element("certify-bar").removeAttribute("value");
    while (this.session.outbox.waiting.length) await pause(LOOK);
    try {
      await post("/api/certify", goal);
      this.end(await this.watch());
    } catch (error) {
      this.end({ state: "failed", message: error.message, asked: [], enough: null });
    }
  }

  async watch() {
    for (;;) {
      try {
        const now = await get("/api/certify");
        if (now.state !== "running") return now;
        this.tell(now);
      } catch (error) {
        if (error instanceof Refused) throw error;
        element("certify-stage").textContent = error.message;
      }
      await pause(LOOK);
    }
  }

  tell({ stage, done, total }) {
    const bar = element("certify-bar");
    element("certify-stage").textContent = stage || "Starting";
    if (total) {
      bar.max = total;
      bar.value = done;
    } else {
      bar.removeAttribute("value");
    }
  }

  end(found) {
    this.found = found;
    const failed = found.state !== "done";
    const lines = (failed ? `It failed: ${found.message}` : found.message).split("\n").map((text) => {
      const line = document.createElement("li");
      line.textContent = text;
      return line;
    });
    element("certify-lines").replaceChildren(...lines);
    element("certify-lines").classList.toggle("bad", failed);
    const count = found.asked.reduce((sum, { images }) => sum + images.length, 0);
    element("certify-answer").hidden = !count;
    element("certify-answer").textContent = count === 1 ? "Answer 1 image" : `Answer ${count} images`;
    element("certify-more").hidden = Boolean(count) || !found.enough;
    element("certify-more").textContent = `Go on, to ${found.enough} answers`;
    this.turn("end");
    if (!this.dialog.open) this.dialog.showModal();
    this.session.refresh();
  }

  answer() {
    this.left = [...this.found.asked];
    this.dialog.close();
    this.next();
  }

  /** Show the images of the next class; after the last, look again. */
  next() {
    const one = this.left.shift();
    if (one) return this.show(one.label, one.images);
    this.dialog.showModal();
    return this.look(this.goal);
  }
}
