// How the class stands: what is known of it, and what the last answers moved.

import { isolated } from "./names.js";
import { pictureOf, tinyOf } from "./pictures.js";

const element = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const FIGURES = ["st-answered", "st-found", "st-size", "st-precision", "st-change"];

function write(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

const floor = (share) => (Math.floor(100 * share) / 100).toFixed(2); // what holds at the least is not rounded up

function precision(status) {
  const { precision: value, precision_low: low, whole: known, audited, strength, strength_basis: basis } = status;
  if (known) return [value.toFixed(2), "all that was found was looked at; others may be missing"];
  if (low !== null) return [`at least ${floor(low)}`, `about ${value.toFixed(2)}, from ${audited} audited`];
  const find = "some questions are picked at random to find out";
  return ["not known yet", strength ? `the group is ${strength}, ${basis}; ${find}` : find];
}

function change({ joined, left }) {
  return joined || left ? `+${whole.format(joined)} found, −${whole.format(left)}` : "nothing moved";
}

export class StatusView {
  constructor(session, viewer, exemplar) {
    this.session = session;
    this.viewer = viewer;
    this.exemplar = exemplar;
    this.speak = false;
    session.hear("opened", () => this.clear());
    session.hear("earlier", (state) => this.show(state, true));
    session.hear("state", (state) => this.show(state));
    session.hear("learnt", () => session.state && this.tell(session.state.status));
    session.hear("learning", (busy) => {
      document.querySelector(".status").classList.toggle("busy", busy);
    });
  }

  clear() {
    for (const one of document.querySelectorAll(".status dd[id]")) one.textContent = FIGURES.includes(one.id) ? "…" : "";
    write("st-hint", "Reading the answers, and what they lead to…");
    element("moved").hidden = true;
  }

  /** `earlier`: as it was known last; what is now is being asked for. */
  show({ status, aside, changes }, earlier = false) {
    document.querySelector(".status").classList.toggle("earlier", earlier);
    const [value, low] = precision(status);
    write("st-answered", whole.format(status.answered));
    write("st-verdict", `${status.yes} yes, ${status.no} no, ${status.unsure} unsure`);
    write("st-aside", aside);
    write("st-found", whole.format(status.found));
    write("st-doubtful", `${whole.format(status.doubtful)} doubtful`);
    write("st-size", `at least ${whole.format(status.at_least)}`);
    write("st-precision", value);
    write("st-low", low);
    write("st-needs", status.audit_needs && `audits: ${status.audit_needs}`);
    write("st-change", changes ? change(status) : "comparing…");
    write("st-hint", earlier ? "As it was known last. Asking how it is now…" : changes ? status.hint : "");
    const { joined, left } = changes ?? { joined: [], left: [] };
    this.strip("joined", joined);
    this.strip("left", left);
    element("moved").hidden = !joined.length && !left.length;
  }

  /** For those who hear the page: one sentence after each batch. */
  tell(status) {
    const [value, low] = precision(status);
    write(
      "st-spoken",
      `${status.answered} answers. ${status.found} found, ${change(status)}. Precision ${value}, ${low}.`,
    );
  }

  strip(id, items) {
    const box = element(id);
    element(`${id}-title`).hidden = box.hidden = !items.length;
    const rows = items.map((one) => one.row).join();
    if (box.dataset.rows === rows) return;
    box.dataset.rows = rows;
    box.replaceChildren(...items.map((one) => this.tiny(one, id)));
  }

  tiny({ row, id }, how) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "tiny";
    button.draggable = true;
    button.dataset.row = row;
    button.dataset.id = id;
    button.setAttribute("aria-label", `${isolated(id)}, ${how}`);
    button.title = id;
    const image = tinyOf(pictureOf(row, "thumb"), "");
    image.draggable = false;
    button.append(image);
    button.addEventListener("click", () => this.zoom(row, id, how));
    return button;
  }

  zoom(row, id, how) {
    const { label } = this.session;
    const item = { address: pictureOf(row, "large"), id, about: how === "joined" ? "It joined." : "It left.", row };
    this.viewer.open([item], 0, {
      answer: (shown, verdict) => {
        const answers = [{ row, label, verdict }];
        this.session.answer({ kind: "other", label, answers, text: `${verdict}, about ${isolated(id)}` });
        return false;
      },
      exemplar: (shown, choose) => this.exemplar(row, id, choose),
    });
  }
}
