// Several images of a list, chosen with clicks, a drag or keys, to be answered at once.

import { counted } from "./names.js";

const MOST = 200; // answers that the server takes as one act
const STILL = 4; // pixels that a click may move
const element = (id) => document.getElementById(id);

export class Selection {
  /** `box` has the cells, inside `scroller`; `answer` is given rows and a verdict, `changed` the cells that changed. */
  constructor(box, scroller, { answer, changed, say }) {
    Object.assign(this, { box, scroller, changed, say });
    this.rows = new Set();
    this.on = false; // a click selects, and a drag selects what is inside
    this.anchor = null; // the row from which a range goes
    this.band = null;
    element("select").addEventListener("click", () => this.setOn(!this.active));
    element("select-all").addEventListener("click", () => this.all());
    element("selection-clear").addEventListener("click", () => this.setOn(false));
    for (const button of element("selection").querySelectorAll("[data-verdict]"))
      button.addEventListener("click", () => answer([...this.rows], button.dataset.verdict));
    scroller.addEventListener("pointerdown", (event) => this.press(event));
    window.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => this.release());
  }

  get size() {
    return this.rows.size;
  }

  /** Whether a click selects: it was asked for, or something is selected already. */
  get active() {
    return this.on || this.size > 0;
  }

  has(row) {
    return this.rows.has(row);
  }

  get cells() {
    return [...this.box.children];
  }

  setOn(on) {
    this.on = on;
    if (!on) this.set([]);
    this.tell();
  }

  /** Select these `rows`, and no others; only an image that is shown can be answered. */
  set(rows) {
    const before = this.rows;
    const shown = new Set(this.cells.filter(isShown).map(rowOf));
    const wanted = [...new Set(rows)].filter((row) => shown.has(row));
    if (wanted.length > MOST) this.say(`At most ${MOST} images are answered at once: the first ${MOST} are selected.`);
    this.rows = new Set(wanted.slice(0, MOST));
    this.changed(this.cells.filter((cell) => before.has(rowOf(cell)) !== this.rows.has(rowOf(cell))));
    this.tell();
  }

  toggle(cell) {
    const row = rowOf(cell);
    this.anchor = row;
    this.set(this.has(row) ? [...this.rows].filter((one) => one !== row) : [...this.rows, row]);
  }

  /** All from the one that was chosen last up to this `cell`. */
  extend(cell, from = this.anchor) {
    const rows = this.cells.map(rowOf);
    const start = Math.max(rows.indexOf(from ?? rowOf(cell)), 0);
    const [first, last] = [start, rows.indexOf(rowOf(cell))].sort((a, b) => a - b);
    this.anchor = rows[start];
    this.set([...this.rows, ...rows.slice(first, last + 1)]);
  }

  all() {
    this.set(this.cells.map(rowOf));
  }

  /** True when a click on `cell` was for this. */
  click(event, cell) {
    if (this.swallow) return true; // it ends a drag
    if (event.shiftKey) this.extend(cell);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".pick") || (this.active && event.detail)) this.toggle(cell);
    else return false;
    return true;
  }

  /** A drag selects what is inside its frame: where a click selects, or from beside the images. */
  press(event) {
    this.swallow = false;
    const cell = event.target.closest(".cell");
    if (event.button !== 0 || event.pointerType !== "mouse" || (cell && !this.active)) return;
    if (!cell && event.target.closest("button")) return;
    const [x, y] = this.inside(event);
    this.band = { x, y, kept: event.shiftKey || event.ctrlKey || this.active ? [...this.rows] : [], frame: null };
  }

  inside({ clientX, clientY }) {
    const { left, top } = this.scroller.getBoundingClientRect();
    return [clientX - left + this.scroller.scrollLeft, clientY - top + this.scroller.scrollTop];
  }

  drag(event) {
    if (!this.band) return;
    const [x, y] = this.inside(event);
    const { band } = this;
    if (!band.frame) {
      if (Math.hypot(x - band.x, y - band.y) < STILL) return;
      band.frame = document.createElement("div");
      band.frame.className = "band";
      this.scroller.append(band.frame);
      this.swallow = true;
    }
    const [left, top, right, bottom] = [Math.min(x, band.x), Math.min(y, band.y), Math.max(x, band.x), Math.max(y, band.y)];
    Object.assign(band.frame.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
    const within = this.cells.filter((cell) => {
      const [x1, y1] = this.inside({ clientX: cell.getBoundingClientRect().left, clientY: cell.getBoundingClientRect().top });
      return x1 < right && y1 < bottom && x1 + cell.offsetWidth > left && y1 + cell.offsetHeight > top;
    });
    this.set([...band.kept, ...within.map(rowOf)]);
  }

  release() {
    this.band?.frame?.remove();
    this.band = null;
  }

  tell() {
    const { size } = this;
    element("selection").hidden = !size;
    element("select").setAttribute("aria-pressed", String(this.active));
    this.box.classList.toggle("selecting", this.active);
    for (const cell of this.cells) cell.draggable = !this.active;
    element("selection-about").textContent = size ? `${counted(size, "image")} selected` : "";
  }
}

export const rowOf = (cell) => Number(cell.dataset.row);

function isShown(cell) {
  const image = cell.querySelector("img");
  return image.complete && image.naturalWidth > 0;
}
