// What is like an image or another picture, or what words find: looked at and marked as a page is; from there one looks on, and back.

import { Cell, know } from "./cell.js";
import { counted, isolated } from "./names.js";
import { pictureOf, tinyOf } from "./pictures.js";
import { get, send } from "./server.js";
import { EARLY, summary } from "./sheet.js";

const element = (id) => document.getElementById(id);

export class Around {
  /** `leave` is called where there is no step back left. */
  constructor(session, sheet, leave) {
    this.session = session;
    this.sheet = sheet;
    this.left = leave;
    this.active = false;
    this.turn = 0;
    this.trail = []; // {number, name, picture, ask, label, start, cells, current}
    this.none = "";
    session.hear("answered", ({ answers }) => this.answered(answers));
    session.hear("undone", (entry) => this.undone(entry));
  }

  get step() {
    return this.trail.at(-1);
  }

  /** The cell in focus, which one comes back to. */
  get current() {
    return this.step?.current;
  }

  set current(cell) {
    if (this.step) this.step.current = cell;
  }

  /** Take a step: to what is like the image in `row`. */
  image(row) {
    const step = {
      name: `image ${row}`,
      picture: pictureOf(row, "thumb"),
      ask: async (label, n, start) => {
        const { id, images } = await get("/api/around", { label, row, n, start });
        step.name = id;
        return images;
      },
    };
    return this.take(step);
  }

  /** Take a step: to what is like the picture in `file`, which the server does not keep. */
  file(file) {
    const step = {
      name: file.name,
      picture: null,
      ask: async (label, n, start) => {
        const query = new URLSearchParams({ label, n, start });
        const { images, picture } = await send(`/api/search?${query}`, file);
        step.picture ??= URL.createObjectURL(jpeg(picture));
        return images;
      },
    };
    return this.take(step);
  }

  /** Take a step: to what words find. `ready` is waited for first; `failed` is given the reason where it fails. */
  words(text, ready, failed) {
    const step = {
      name: text,
      words: true,
      failed,
      why: ({ score }) => `${score.toFixed(1)} deviations above the median of the pool.`,
      ask: async (label, n, start) => {
        await ready();
        return (await get("/api/words/images", { label, text, n, start })).images;
      },
    };
    return this.take(step);
  }

  /** Take a step; it counts when its images are there, and until then the screen stays as it is. True if so. */
  async take(step) {
    const turn = ++this.turn;
    const { label } = this.session;
    const cells = await this.asked(step, label, 0);
    if (turn !== this.turn || label !== this.session.label || !cells) return false;
    this.trail.push({ ...step, number: crypto.randomUUID(), label, start: 0, cells });
    if (this.active) this.place();
    return true;
  }

  /** The cells from place `start` on; null where they cannot be had, which is said. */
  async asked({ ask, name, why, failed }, label, start) {
    try {
      const images = await ask(label, this.sheet.count, start);
      const whyOf = why ?? (({ cosine }) => `Cosine ${cosine.toFixed(3)}.`);
      return images.map((one) => new Cell({ ...one, why: whyOf(one) }, one.verdict));
    } catch (error) {
      if (failed) failed(error.message);
      else this.session.say(`Nothing can be compared with ${isolated(name)}: ${error.message}.`);
      return null;
    }
  }

  enter() {
    this.active = true;
    if (!this.step) return this.left();
    return this.step.label === this.session.label ? this.place() : this.load(0);
  }

  leave() {
    this.active = false;
    element("trail").hidden = true;
    this.session.tell("searched", null);
  }

  /** Go where one was before all steps. */
  forget() {
    this.turn++;
    for (const { picture } of this.trail) if (picture?.startsWith("blob:")) URL.revokeObjectURL(picture);
    this.trail = [];
  }

  /** One step back; from the first to where one was. */
  back() {
    this.turn++;
    this.trail.pop();
    if (this.step) return this.enter();
    return this.left();
  }

  place() {
    const { step } = this;
    this.none = "There are no more images to compare.";
    element("trail").hidden = false;
    element("trail-about").hidden = false;
    element("trail-from").hidden = true;
    element("trail-how").textContent = step.words ? "Found by" : "Most like";
    element("trail-name").textContent = step.name;
    this.session.tell("searched", step.words ? step.name : null);
    element("trail-strip").replaceChildren(...this.trail.map((one) => this.stop(one)));
    element("trail-strip").scrollLeft = element("trail-strip").scrollWidth;
    this.sheet.place(this, step.cells);
  }

  /** A step of the trail, to go back to. */
  stop(step) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "tiny";
    button.setAttribute("aria-label", `${step.words ? "Found by" : "Like"} ${isolated(step.name)}`);
    button.title = step.name;
    button.setAttribute("aria-pressed", String(step === this.step));
    if (step.words) button.textContent = "Aa";
    else if (step.picture) button.append(tinyOf(step.picture, ""));
    button.addEventListener("click", () => {
      this.trail.length = this.trail.indexOf(step) + 1;
      this.turn++;
      this.enter();
    });
    return button;
  }

  /** Show the images of the last step from place `start` on. */
  async load(start) {
    const { step } = this;
    const { label } = this.session;
    const turn = ++this.turn;
    this.none = "Looking for images…";
    this.sheet.place(this, []);
    const cells = await this.asked(step, label, start);
    if (turn !== this.turn || !this.active) return;
    if (!cells) return this.back();
    Object.assign(step, { label, start, cells });
    this.place();
  }

  async submit() {
    const { sheet, session, step } = this;
    if (sheet.early) return session.say(EARLY);
    if (session.outbox.full) return undefined;
    if (step.words && sheet.open.length && sheet.rest === "no" && !sheet.marked.length && step.warned !== step.start) {
      step.warned = step.start; // the Enter of a search, pressed twice, answers nothing
      return session.say(`Nothing is marked. Submit again says no to ${counted(sheet.open.length, "image")}.`);
    }
    const answers = sheet.answers(session.label);
    const was = { number: step.number, start: step.start, cells: step.cells.map((cell) => cell.kept) };
    session.say(summary(answers, [], []) || "The next ones.");
    if (answers.length) this.save(answers, was);
    return this.load(step.start + step.cells.length);
  }

  async save(answers, was) {
    const { step } = this;
    const text = `${counted(answers.length, "answer")} about ${step.words ? "what words find" : "what is like an image"}`;
    const { label } = this.session;
    const saved = await this.session.answer({ kind: "other", label, answers, text, learn: true, was });
    if (!saved) this.again(was, label);
  }

  /** Show again what was not taken, or undone, as it was marked; where one still looks there. */
  again(was, label) {
    const { step } = this;
    if (!this.active || step?.number !== was?.number || label !== this.session.label) return;
    this.turn++;
    step.start = was.start;
    step.cells = was.cells.map((kept) => Cell.from(kept));
    this.place();
  }

  get cells() {
    return this.trail.flatMap((step) => (step.label === this.session.label ? step.cells : []));
  }

  answered(answers) {
    know(this.cells, this.session.label, answers);
    if (this.active) this.sheet.tell();
  }

  undone({ answers = [], was, label }) {
    know(this.cells, this.session.label, answers.map((one) => ({ ...one, verdict: "" })));
    this.again(was, label);
  }

  /** Another number of images is wanted. */
  resize() {
    return this.load(this.step.start);
  }

  /** True when the key was for what is shown. */
  key(event) {
    if (event.key !== "Escape") return this.sheet.key(event);
    this.back();
    return true;
  }
}

function jpeg(text) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });
}
