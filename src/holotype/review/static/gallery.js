// All images of a class: found, doubtful, rejected; a page at a time, as far as one scrolls.

import { SIGNS } from "./cell.js";
import { counted, isolated } from "./names.js";
import { pictureOf, tinyOf } from "./pictures.js";
import { rowOf, Selection } from "./selection.js";
import { get } from "./server.js";

const PAGE = 60;
const MOST = 200; // that the server gives at once
const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

export const scoreText = (score) => (score === null ? "no score" : score.toFixed(3));

export class Gallery {
  constructor(session, viewer, exemplar) {
    this.session = session;
    this.viewer = viewer;
    this.exemplar = exemplar;
    this.box = element("items");
    this.form = element("filters");
    this.turn = 0;
    this.loading = null; // the turn of which a page is on its way
    this.items = [];
    this.total = 0;
    this.selection = new Selection(this.box, element("scroller"), {
      answer: (rows, verdict) => this.answerAll(rows, verdict),
      changed: (cells) => this.rename(cells),
      say: (text) => session.say(text),
    });
    this.end = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && this.more());
    this.listen();
  }

  listen() {
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.load(), 150);
    });
    element("gallery-more").addEventListener("click", () => this.more());
    this.box.addEventListener("click", (event) => {
      const place = this.placeOf(event.target);
      if (place >= 0 && !this.selection.click(event, this.box.children[place])) this.zoom(place);
    });
    for (const name of ["focusin", "pointerover"])
      this.box.addEventListener(name, (event) => this.tellReason(this.placeOf(event.target)));
    this.box.addEventListener("pointerleave", () => this.tellReason(-1));
    this.session.hear("learnt", () => this.untouched && this.load(PAGE, () => this.untouched));
    for (const name of ["unsaid", "refused"])
      this.session.hear(name, () => !element("gallery").hidden && this.load(this.items.length));
    this.session.hear("answered", ({ label, answers }) => label === this.session.label && this.mark(answers));
  }

  /** Nobody looks at a certain place of the list: it may be put in a new order. */
  get untouched() {
    const looking = this.viewer.dialog.open || this.box.contains(document.activeElement) || element("scroller").scrollTop > 0;
    return !element("gallery").hidden && !looking && !this.selection.active && window.scrollY === 0;
  }

  /** Come on the screen, where one was if it is about the same class. */
  async enter() {
    const { was } = this;
    const again = was?.label === this.session.label;
    this.end.observe(element("gallery-more"));
    await this.load(again ? was.count : PAGE);
    if (!again || element("gallery").hidden) return;
    element("scroller").scrollTop = was.top;
    this.box.querySelector(`[data-row="${was.row}"]`)?.focus();
  }

  leave() {
    const { row } = document.activeElement.closest("#items .cell")?.dataset ?? {};
    const top = element("scroller").scrollTop;
    this.was = { label: this.session.label, count: this.items.length, top, row };
    this.end.disconnect();
    this.selection.setOn(false);
    this.tellReason(-1);
  }

  placeOf(target) {
    const cell = target.closest(".cell");
    return cell ? [...this.box.children].indexOf(cell) : -1;
  }

  /** Show the first page, or as many images as there were; unless it is not `wanted` any more when it comes. */
  async load(count = PAGE, wanted = () => true) {
    const turn = ++this.turn;
    const page = await this.asked(0, Math.min(Math.max(count, PAGE), MOST));
    if (turn !== this.turn || !page || !wanted()) return;
    this.loading = null;
    this.items = [];
    this.box.replaceChildren();
    this.selection.set([]);
    this.add(page);
  }

  async more() {
    const { turn } = this;
    if (this.items.length >= this.total || this.loading === turn) return;
    this.loading = turn;
    const page = await this.asked(this.items.length, PAGE);
    if (turn !== this.turn) return;
    this.loading = null;
    if (page) this.add(page);
  }

  async asked(start, count) {
    const values = { label: this.session.label, ...Object.fromEntries(new FormData(this.form)), start, count };
    if (!values.answered) delete values.answered;
    try {
      return await get("/api/gallery", values);
    } catch (error) {
      this.session.say(`The images cannot be listed: ${error.message}`);
      return null;
    }
  }

  add({ items, total }) {
    const first = this.items.length;
    this.total = total;
    this.items.push(...items);
    this.box.append(...items.map((item, k) => this.cell(item, first + k)));
    element("gallery-about").textContent = `${number.format(total)} ${total === 1 ? "image" : "images"}`;
    element("gallery-more").hidden = this.items.length >= total;
    this.end.unobserve(element("gallery-more")); // seen anew, it is asked again while it is still in view
    this.end.observe(element("gallery-more"));
  }

  cell(item, place) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "cell";
    button.draggable = !this.selection.active;
    button.dataset.row = item.row;
    button.dataset.id = item.id;
    button.tabIndex = place ? -1 : 0;
    const caption = document.createElement("span");
    caption.className = "caption";
    caption.textContent = scoreText(item.score);
    const sign = document.createElement("span");
    sign.className = "sign";
    const image = tinyOf(pictureOf(item.row, "thumb"), "");
    image.draggable = false;
    image.addEventListener("error", () => button.classList.add("broken"));
    const pick = document.createElement("span");
    pick.className = "pick";
    button.append(image, sign, caption, pick);
    this.name(button, item);
    return button;
  }

  name(button, item) {
    const verdict = item.verdict ? `answered ${item.verdict}` : "not answered";
    button.dataset.mark = item.verdict ?? "";
    button.querySelector(".sign").textContent = SIGNS[item.verdict] ?? "";
    const selected = this.selection.has(item.row);
    button.classList.toggle("selected", selected);
    const words = `${selected ? "selected, " : ""}score ${scoreText(item.score)}, ${verdict}. ${isolated(item.reason)}`;
    button.setAttribute("aria-label", `${isolated(item.id)}, ${words}`);
  }

  tellReason(place) {
    const item = this.items[place];
    const answered = item?.verdict ? `, answered ${item.verdict}` : "";
    element("reason").textContent = item
      ? `${isolated(item.id)}, ${scoreText(item.score)}${answered}. ${isolated(item.reason)}`
      : "";
  }

  zoom(place) {
    const items = this.items.map((item) => ({
      address: pictureOf(item.row, "large"),
      row: item.row,
      id: item.id,
      verdict: item.verdict,
      about: `Score ${scoreText(item.score)}. ${isolated(item.reason)}`,
      item,
    }));
    this.viewer.open(items, place, {
      answer: (shown, verdict) => {
        this.answer(shown, verdict);
        return true;
      },
      exemplar: (shown, choose) => this.exemplar(shown.item.row, shown.id, choose),
    });
  }

  async answer(shown, verdict) {
    if (this.session.outbox.full) return;
    const text = `${verdict}, about ${isolated(shown.id)}`;
    if (await this.send([shown.row], verdict, text)) shown.verdict = verdict;
  }

  /** Answer several images at once, as one act that is undone at once. */
  async answerAll(rows, verdict) {
    if (!rows.length || this.session.outbox.full) return;
    const about = counted(rows.length, "image");
    this.selection.setOn(false);
    if (await this.send(rows, verdict, `${verdict}, about ${about}`, true))
      this.session.say(`${about}: ${verdict}. Undo takes it back.`);
  }

  send(rows, verdict, text, learn = false) {
    const { label } = this.session;
    const answers = rows.map((row) => ({ row, label, verdict }));
    return this.session.answer({ kind: "other", label, answers, text, learn });
  }

  /** What was just answered, here or in another way, is shown as such. */
  mark(answers) {
    const said = new Map(answers.filter(({ label }) => label === this.session.label).map(({ row, verdict }) => [row, verdict]));
    for (const item of this.items) if (said.has(item.row)) item.verdict = said.get(item.row);
    this.rename([...this.box.children].filter((cell) => said.has(rowOf(cell))));
  }

  rename(cells) {
    for (const cell of cells) this.name(cell, this.items[this.placeOf(cell)]);
  }

  /** True when the key was for the gallery. */
  key(event) {
    const { selection } = this;
    const cell = event.target.closest("#items .cell");
    const key = event.key.length > 1 ? event.key : event.key.toLowerCase();
    const verdict = { y: "yes", n: "no", u: "unsure" }[key];
    if (key === "Escape" && selection.active) selection.setOn(false);
    else if (key === "s") selection.setOn(!selection.active);
    else if (verdict && selection.size) this.answerAll([...selection.rows], verdict);
    else if (verdict && cell) this.answerOne(cell, verdict);
    else if (key === "x" && cell) selection.toggle(cell);
    else if (cell && key.startsWith("Arrow")) this.move(cell, key, event.shiftKey);
    else return false;
    return true;
  }

  /** A key with Ctrl; true when it was for the gallery. */
  chord(event) {
    if (event.key.toLowerCase() !== "a" || event.altKey || event.shiftKey) return false;
    this.selection.all();
    return true;
  }

  answerOne(cell, verdict) {
    const image = cell.querySelector("img");
    if (image.complete && image.naturalWidth) this.answer(this.items[this.placeOf(cell)], verdict);
  }

  /** Go to the cell beside; with Shift it is selected, and all on the way. */
  move(cell, key, select) {
    const cells = [...this.box.children];
    const across = cells.filter((one) => one.offsetTop === cells[0].offsetTop).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[key];
    const next = cells[cells.indexOf(cell) + step];
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    if (select) this.selection.extend(next, this.selection.size ? undefined : rowOf(cell));
  }
}
