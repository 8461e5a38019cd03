// How the class stands: what is known of it, and what the last answers moved.

import { pictureOf, tinyOf } from "./pictures.js";

const element = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function write(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

function precision({ precision: value, precision_low: low, whole: known, audited }) {
  if (value === null) return ["not known yet", "some questions are picked at random to find out"];
  if (known) return [value.toFixed(2), "all of it was looked at, and what was wrong is out"];
  const lowest = low === null ? "" : `at least ${low.toFixed(2)}, `;
  return [`about ${value.toFixed(2)}`, `${lowest}from ${audited} audited`];
}

function change({ joined, left }) {
  return joined || left ? `+${whole.format(joined)} found, −${whole.format(left)}` : "nothing moved";
}

export class StandingView {
  constructor(desk, viewer, exemplar) {
    this.desk = desk;
    this.viewer = viewer;
    this.exemplar = exemplar;
    this.speak = false;
    desk.hear("opened", () => this.clear());
    desk.hear("state", (state) => this.show(state));
    desk.hear("learnt", () => desk.state && this.tell(desk.state.standing));
    desk.hear("learning", (busy) => {
      document.querySelector(".standing").classList.toggle("busy", busy);
    });
  }

  clear() {
    for (const one of document.querySelectorAll(".standing dd[id]")) one.textContent = one.id === "st-answered" ? "…" : "";
    write("st-hint", "");
    element("moved").hidden = true;
  }

  show({ standing, moved }) {
    const [value, low] = precision(standing);
    write("st-answered", whole.format(standing.answered));
    write("st-said", `${standing.yes} yes, ${standing.no} no, ${standing.unsure} unsure`);
    write("st-found", whole.format(standing.found));
    write("st-doubtful", `${whole.format(standing.doubtful)} doubtful`);
    write("st-size", standing.size === null ? "not known yet" : `about ${whole.format(standing.size)}`);
    write("st-precision", value);
    write("st-low", low);
    write("st-change", change(standing));
    write("st-hint", standing.hint);
    this.strip("joined", moved.joined);
    this.strip("left", moved.left);
    element("moved").hidden = !moved.joined.length && !moved.left.length;
  }

  /** For those who hear the page: one sentence after each batch. */
  tell(standing) {
    const [value, low] = precision(standing);
    write(
      "st-spoken",
      `${standing.answered} answers. ${standing.found} found, ${change(standing)}. Precision ${value}, ${low}.`,
    );
  }

  strip(id, moved) {
    const box = element(id);
    element(`${id}-title`).hidden = box.hidden = !moved.length;
    const rows = moved.map((one) => one.row).join();
    if (box.dataset.rows === rows) return;
    box.dataset.rows = rows;
    box.replaceChildren(...moved.map((one) => this.tiny(one, id)));
  }

  tiny({ row, id }, how) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "tiny";
    button.draggable = true;
    button.dataset.row = row;
    button.dataset.id = id;
    button.setAttribute("aria-label", `${id}, ${how}`);
    button.title = id;
    const image = tinyOf(pictureOf(row, "thumb"), "");
    image.draggable = false;
    button.append(image);
    button.addEventListener("click", () => this.zoom(row, id, how));
    return button;
  }

  zoom(row, id, how) {
    const { label } = this.desk;
    const item = { address: pictureOf(row, "large"), id, about: how === "joined" ? "It joined." : "It left.", row };
    this.viewer.open([item], 0, {
      answer: (shown, said) => {
        const answers = [{ row, label, said }];
        this.desk.answer({ kind: "other", label, answers, text: `${said}, about ${id}` });
        return false;
      },
      exemplar: (shown, choose) => this.exemplar(row, id, choose),
    });
  }
}
