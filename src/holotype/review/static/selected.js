// Images that were chosen on the map, a page at a time: marked as on the pages, and then back to the map.

import { Cell, know } from "./cell.js";
import { counted } from "./names.js";
import { get, pause } from "./server.js";
import { EARLY } from "./sheet.js";

const element = (id) => document.getElementById(id);

export class Selected {
  /** `back` leaves this view; `kind` is what it is called, and `what` the images are called in notices. */
  constructor(session, sheet, back, kind = "selected", what = "images of the map") {
    this.kind = kind;
    this.what = what;
    this.from = "Chosen on the map";
    this.session = session;
    this.sheet = sheet;
    this.back = back;
    this.rows = [];
    this.forget();
    session.hear("answered", ({ answers }) => this.tell(answers));
    session.hear("undone", ({ answers = [] }) => this.tell(answers.map((one) => ({ ...one, verdict: "" }))));
  }

  forget() {
    this.cells = [];
    this.start = 0;
    this.none = "";
  }

  /** Have these `rows` shown when the view is opened. */
  choose(rows) {
    this.forget();
    this.rows = rows;
    this.label = this.session.label;
  }

  enter() {
    this.active = true;
    if (this.label !== this.session.label) this.choose(this.rows);
    if (this.cells.length) return this.place(this.cells);
    return this.show();
  }

  leave() {
    this.active = false;
    element("trail").hidden = true;
  }

  /** Where these come from, and the way back there. */
  tellTrail() {
    element("trail").hidden = false;
    element("trail-strip").replaceChildren();
    element("trail-about").hidden = true;
    element("trail-from").hidden = false;
    const last = this.start + this.cells.length;
    element("trail-from").textContent = `${this.from}: ${this.start + 1} to ${last} of ${this.rows.length}`;
  }

  /** Show the page that begins at `start`. */
  async show() {
    const { label, rows, start } = this;
    this.none = "Looking for the images…";
    this.place([]);
    const images = await this.asked(rows.slice(start, start + this.sheet.count), label);
    if (rows !== this.rows || label !== this.label || start !== this.start) return;
    this.none = "Nothing was chosen on the map.";
    this.place(images.map((image) => new Cell(image, image.verdict)));
  }

  async asked(rows, label) {
    while (rows.length && label === this.session.label) {
      try {
        return (await get("/api/images", { label, rows: rows.join(",") })).images;
      } catch (error) {
        this.session.tell("offline", error.message);
        await pause(1000);
      }
    }
    return [];
  }

  place(cells) {
    this.cells = cells;
    if (!this.active) return;
    this.sheet.place(this, cells);
    this.tellTrail();
  }

  async submit() {
    const { sheet, session, label, start } = this;
    if (sheet.early) return session.say(EARLY);
    if (session.outbox.full) return undefined;
    const answers = sheet.answers(label);
    const cells = this.cells.map((cell) => cell.kept);
    const text = `${counted(answers.length, "answer")} about ${this.what}`;
    const saving = answers.length && session.answer({ kind: this.kind, label, answers, text, cells });
    this.start = start + this.cells.length;
    if (this.start < this.rows.length) this.show();
    else this.back();
    if (answers.length && !(await saving)) this.again({ cells });
    return undefined;
  }

  /** Show a page again that was undone, or not taken, as it was marked; what was chosen with it comes behind. */
  again({ cells }) {
    const rows = cells.map(({ question }) => question.row);
    const at = this.rows.indexOf(rows[0]);
    const here = rows.every((row, k) => this.rows[at + k] === row);
    this.label = this.session.label;
    this.rows = here ? [...this.rows] : rows; // others than before: of those, a page may be on its way
    this.start = here ? at : 0;
    this.place(cells.map((kept) => Cell.from(kept)));
  }

  resize() {
    return this.show();
  }

  tell(answers) {
    know(this.cells, this.label, answers);
    if (this.active) this.sheet.tell();
  }

  /** True when the key was for the page. */
  key(event) {
    if (event.key !== "Escape") return this.sheet.key(event);
    this.back();
    return true;
  }
}
