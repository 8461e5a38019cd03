// Many questions at once; only what was marked is answered, and only what was on the screen can be marked.

import { isolated } from "./names.js";
import { pictureOf, painted, Picture } from "./pictures.js";
import { get, pause } from "./server.js";

const COUNT = 24;
const NEXT = { "": "yes", yes: "no", no: "", unsure: "" };
const SIGNS = { "": "", yes: "Yes", no: "No", unsure: "Unsure" };
const element = (id) => document.getElementById(id);

class Cell {
  constructor(question) {
    this.question = question;
    this.mark = "";
    this.shown = false;
    this.broken = false;
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "cell";
    this.button.dataset.row = question.row;
    this.button.dataset.id = question.id;
    this.button.tabIndex = -1;
    this.sign = document.createElement("span");
    this.sign.className = "sign";
    this.picture = new Picture(pictureOf(question.row, "thumb"), "");
    this.button.append(this.sign);
    this.name();
  }

  set(mark) {
    if (!this.shown || this.mark === mark) return false;
    this.mark = mark;
    this.name();
    return true;
  }

  name() {
    const verdict = this.broken ? "cannot be shown" : this.mark || "no mark";
    this.button.dataset.mark = this.mark;
    this.sign.textContent = this.broken ? "Not readable" : SIGNS[this.mark];
    this.button.setAttribute("aria-label", `${isolated(this.question.id)}: ${verdict}`);
    this.button.title = `${isolated(this.question.id)}. ${isolated(this.question.why)}`;
  }
}

export class Grid {
  constructor(session) {
    this.session = session;
    this.box = element("cells");
    this.turn = 0;
    this.cells = [];
    this.ahead = []; // grids that wait: the next one, or one that an undo interrupted
    this.out = new Set(); // rows that are on a grid, or were answered
    this.passed = new Set(); // rows that were left without a mark: asked again only where the audit waits for them
    this.seen = new IntersectionObserver((entries) => this.see(entries), { threshold: 0.5 });
    this.listen();
  }

  enter() {
    if (this.label === this.session.label && this.cells.length) return this.place(this.cells);
    this.label = this.session.label;
    this.ahead = [];
    this.out = new Set();
    this.passed = new Set();
    this.cells = [];
    return this.next();
  }

  async next() {
    const turn = ++this.turn;
    this.place([]);
    element("grid-about").textContent = "Looking for questions…";
    const cells = this.ahead.shift() ?? (await this.asked());
    if (turn !== this.turn) return;
    this.place(cells);
    if (!this.ahead.length) this.prepare(turn);
  }

  /** Fetch the grid behind this one, so that it is there at once. */
  async prepare(turn) {
    await Promise.allSettled(this.cells.map((cell) => cell.picture.ready));
    if (turn !== this.turn) return;
    const cells = await this.asked();
    if (turn === this.turn && cells.length && !this.ahead.length) this.ahead.push(cells);
  }

  async asked() {
    const { label } = this;
    for (;;) {
      const [exclude, passed] = [this.out, this.passed].map((rows) => [...rows].slice(-1000).join(","));
      try {
        const { questions } = await get("/api/questions", { label, n: COUNT, exclude, passed });
        if (label !== this.label) return [];
        this.pass(questions.map((question) => question.row));
        return questions.map((question) => new Cell(question));
      } catch (error) {
        this.session.tell("offline", error.message);
        await pause(1000);
        if (label !== this.label) return [];
      }
    }
  }

  place(cells) {
    this.seen.disconnect();
    this.cells = cells;
    this.of = new Map(cells.map((cell) => [cell.button, cell]));
    this.anchor = null;
    this.box.replaceChildren(...cells.map((cell) => cell.button));
    for (const cell of cells) this.reveal(cell);
    if (cells.length) this.focus(cells[0], document.activeElement === document.body);
    this.tellCount();
  }

  /** A cell can be marked from when its picture is decoded and was in view. */
  async reveal(cell) {
    try {
      await cell.picture.ready;
    } catch {
      cell.broken = true;
      cell.name();
      return this.tellCount();
    }
    cell.button.prepend(cell.picture.image);
    this.seen.observe(cell.button);
    return undefined;
  }

  async see(entries) {
    const visible = entries.filter((entry) => entry.isIntersecting).map((entry) => this.of.get(entry.target));
    await painted();
    for (const cell of visible) {
      if (!cell || !this.cells.includes(cell)) continue;
      cell.shown = true;
      cell.button.dataset.shown = true;
    }
    this.tellCount();
  }

  listen() {
    this.box.addEventListener("pointerdown", (event) => this.press(event));
    this.box.addEventListener("pointermove", (event) => this.drag(event));
    window.addEventListener("pointerup", () => this.release());
    window.addEventListener("pointercancel", () => {
      this.brush = null;
    });
    this.box.addEventListener("click", (event) => {
      const cell = this.at(event.target);
      if (cell && event.detail === 0) this.mark(cell, NEXT[cell.mark]); // of a screen reader, not of a pointer
    });
    this.box.addEventListener("focusin", (event) => {
      const cell = this.at(event.target);
      if (cell) this.focus(cell, false);
    });
    this.box.addEventListener("dragstart", (event) => event.preventDefault());
    element("submit").addEventListener("click", () => this.submit());
    element("rest-no").addEventListener("click", () => this.markRest("no"));
    element("rest-yes").addEventListener("click", () => this.markRest("yes"));
  }

