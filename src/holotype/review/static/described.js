// The words that describe the class at hand, beside its exemplars: added from a search, taken away, searched again.

import { isolated, listed } from "./names.js";

const element = (id) => document.getElementById(id);

export class Described {
  /** `search` is given words to show the images of. */
  constructor(session, search) {
    this.session = session;
    this.search = search;
    this.list = [];
    this.searched = null; // the words whose images are shown
    session.hear("opened", () => this.fill([], []));
    for (const name of ["earlier", "state"])
      session.hear(name, ({ descriptions = [], described = [] }) => this.fill(descriptions, described));
    session.hear("searched", (text) => {
      this.searched = text;
      this.offer();
    });
    element("trail-describe").addEventListener("click", () => this.add(this.searched));
    element("descriptions").addEventListener("click", (event) => this.clicked(event.target.closest("button")));
  }

  /** Show the words of the class, and whether some of any class wait to be applied. */
  fill(list, waiting) {
    const due = waiting.length > 0;
    element("apply-open").classList.toggle("due", due);
    element("apply-open").title = due ? `The words that describe ${listed(waiting)} have changed` : "";
    if (JSON.stringify(list) !== JSON.stringify(this.list)) this.show(list);
    this.offer();
  }

  show(list) {
    const box = element("descriptions");
    const place = [...box.querySelectorAll("button")].indexOf(document.activeElement);
    this.list = list;
    box.replaceChildren(...list.map((one) => lineOf(one)));
    element("described").hidden = !list.length;
    element("exemplars").classList.toggle("worded", list.length > 0);
    element("described-wait").hidden = list.every((one) => !one.state);
    const buttons = box.querySelectorAll("button");
    if (place >= 0) (buttons[Math.min(place, buttons.length - 1)] ?? element("main")).focus();
  }

  /** Let what was searched be added, where it is not there already. */
  offer() {
    const button = element("trail-describe");
    const there = this.has(this.searched);
    button.hidden = this.searched === null;
    button.setAttribute("aria-disabled", String(there));
    button.title = there ? "" : `Let these words describe ${isolated(this.session.label)}, beside its exemplars`;
    element("trail-describe-name").textContent = there ? "Added as description" : "Add as description";
  }

  has(text) {
    const plain = (words) => words.split(/\s+/).filter(Boolean).join(" ").toLowerCase();
    return text !== null && this.list.some((one) => one.state !== "removed" && plain(one.text) === plain(text));
  }

  clicked(button) {
    if (!button) return undefined;
    const { text, does } = button.dataset;
    if (does === "search") return this.search(text);
    return does === "remove" ? this.remove(text) : this.add(text);
  }

  async add(text) {
    const { session } = this;
    const name = isolated(session.label);
    if (this.has(text)) return session.say(`These words describe ${name} already.`);
    const done = await session.describe("/api/describe", session.label, text);
    if (done) session.say(`“${isolated(text)}” describes ${name} from the next Apply on.`);
    return undefined;
  }

  async remove(text) {
    const { session } = this;
    const name = isolated(session.label);
    const done = await session.describe("/api/undescribe", session.label, text);
    if (done) session.say(`“${isolated(text)}” describes ${name} no more from the next Apply on. Undo takes that back.`);
  }
}

/** One description: a button that searches by it, and one that takes it away, or puts it back. */
function lineOf({ text, state }) {
  const line = document.createElement("li");
  line.dataset.state = state;
  const gone = state === "removed";
  const words = buttonOf("search", text, text, `Show what is found by: ${isolated(text)}`);
  words.className = "described-text";
  words.dir = "auto";
  const act = buttonOf(
    gone ? "add" : "remove",
    text,
    gone ? "Put back" : "×",
    gone ? `Put back the description: ${isolated(text)}` : `Remove the description: ${isolated(text)}`,
  );
  act.className = "small";
  line.append(words, act);
  return line;
}

function buttonOf(does, text, shown, name) {
  const button = document.createElement("button");
  button.type = "button";
  Object.assign(button.dataset, { does, text });
  button.textContent = shown;
  button.title = name;
  button.setAttribute("aria-label", name);
  return button;
}
