// Pages of questions: one looks over a page, marks what shows the class, and the next is there already.

import { Cell, know } from "./cell.js";
import { counted } from "./names.js";
import { coalesced, get, pause } from "./server.js";
import { EARLY, summary } from "./sheet.js";

const TOLD = 1000; // rows that the server is told to leave out; what it knows to be answered it leaves out itself

export class Pages {
  constructor(session, sheet) {
    this.session = session;
    this.sheet = sheet;
    this.active = false;
    this.turn = 0; // grows with each page; what waited for an older one gives up
    this.asking = null; // the page that is on its way
    this.fill = coalesced(() => {
      this.asking = this.ask().finally(() => {
        this.asking = null;
      });
      return this.asking;
    });
    this.forget();
    session.hear("learnt", () => this.renew());
    session.hear("answered", ({ answers }) => this.answered(answers));
    session.hear("undone", ({ answers }) => this.undone(answers));
  }

  forget() {
    this.turn++;
    this.cells = [];
    this.interrupted = []; // pages that an undo interrupted
    this.waiting = null; // the page behind this one
    this.stale = false; // it is older than what was learnt last
    this.out = new Set(); // rows that were answered, or cannot be shown
    this.passed = new Set(); // rows that were put aside: asked again only where the audit waits for them
    this.none = "";
  }

  enter() {
    this.active = true;
    if (this.label !== this.session.label || !this.cells.length) {
      this.forget();
      this.label = this.session.label;
      return this.next();
    }
    if (this.stale && !this.cells.some((cell) => cell.mark)) {
      this.waiting = null; // what was learnt in another view may have found better ones
      return this.next();
    }
    this.sheet.place(this, this.cells);
    return this.stale || !this.waiting ? this.fill() : undefined;
  }

  leave() {
    this.active = false;
  }

  async next() {
    const turn = ++this.turn;
    this.none = "Looking for questions…";
    this.show([]);
    for (const wait of [() => this.asking, () => this.fill()]) {
      if (!this.interrupted.length && !this.waiting) await wait();
      if (turn !== this.turn) return;
    }
    let cells = this.interrupted.pop();
    if (!cells) [cells, this.waiting] = [this.waiting ?? [], null];
    this.none = "There are no more questions for this class.";
    this.show(cells);
    if (cells.length) this.fill();
  }

  show(cells) {
    this.cells = cells;
    for (const cell of cells) this.passed.delete(cell.question.row);
    if (this.active) this.sheet.place(this, cells);
  }

  /** After learning the page behind is chosen anew; never the one on the screen. */
  renew() {
    if (this.active && this.cells.length) this.fill();
    else this.stale = true;
  }

  /** Ask for the page behind; it takes the place of an older one when its pictures are there. */
  async ask() {
    const { label } = this;
    const { count } = this.sheet;
    this.stale = false;
    const had = new Map((this.waiting ?? []).map((cell) => [cell.question.row, cell]));
    const questions = await this.asked(label, count);
    const cells = questions.map((question) => had.get(question.row) ?? new Cell(question));
    if (this.waiting) await Promise.allSettled(cells.map((cell) => cell.picture.ready));
    if (label !== this.label || count !== this.sheet.count) return;
    const fresh = cells.filter(({ question }) => !this.here.has(question.row) && !this.out.has(question.row));
    if (fresh.length) this.waiting = fresh;
  }

  async asked(label, n) {
    while (label === this.label) {
      const exclude = [...this.out, ...this.here].slice(-TOLD).join(","); // those on the screen in any case
      const passed = [...this.passed].slice(-TOLD).join(",");
      try {
        const { questions } = await get("/api/questions", { label, n, exclude, passed, page: true });
        return questions;
      } catch (error) {
        this.session.tell("offline", error.message);
        await pause(1000);
      }
    }
    return [];
  }

  /** Rows that are on the screen, or on a page that was interrupted. */
  get here() {
    return new Set([this.cells, ...this.interrupted].flat().map((cell) => cell.question.row));
  }

  async submit() {
    const { sheet, session, label } = this;
    if (sheet.early) return session.say(EARLY);
    if (session.outbox.full) return undefined;
    const answers = sheet.answers(label);
    const aside = sheet.rest === "aside" ? sheet.open : [];
    const { unseen } = sheet;
    const cells = this.cells.map((cell) => cell.kept);
    for (const { question } of this.cells.filter((cell) => cell.broken)) this.out.add(question.row);
    for (const { question } of aside) this.passed.add(question.row);
    session.say(summary(answers, aside, unseen) || "The next page.");
    const text = `a page of ${counted(answers.length, "answer")}`;
    const saving = answers.length && session.answer({ kind: "page", label, answers, text, cells });
    this.next();
    if (answers.length && !(await saving) && label === this.label) this.back(cells);
    return undefined;
  }

  /** Show a page again that was undone, or not taken, as it was marked. */
  back(saved) {
    if (this.cells.length) this.interrupted.push(this.cells);
    this.turn++;
    const rows = new Set(saved.map(({ question }) => question.row));
    for (const row of rows) this.out.delete(row);
    this.keep((cell) => !rows.has(cell.question.row));
    this.show(saved.map((kept) => Cell.from(kept)));
  }

  /** Rows that were answered, here or in another view, leave the page that waits; on the others it is shown. */
  answered(answers) {
    const own = know([this.cells, ...this.interrupted].flat(), this.label, answers);
    for (const row of own) {
      this.out.delete(row); // the last that came is the last in the list
      this.out.add(row);
      this.passed.delete(row);
    }
    this.keep((cell) => !own.has(cell.question.row));
    if (this.active) this.sheet.tell();
  }

  undone(answers = []) {
    const taken = answers.map((one) => ({ ...one, verdict: "" }));
    for (const row of know([this.cells, ...this.interrupted].flat(), this.label, taken)) this.out.delete(row);
    if (this.active) this.sheet.tell();
  }

  /** Leave on the page that waits only the cells that are `wanted`. */
  keep(wanted) {
    const left = this.waiting?.filter(wanted);
    this.waiting = left?.length ? left : null;
  }

  /** Another number of images is wanted: from now on, or where something is marked from the next page on. */
  resize() {
    this.waiting = null;
    if (!this.sheet.marked.length) return this.next();
    this.session.say(`${this.sheet.count} images from the next page on.`);
    return this.fill();
  }

  /** True when the key was for the page. */
  key(event) {
    return this.sheet.key(event);
  }
}
