// Thumbnails side by side, to be marked with the pointer or with keys; two views show theirs here.

import { painted } from "./pictures.js";

const SEEN = 600; // milliseconds in view after which an image counts as looked at
const GAP = 6; // pixels between thumbnails
export const EARLY = "Nothing was on the screen for long enough to be answered.";
const [LEAST, GREATEST, TO_SCROLL] = [64, 320, 84]; // pixels of a thumbnail: of a window, and where one scrolls
const element = (id) => document.getElementById(id);

export class Sheet {
  /** `zoom` is given the cells, the place of one, and what to do with a mark that is given there. */
  constructor(zoom) {
    this.zoomed = zoom;
    this.box = element("cells");
    this.cells = [];
    this.of = new Map();
    this.view = null; // whose cells they are
    this.rest = kept("rest") === "aside" ? "aside" : "no";
    const counts = [...element("count").options].map((option) => option.value);
    if (counts.includes(kept("count"))) element("count").value = kept("count");
    new ResizeObserver(() => this.fit()).observe(this.box);
    this.listen();
  }

  /** How many images one wants to see at once. */
  get count() {
    return Number(element("count").value);
  }

  /** Show the `cells` of `view`, whose `submit` and `describe` are called from here. */
  place(view, cells) {
    for (const cell of this.cells) clearTimeout(cell.timer);
    this.view = view;
    this.cells = cells;
    this.of = new Map(cells.map((cell) => [cell.button, cell]));
    this.anchor = this.brush = null;
    this.box.replaceChildren(...cells.map((cell) => cell.button));
    this.box.scrollTop = 0;
    this.fit();
    this.watchAll();
    for (const cell of cells) this.reveal(cell);
    const here = cells.includes(view.current) ? view.current : cells[0];
    const free = [document.body, element("main"), this.box].includes(document.activeElement);
    if (here) this.focus(here, free);
    this.tell();
  }

  /** As large as all of them fit; where they would be too small, one scrolls. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width || !this.cells.length) return;
    const side = (columns) => (width - 2 * 4 - GAP * (columns - 1)) / columns;
    const scrolls = getComputedStyle(this.box).overflowY === "visible";
    const most = Math.max(1, Math.floor((width - 8 + GAP) / ((scrolls ? TO_SCROLL : LEAST) + GAP)));
    const fits = (columns) => {
      const rows = Math.ceil(this.cells.length / columns);
      return side(columns) <= GREATEST && rows * (side(columns) + GAP) - GAP + 2 * 4 <= height;
    };
    let columns = scrolls ? most : 1;
    while (columns < most && !fits(columns)) columns++;
    this.box.style.setProperty("--columns", columns);
    if (this.covered !== this.cover) this.watchAll();
  }

  /** Pixels of the window's lower end that the buttons cover, where the window scrolls under them. */
  get cover() {
    const buttons = element("submit").closest(".answers");
    return getComputedStyle(buttons).position === "sticky" ? buttons.offsetHeight : 0;
  }

  /** Notice what comes into view, and is not covered there. */
  watchAll() {
    this.inView?.disconnect();
    this.covered = this.cover;
    const room = { threshold: 0.5, rootMargin: `0px 0px ${-this.covered}px 0px` };
    this.inView = new IntersectionObserver((entries) => this.see(entries), room);
    for (const cell of this.cells) if (cell.picture.image.isConnected) this.inView.observe(cell.button);
  }

  /** A cell can be marked from when its picture is decoded and was in view. */
  async reveal(cell) {
    try {
      await cell.picture.ready;
    } catch {
      cell.break();
      return this.tell();
    }
    cell.button.prepend(cell.picture.image);
    if (this.of.has(cell.button)) this.inView.observe(cell.button);
    return undefined;
  }

  async see(entries) {
    await painted();
    for (const entry of entries) {
      const cell = this.of.get(entry.target);
      if (!cell) continue;
      clearTimeout(cell.timer);
      if (!entry.isIntersecting) continue;
      cell.shown = true;
      cell.button.dataset.shown = true;
      this.watch(cell);
    }
    this.tell();
  }

