// A thumbnail that can be marked: what is on it, and whether anybody can have seen it.

import { isolated } from "./names.js";
import { pictureOf, Picture } from "./pictures.js";

export const SIGNS = { "": "", yes: "Yes", no: "No", unsure: "Unsure", exemplar: "Exemplar", withdrawn: "Withdrawn" };

export class Cell {
  /** `question`: row, id, why; `known`: what was answered about it already; `mark`: as it was marked before. */
  constructor(question, known = "", mark = "") {
    this.question = question;
    this.known = known;
    this.mark = mark;
    this.shown = false; // painted in view: it can be marked
    this.seen = false; // in view for long enough: that it has no mark means something
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

  /** What is needed to show it again as it is; `from` does so. */
  get kept() {
    return { question: this.question, known: this.known, mark: this.mark };
  }

  static from({ question, known = "", mark = "" }) {
    return new Cell(question, known, mark);
  }

  /** What a click makes of it, where the rest is "no" (or else is put aside). */
  next(restIsNo) {
    if (this.known) return this.mark ? "" : this.known === "no" || this.known === "unsure" ? "yes" : "no";
    if (restIsNo) return this.mark === "yes" ? "" : "yes";
    return { "": "yes", yes: "no", no: "", unsure: "" }[this.mark];
  }

  set(mark) {
    if (!this.shown || this.mark === mark) return;
    this.mark = mark;
    this.name();
  }

  /** It was answered `verdict` elsewhere; "" where that was taken back. */
  know(verdict) {
    this.known = verdict;
    this.mark = "";
    this.name();
  }

  break() {
    this.broken = true;
    this.name();
  }

  /** Whether it was seen, and nothing is said of it. */
  get open() {
    return this.seen && !this.mark && !this.known && !this.broken;
  }

  name() {
    const known = this.known ? `answered ${this.known}` : "no mark";
    const verdict = this.broken ? "cannot be shown" : this.mark || known;
    this.button.dataset.mark = this.mark || this.known;
    this.button.classList.toggle("known", Boolean(this.known && !this.mark));
    this.sign.textContent = this.broken ? "Not readable" : SIGNS[this.mark || this.known];
    this.button.setAttribute("aria-label", `${isolated(this.question.id)}: ${verdict}`);
    this.button.title = [this.question.id, this.question.why].filter(Boolean).map(isolated).join(". ");
  }
}

/** Of `cells`, let those know that are answered about `label`; return the rows of all `answers` about it. */
export function know(cells, label, answers = []) {
  const said = new Map(answers.filter((one) => one.label === label).map((one) => [one.row, one.verdict]));
  for (const cell of cells) if (said.has(cell.question.row)) cell.know(said.get(cell.question.row));
  return new Set(said.keys());
}
