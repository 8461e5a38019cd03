// A precision that is certified: what is to be, the random sample that is answered for it, and what came of it.

import { Following } from "./following.js";
import { counted, isolated } from "./names.js";
import { Selected } from "./selected.js";
import { get, pause, post } from "./server.js";

const LOOK = 300; // milliseconds until it is looked again whether the answers are saved
const element = (id) => document.getElementById(id);

/** Images that were drawn at random, on pages; what the model makes of them is not said. */
export class Sample extends Selected {
  /** `quit` leaves them before the end. */
  constructor(session, sheet, back, quit) {
    super(session, sheet, back, "sample", "images that were drawn at random");
    this.quit = quit;
    this.from = "Drawn at random";
    this.images = new Map();
  }

  draw(images) {
    this.images = new Map(images.map((one) => [one.row, { ...one, why: "Drawn at random", verdict: "" }]));
    this.choose([...this.images.keys()]);
  }

  /** Whether these are being answered already: then the page on the screen stays as it is marked. */
  holds(label, images) {
    return label === this.label && images.length === this.rows.length && images.every(({ row }) => this.images.has(row));
  }

  enter() {
    const waits = this.session.undoing?.kind === "sample" && this.label !== this.session.label;
    if (waits) return undefined; // what comes back is on its way
    if (this.label !== this.session.label) return this.quit(); // another class was opened
    return super.enter();
  }

  again(entry) {
    for (const { question } of entry.cells) this.images.set(question.row, { ...question, verdict: "" });
    super.again(entry);
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
    this.following = new Following("/api/certify", "certify");
    this.goal = null;
    this.found = null;
    this.left = [];
    for (const label of session.labels) element("certify-class").append(new Option(isolated(label), label));
    element("certify-open").addEventListener("click", () => this.open());
    element("certify-start").addEventListener("click", () => this.begin());
    element("certify-answer").addEventListener("click", () => this.answer());
    element("certify-more").addEventListener("click", () => this.look({ ...this.goal, answers: this.found.enough }));
    element("certify-again").addEventListener("click", async () => {
      await this.now();
      this.turn("ask");
    });
    session.hear("state", () => this.renew());
    for (const button of this.dialog.querySelectorAll(".close"))
      button.addEventListener("click", () => this.dialog.close());
    this.resume();
  }

  /** Take up what was asked for before the page was opened anew. */
  async resume() {
    const now = await this.now();
    if (this.goal || !now?.goal) return;
    if (now.state === "running") await this.follow(now.goal, false);
    else if (now.state === "done") {
      this.goal = now.goal;
      this.fill(now);
    }
  }

  /** Wait for what this page or another asked for; the dialog opens then, unless it is not to `rise`. */
  async follow(goal, rise = true) {
    this.goal = goal;
    this.turn("run");
    try {
      this.end(await this.following.end(), rise);
    } catch (error) {
      this.end({ state: "failed", message: error.message, asked: [], enough: null }, rise);
    }
  }

  /** What was found last, here or in another tab, is shown if it is about the class at hand: what changed is looked at again. */
  async open() {
    const running = !element("certify-run").hidden;
    if (!running) this.hide();
    this.dialog.showModal();
    if (running) return this.turn("run");
    if (!(this.found?.state === "done" && this.fits(this.goal))) this.ask();
    const now = await this.now();
    if (!element("certify-run").hidden) return undefined; // it was begun meanwhile
    if (now?.state === "running") return this.follow(now.goal);
    if (now?.state === "done" && this.fits(now.goal)) {
      if (now.answered || this.session.outbox.waiting.length) return this.look(now.goal);
      this.goal = now.goal;
      this.fill(now);
      return this.turn("end");
    }
    return element("certify-ask").hidden ? this.ask() : undefined;
  }

  /** Whether a goal is about the class at hand, or about all. */
  fits({ label }) {
    return [null, this.session.label].includes(label);
  }

  /** Say what holds now. */
  async now() {
    try {
      const now = await get("/api/certify");
      if (now.state !== "running") fillHolding(now.holding);
      return now;
    } catch (error) {
      this.session.tell("offline", error.message);
      return null;
    }
  }

  /** The run changed underneath: a result that is none any more is not left on the screen. */
  async renew() {
    if (!this.dialog.open || !element("certify-run").hidden) return;
    const now = await this.now();
    if (now?.state === "never" && this.found?.state === "done" && !element("certify-end").hidden) this.ask();
  }

  ask() {
    this.found = null;
    element("certify-class").value = this.session.label;
    this.turn("ask");
  }

  hide() {
    for (const one of ["ask", "run", "end"]) element(`certify-${one}`).hidden = true;
  }

  turn(part) {
    this.hide();
    element(`certify-${part}`).hidden = false;
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
    this.following.tell({ stage: "Saving the answers" });
    while (this.session.outbox.waiting.length) await pause(LOOK);
    try {
      while (!same((await post("/api/certify", goal)).goal, goal)) await this.following.end(); // another tab's goes first
    } catch (error) {
      return this.end({ state: "failed", message: error.message, asked: [], enough: null });
    }
    return this.follow(goal);
  }

  end(found, rise = true) {
    this.fill(found);
    this.turn("end");
    if (rise && !this.dialog.open) this.dialog.showModal();
    this.session.refresh();
  }

  fill(found) {
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
    element("certify-answer").textContent = `Answer ${counted(count, "image")}`;
    element("certify-more").hidden = Boolean(count) || !found.enough;
    element("certify-more").textContent = `Go on, to ${found.enough} answers`;
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
    if (!this.goal) return this.open();
    this.dialog.showModal();
    return this.look(this.goal);
  }
}

function same(one, other) {
  return ["label", "precision", "answers"].every((part) => one[part] === other[part]);
}

/** What is promised now, by this page or a command. */
function fillHolding(holding) {
  const lines = holding.map(({ text }) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  });
  element("certify-holding").replaceChildren(...lines);
  element("certify-now").hidden = !lines.length;
}