  at(target) {
    return this.of?.get(target?.closest?.(".cell"));
  }

  press(event) {
    const cell = this.at(event.target);
    if (!cell || event.button !== 0) return;
    if (event.shiftKey && this.anchor) return this.markRange(cell);
    this.brush = { mark: NEXT[cell.mark], cells: [cell], moved: false };
    return undefined;
  }

  /** A press that moves paints; one that stays is a click, and one that scrolls is nothing. */
  drag(event) {
    if (!this.brush) return;
    const cell = this.at(document.elementFromPoint(event.clientX, event.clientY));
    if (!cell || (!this.brush.moved && cell === this.brush.cells[0])) return;
    this.brush.moved = true;
    this.brush.cells.push(cell);
    for (const one of this.brush.cells.splice(0)) this.mark(one, this.brush.mark);
  }

  release() {
    const { brush } = this;
    this.brush = null;
    if (!brush) return;
    for (const cell of brush.cells) this.mark(cell, brush.mark);
  }

  mark(cell, mark) {
    cell.set(mark);
    this.anchor = cell;
    this.focus(cell, false);
    this.tellCount();
  }

  markRange(last) {
    const [from, to] = [this.cells.indexOf(this.anchor), this.cells.indexOf(last)].sort((a, b) => a - b);
    const mark = this.anchor.mark || "yes";
    for (const cell of this.cells.slice(from, to + 1)) cell.set(mark);
    this.focus(last, true);
    this.tellCount();
  }

  markRest(mark) {
    for (const cell of this.open()) cell.set(mark);
    this.tellCount();
  }

  /** The cells that were shown and have no mark. */
  open() {
    return this.cells.filter((cell) => cell.shown && !cell.mark);
  }

  focus(cell, move) {
    for (const one of this.cells) one.button.tabIndex = one === cell ? 0 : -1;
    this.current = cell;
    if (move) cell.button.focus();
  }

  /** True when the key was for the grid. */
  key(event) {
    const marks = { y: "yes", n: "no", u: "unsure" };
    const key = event.key.toLowerCase();
    const cell = this.current;
    if (!cell || !this.cells.includes(cell)) return false;
    if (key === "enter" && (this.at(event.target) || !event.target.closest("button, a, select"))) {
      this.submit();
    } else if (key in marks) {
      this.mark(cell, cell.mark === marks[key] ? "" : marks[key]);
      cell.button.focus();
    } else if (key.startsWith("arrow")) {
      this.focus(this.beside(cell, key), true);
    } else {
      return false;
    }
    return true;
  }

  beside(cell, key) {
    const tops = this.cells.map((one) => one.button.offsetTop);
    const across = tops.filter((top) => top === tops[0]).length;
    const step = { arrowleft: -1, arrowright: 1, arrowup: -across, arrowdown: across }[key];
    return this.cells[this.cells.indexOf(cell) + step] ?? cell;
  }

  submit() {
    const marked = this.cells.filter((cell) => cell.mark);
    if (!marked.length) return this.session.say("Nothing is marked yet.");
    if (this.session.outbox.full) return undefined;
    const { label } = this;
    const answers = marked.map((cell) => ({ row: cell.question.row, label, verdict: cell.mark }));
    const cells = this.cells.map((cell) => ({ question: cell.question, mark: cell.mark }));
    this.session.answer({ kind: "grid", label, answers, text: `a grid of ${marked.length} answers`, cells });
    const aside = cells.length - marked.length;
    if (aside) this.session.say(`${aside} without a mark are put aside; some may be asked about again, for the audit.`);
    for (const cell of this.cells) if (!cell.mark && !cell.broken) this.putAside(cell.question.row);
    element("cells").focus();
    return this.next();
  }

  /** Show a grid again that was undone, as it was marked. */
  back(saved) {
    if (this.cells.length) this.ahead.unshift(this.cells);
    this.label = this.session.label;
    this.turn++;
    this.pass(saved.map(({ question }) => question.row));
    const cells = saved.map(({ question, mark }) => {
      const cell = new Cell(question);
      cell.mark = mark;
      cell.name();
      return cell;
    });
    this.place(cells);
  }

  putAside(row) {
    this.out.delete(row);
    this.passed.add(row);
  }

  /** Rows that are asked about, or answered in another view, leave the grids that wait. */
  pass(rows) {
    const out = new Set(rows);
    for (const row of out) {
      this.out.delete(row); // the last that came is the last in the list
      this.out.add(row);
      this.passed.delete(row);
    }
    this.ahead = this.ahead.map((cells) => cells.filter((cell) => !out.has(cell.question.row)));
  }

  tellCount() {
    const marked = this.cells.filter((cell) => cell.mark).length;
    const open = this.open().length;
    const unseen = this.cells.filter((cell) => !cell.shown && !cell.broken).length;
    const about = this.cells.length ? `${marked} of ${this.cells.length} marked` : "There are no more questions.";
    element("grid-about").textContent = unseen ? `${about}, ${unseen} not shown yet` : about;
    for (const id of ["rest-no", "rest-yes"]) element(id).setAttribute("aria-disabled", String(!open));
    element("submit").setAttribute("aria-disabled", String(!marked));
  }
}
