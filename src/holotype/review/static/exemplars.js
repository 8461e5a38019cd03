// The exemplars of the class, beside each question; a picture dropped on them is one more.

import { isolated } from "./names.js";
import { exemplarOf, tinyOf } from "./pictures.js";

const element = (id) => document.getElementById(id);
export const DRAGGED = "text/x-holotype-row";

export class Exemplars {
  constructor(session, viewer) {
    this.session = session;
    this.viewer = viewer;
    this.list = [];
    this.worded = false;
    this.chosen = null; // the name of the one that is large
    session.hear("opened", () => this.fill([]));
    for (const name of ["earlier", "state"]) session.hear(name, (state) => {
      this.worded = (state.descriptions ?? []).some((one) => one.state !== "added"); // words define it too
      this.fill(state.exemplars);
    });
    element("withdraw").addEventListener("click", () => this.withdraw());
    element("exemplar").addEventListener("click", () => this.zoom());
  }

  /** Whether the one there is stays: a class has one at the least. */
  get only() {
    return this.list.length === 1 && !this.worded;
  }

  get main() {
    return this.list.find((one) => one.name === this.chosen) ?? this.list[0];
  }

  fill(list) {
    if (JSON.stringify(list) === JSON.stringify(this.list)) return;
    const added = list.filter((one) => !this.list.some((known) => known.name === one.name));
    if (this.list.length && added.length === 1) this.chosen = added[0].name;
    this.list = list;
    this.show();
  }

  show() {
    const { main } = this;
    element("exemplar-strip").replaceChildren(...(this.list.length > 1 ? this.list.map((one) => this.small(one)) : []));
    element("exemplar-name").textContent = main?.name ?? "";
    element("withdraw").hidden = !main;
    element("exemplars").classList.toggle("pictured", Boolean(main));
    element("withdraw").setAttribute("aria-disabled", String(this.only));
    element("withdraw-why").hidden = !this.only;
    element("withdraw").setAttribute("aria-label", `Withdraw the exemplar ${isolated(main?.name)}`);
    identify(element("exemplar"), main);
    if (!main) return element("exemplar").replaceChildren();
    const large = tinyOf(exemplarOf(main, "large"), `Exemplar ${isolated(main.name)}`);
    large.loading = "eager";
    large.draggable = false;
    return element("exemplar").replaceChildren(large);
  }

  small(one) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "tiny";
    button.setAttribute("aria-label", `Exemplar ${isolated(one.name)}`);
    button.setAttribute("aria-pressed", String(one === this.main));
    button.append(tinyOf(exemplarOf(one, "thumb"), ""));
    identify(button, one);
    button.addEventListener("click", () => {
      this.chosen = one.name;
      this.show();
    });
    return button;
  }

  zoom() {
    const items = this.list.map((one) => ({ address: exemplarOf(one, "large"), row: one.row, id: one.name, about: "Exemplar" }));
    if (items.length) this.viewer.open(items, this.list.indexOf(this.main));
  }

  async withdraw() {
    const { main } = this;
    if (this.only) return this.session.say(element("withdraw-why").textContent);
    if (main) await this.session.withdraw(main.name, this.session.label);
    return undefined;
  }
}

/** Let keys know which image of the pool `button` shows, if any. */
function identify(button, exemplar) {
  delete button.dataset.row;
  if ((exemplar?.row ?? null) === null) return;
  button.dataset.row = exemplar.row;
  button.dataset.id = exemplar.name;
}

/** Let the images in `box` be dragged: each element with data-row. */
export function draggable(box) {
  box.addEventListener("dragstart", (event) => {
    const row = event.target.closest("[data-row]")?.dataset.row;
    if (row === undefined) return;
    event.dataTransfer.setData(DRAGGED, row);
    event.dataTransfer.effectAllowed = "copy";
    document.body.dataset.dragging = true;
  });
  box.addEventListener("dragend", () => delete document.body.dataset.dragging);
}

/** Let images be dropped on `target`; `dropped` is given the row. */
export function droppable(target, dropped) {
  const ours = (event) => event.dataTransfer.types.includes(DRAGGED);
  target.addEventListener("dragover", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    target.classList.add("over");
  });
  target.addEventListener("dragleave", (event) => {
    if (!target.contains(event.relatedTarget)) target.classList.remove("over");
  });
  target.addEventListener("drop", (event) => {
    target.classList.remove("over");
    if (!ours(event)) return;
    event.preventDefault();
    dropped(Number(event.dataTransfer.getData(DRAGGED)));
  });
}