  /** It is looked at from when it was in view for a while, and nothing lay over it. */
  watch(cell) {
    if (cell.seen) return;
    cell.timer = setTimeout(() => {
      if (document.hidden || document.querySelector("dialog[open]")) return this.watch(cell);
      cell.seen = true;
      cell.button.dataset.seen = true;
      return this.tell();
    }, SEEN);
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
      if (cell && event.detail === 0) this.mark(cell, this.next(cell)); // of a screen reader, not of a pointer
    });
    this.box.addEventListener("focusin", (event) => {
      const cell = this.at(event.target);
      if (cell) this.focus(cell, false);
    });
    this.box.addEventListener("dragstart", (event) => event.preventDefault());
    element("submit").addEventListener("click", () => this.view?.submit());
    element("rest-yes").addEventListener("click", () => this.markRest("yes"));
    for (const button of document.querySelectorAll("[data-rest]"))
      button.addEventListener("click", () => this.change(button.dataset.rest));
    element("count").addEventListener("change", () => {
      keep("count", element("count").value);
      this.box.focus();
      this.view?.resize();
    });
    this.choose(this.rest);
  }

  /** What becomes of images without a mark: "no", or "aside". */
  choose(rest) {
    this.rest = rest;
    for (const button of document.querySelectorAll("[data-rest]"))
      button.setAttribute("aria-pressed", String(button.dataset.rest === rest));
    this.tell();
  }

  /** Choose it, and remember that. */
  change(rest) {
    keep("rest", rest);
    this.choose(rest);
  }

  at(target) {
    return this.of.get(target?.closest?.(".cell"));
  }

  next(cell) {
    return cell.next(this.rest === "no");
  }

  press(event) {
    const cell = this.at(event.target);
    if (!cell || event.button !== 0) return;
    if (event.shiftKey && this.anchor) return this.markRange(cell);
    this.brush = { mark: this.next(cell), cells: [cell], moved: false };
    return undefined;
  }

  /** A press that moves paints; one that stays is a click, and one that scrolls is nothing. */
  drag(event) {
    if (!this.brush) return;
    const cell = this.at(document.elementFromPoint(event.clientX, event.clientY));
    if (!cell || (!this.brush.moved && cell === this.brush.cells[0])) return;
    this.brush.moved = true;
    if (!cell.known) this.brush.cells.push(cell);
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
    this.tell();
  }

  markRange(last) {
    const [from, to] = [this.cells.indexOf(this.anchor), this.cells.indexOf(last)].sort((a, b) => a - b);
    const mark = this.anchor.mark || "yes";
    for (const cell of this.cells.slice(from, to + 1)) if (!cell.known) cell.set(mark);
    this.focus(last, true);
    this.tell();
  }

  markRest(mark) {
    for (const cell of this.open) cell.set(mark);
    this.tell();
  }

  get marked() {
    return this.cells.filter((cell) => cell.mark);
  }

  /** Those that were looked at, and of which nothing is said. */
  get open() {
    return this.cells.filter((cell) => cell.open);
  }

  get unseen() {
    return this.cells.filter((cell) => !cell.seen && !cell.mark && !cell.known && !cell.broken);
  }

  /** Nothing can be said of any image yet: none was looked at. */
  get early() {
    return !this.marked.length && !this.open.length && this.unseen.length > 0;
  }

  /** What is answered about `label` now: by marks, and by the choice for the rest. */
  answers(label) {
    const said = this.marked.map((cell) => ({ row: cell.question.row, label, verdict: cell.mark }));
    if (this.rest === "aside") return said;
    return [...said, ...this.open.map((cell) => ({ row: cell.question.row, label, verdict: "no", rest: true }))];
  }

  focus(cell, move) {
    for (const one of this.cells) one.button.tabIndex = one === cell ? 0 : -1;
    this.current = this.view.current = cell;
    if (move) cell.button.focus({ preventScroll: cell === this.cells[0] });
  }

  /** Take the keys: at the image in focus, or where the first will be. */
  take() {
    const here = this.cells.includes(this.current) ? this.current.button : this.box;
    here.focus({ preventScroll: true });
  }

  /** True when the key was for the sheet. */
  key(event) {
    const marks = { y: "yes", n: "no", u: "unsure" };
    const key = event.key.toLowerCase();
    const cell = this.current;
    if (key === "r") {
      this.change(this.rest === "no" ? "aside" : "no");
      return true;
    }
    if (!cell || !this.cells.includes(cell)) return false;
    if (key === "enter" && (this.at(event.target) || !event.target.closest("button, a, select"))) {
      this.view.submit();
    } else if (key === "y" && event.shiftKey) {
      this.markRest("yes");
    } else if (key in marks) {
      this.mark(cell, cell.mark === marks[key] ? "" : marks[key]);
      cell.button.focus();
    } else if (key.startsWith("arrow")) {
      this.focus(this.beside(cell, key), true);
    } else if (key === "+" || (key === " " && this.at(event.target))) {
      this.zoom(cell);
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

  zoom(cell) {
    const cells = this.cells.filter((one) => one.shown && !one.broken);
    if (!cell.shown) return;
    this.zoomed(cells, cells.indexOf(cell), (one, mark) => this.mark(one, mark));
  }

  /** Say what Enter will do. */
  tell() {
    const { marked, open, unseen } = this;
    const rest = this.rest === "no" ? "no" : "put aside";
    const words = counts(marked.map((cell) => cell.mark));
    if (open.length) words.push(marked.length ? `the other ${open.length} ${rest}` : `all ${open.length} ${rest}`);
    if (unseen.length) words.push(`${unseen.length} not seen yet`);
    if (this.view?.progress) words.unshift(this.view.progress);
    const text = this.cells.length ? words.join(", ") : (this.view?.none ?? "");
    if (element("cells-about").textContent !== text) element("cells-about").textContent = text;
    element("rest-yes").setAttribute("aria-disabled", String(!open.length));
    element("submit").setAttribute("aria-disabled", String(!marked.length && !open.length));
  }
}

/** What was submitted, in words: "" for nothing. */
export function summary(answers, aside, unseen) {
  const words = counts(answers.map((one) => one.verdict));
  if (aside.length) words.push(`${aside.length} put aside, of which some may be asked about again, for the audit`);
  if (unseen.length) words.push(`${unseen.length} that were not seen are asked about again`);
  return words.length ? `${words.join(", ")}.` : "";
}

function counts(verdicts) {
  return ["yes", "no", "unsure"]
    .map((verdict) => [verdict, verdicts.filter((one) => one === verdict).length])
    .filter(([, count]) => count)
    .map(([verdict, count]) => `${count} ${verdict}`);
}

// Choices are kept in cookies: each start of the server has a port of its own, and with it a storage of its own.
const YEAR = 365 * 24 * 3600;

function kept(name) {
  const found = document.cookie.split("; ").find((one) => one.startsWith(`holotype-${name}=`));
  return found?.split("=")[1];
}

function keep(name, value) {
  document.cookie = `holotype-${name}=${value}; path=/; max-age=${YEAR}; SameSite=Strict`;
}
