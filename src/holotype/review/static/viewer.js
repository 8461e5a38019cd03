// One picture, large: to be moved, seen pixel for pixel, and answered.

import { painted, Picture } from "./pictures.js";
import { get } from "./server.js";

const element = (id) => document.getElementById(id);

export class Viewer {
  constructor() {
    this.dialog = element("viewer");
    this.stage = element("viewer-picture");
    this.items = [];
    this.turn = 0;
    this.around = null; // is given an item of the pool, to look around it
    element("viewer-around").addEventListener("click", () => this.look());
    element("viewer-scale").addEventListener("click", () => this.scale());
    element("viewer-exemplar").addEventListener("click", () => this.exemplar(false));
    element("viewer-close").addEventListener("click", () => this.dialog.close());
    element("viewer-copy").addEventListener("click", () => this.copy());
    element("viewer-before").addEventListener("click", () => this.step(-1));
    element("viewer-next").addEventListener("click", () => this.step(1));
    for (const button of this.dialog.querySelectorAll("[data-verdict]"))
      button.addEventListener("click", () => this.answer(button.dataset.verdict));
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    this.dialog.addEventListener("close", () => this.turn++);
    this.pan();
  }

  /**
   * Show `items` ({address, row, id, about, verdict, mark}), beginning with `place`. With `answer`, which is given the item and
   * what was said, they can be answered; it returns whether to go on to the next. With `exemplar`, which is given
   * the item and whether to ask for the class, they can be made exemplars.
   */
  open(items, place, { answer = null, exemplar = null } = {}) {
    this.items = items;
    this.place = place;
    this.answering = answer;
    this.making = exemplar;
    element("viewer-answers").classList.toggle("silent", !answer);
    element("viewer-exemplar").hidden = !exemplar;
    for (const id of ["viewer-before", "viewer-next"]) element(id).hidden = items.length < 2;
    if (!this.dialog.open) this.dialog.showModal();
    this.stage.focus();
    return this.show();
  }

  get item() {
    return this.items[this.place];
  }

  async show() {
    const turn = ++this.turn;
    const { item } = this;
    this.setShown(false);
    this.scale(false);
    element("viewer-name").textContent = item.id;
    element("viewer-around").hidden = (item.row ?? null) === null;
    element("viewer-about").textContent = [item.mark && `Marked ${item.mark}.`, item.verdict && `Answered ${item.verdict}.`, item.about].filter(Boolean).join(" ");
    this.where(item, turn);
    const picture = new Picture(item.address, `Image ${item.id}`);
    this.stage.replaceChildren();
    try {
      await picture.ready;
    } catch (error) {
      if (turn === this.turn) element("viewer-about").textContent = `It cannot be shown: ${error.message}.`;
      return;
    }
    if (turn !== this.turn) return;
    this.stage.replaceChildren(picture.image);
    await painted();
    if (turn === this.turn) this.setShown(true);
  }

  /** Say which file an image of the pool is. */
  async where({ row }, turn) {
    element("viewer-where").hidden = true;
    element("viewer-copy").textContent = "Copy path";
    if ((row ?? null) === null) return;
    try {
      const { path } = await get("/api/path", { row });
      if (turn !== this.turn) return;
      element("viewer-path").textContent = path;
      element("viewer-where").hidden = false;
    } catch {
      // the picture says that the server cannot be reached
    }
  }

  async copy() {
    const button = element("viewer-copy");
    try {
      await navigator.clipboard.writeText(element("viewer-path").textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(element("viewer-path")); // to be copied by hand
      button.textContent = "Press Ctrl C";
    }
  }

  setShown(shown) {
    this.shown = shown;
    this.dialog.dataset.shown = shown;
    for (const button of this.dialog.querySelectorAll("[data-verdict]"))
      button.setAttribute("aria-disabled", String(!shown));
  }

  step(by) {
    const place = this.place + by;
    if (!this.items[place]) return;
    this.place = place;
    this.show();
  }

  answer(verdict) {
    if (!this.shown || !this.answering) return;
    if (!this.answering(this.item, verdict)) return this.dialog.close();
    if (this.items[this.place + 1]) return this.step(1);
    return this.show();
  }

  scale(real = !this.stage.classList.contains("real")) {
    this.stage.classList.toggle("real", real);
    element("viewer-scale").setAttribute("aria-pressed", String(real));
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const verdict = { y: "yes", n: "no", u: "unsure" }[event.key.toLowerCase()];
    const onButton = event.target.closest("button");
    if (event.key === "+" || (event.key === " " && !onButton)) this.dialog.close();
    else if (verdict && !event.repeat) this.answer(verdict);
    else if (event.key.toLowerCase() === "e" && !event.repeat) this.exemplar(event.shiftKey);
    else if (event.key.toLowerCase() === "a" && !event.repeat) this.look();
    else if (event.key === "ArrowLeft" && !this.stage.classList.contains("real")) this.step(-1);
    else if (event.key === "ArrowRight" && !this.stage.classList.contains("real")) this.step(1);
    else return;
    event.preventDefault();
  }

  exemplar(choose) {
    if (this.shown && this.making) this.making(this.item, choose);
  }

  look() {
    if (this.shown && (this.item.row ?? null) !== null) this.around?.(this.item);
  }

  /** Move the picture with the pointer. */
  pan() {
    let last = null;
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || !this.stage.classList.contains("real")) return;
      last = event;
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!last) return;
      this.stage.scrollBy(last.clientX - event.clientX, last.clientY - event.clientY);
      last = event;
    });
    this.stage.addEventListener("lostpointercapture", () => {
      last = null;
    });
    this.stage.addEventListener("dblclick", () => this.scale());
    this.stage.addEventListener("dragstart", (event) => event.preventDefault());
  }
}
