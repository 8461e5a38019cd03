// The class at hand, what was said in this tab, and how the class stands.

import { isolated } from "./names.js";
import { coalesced, get, Outbox, post } from "./server.js";

const BATCH = Number(document.body.dataset.batch); // answers after which the ranking learns
const KEPT = 300; // acts that can be undone

export class Session extends EventTarget {
  constructor(labels) {
    super();
    this.labels = labels;
    this.label = labels[0];
    this.state = null; // as the server said last of the class at hand
    this.states = stored("states") ?? {}; // label -> what was last known: shown until the server says what is now
    this.unlearnt = 0;
    this.history = stored("acts") ?? [];
    this.outbox = new Outbox(() => this.tell("outbox"));
    this.refresh = coalesced(() => this.ask());
    this.refit = coalesced(() => this.learn());
  }

  get number() {
    return this.labels.indexOf(this.label);
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  hear(name, action) {
    this.addEventListener(name, (event) => action(event.detail));
  }

  say(text) {
    this.tell("notice", text);
  }

  /** Go to another class; what was said of the one before is learnt meanwhile. */
  open(label) {
    this.label = label;
    this.state = null;
    this.tell("opened");
    if (Object.hasOwn(this.states, label)) this.tell("earlier", this.states[label]);
    if (this.unlearnt) this.refit();
    return this.refresh();
  }

  /**
   * Save what was said, as one act. `entry`: kind (one, page, selected, sample, other), label, answers, text (for the notice of an
   * undo), and what is needed to ask again. True when the server has it.
   */
  answer(entry) {
    this.tell("answered", { label: entry.label, rows: entry.answers.map((one) => one.row), answers: entry.answers });
    const act = crypto.randomUUID();
    return this.send(act, "/api/answers", { act, answers: entry.answers }, entry);
  }

  withdraw(name, label) {
    const act = crypto.randomUUID();
    const entry = { kind: "other", label, text: `withdrawing the exemplar ${isolated(name)}`, learn: true };
    return this.send(act, "/api/withdraw", { act, label, name }, entry);
  }

  /** Let words describe a class, or not any more: `path` says which. True when the server has it; nothing waits. */
  async describe(path, label, words) {
    try {
      await post(path, { label, text: words });
    } catch (error) {
      this.say(`Not changed: ${error.message}.`);
      return false;
    }
    const text = `${path === "/api/describe" ? "adding" : "removing"} the description “${isolated(words)}”`;
    this.history.push({ kind: "describe", label, text, path, words });
    this.remember();
    this.refresh();
    return true;
  }

  async send(act, path, body, entry) {
    this.history.push({ ...entry, act });
    this.remember();
    try {
      await this.outbox.add(act, path, body);
    } catch (error) {
      this.history = this.history.filter((one) => one.act !== act);
      this.remember();
      this.say(`Not saved: ${error.message}`);
      this.tell("refused", entry);
      return false;
    }
    this.saved(weight(entry));
    return true;
  }

  /** Take the last act of this tab back; the views put its question on the screen again. */
  async undo() {
    const entry = this.history.pop();
    if (!entry) return this.say("There is nothing to undo in this tab.");
    this.remember();
    if (entry.kind === "describe") return this.undescribe(entry);
    const undone = this.outbox.add(entry.act, "/api/undo", { act: entry.act });
    this.undoing = entry; // a view that is entered meanwhile will have the question that comes back
    if (entry.label !== this.label && entry.kind !== "other") this.open(entry.label);
    this.say(`Undone: ${entry.text}.`);
    this.tell("undone", entry);
    this.undoing = null;
    try {
      await undone;
      this.saved(weight(entry));
      this.tell("unsaid", entry);
    } catch (error) {
      this.say(`Not undone: ${error.message}`);
    }
    return undefined;
  }

  async undescribe({ label, text, path, words }) {
    try {
      await post(path === "/api/describe" ? "/api/undescribe" : "/api/describe", { label, text: words });
      this.say(`Undone: ${text}.`);
      this.refresh();
    } catch (error) {
      this.say(`Not undone: ${error.message}`);
    }
  }

  saved(weight) {
    this.unlearnt += weight;
    this.refresh(); // at once: how many answers and which exemplars there are; what they lead to takes longer
    if (this.unlearnt >= BATCH) this.refit();
  }

  async learn() {
    this.unlearnt = 0;
    this.tell("learning", true);
    try {
      await post("/api/refit", {});
      await this.refresh();
      this.tell("learnt");
    } catch (error) {
      this.say(`The ranking was not renewed: ${error.message}`);
    } finally {
      this.tell("learning", false);
    }
  }

  /** Ask how the class stands; what the last answers moved comes later, where that is still to be computed. */
  async ask() {
    const { label } = this;
    try {
      for (let wait = false; ; wait = true) {
        const state = await get("/api/state", { label, wait });
        if (label !== this.label) return;
        this.state = state;
        this.tell("state", state);
        if (state.changes) break;
      }
      this.states[label] = this.state;
      store("states", this.states);
    } catch (error) {
      this.tell("offline", error.message);
    }
  }

  /** As many of the last acts as the browser has room for. */
  remember() {
    for (let count = KEPT; count; count = Math.floor(count / 2)) {
      this.history = this.history.slice(-count);
      if (store("acts", this.history) || !this.history.length) break; // a browser may keep nothing at all
    }
  }
}

/** As how many answers an act counts, done or undone: of a page, or of an exemplar, the ranking learns at once. */
function weight(entry) {
  return entry.learn || ["page", "selected", "sample"].includes(entry.kind) ? BATCH : 1;
}

// What outlasts a reload of this tab.

function stored(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

/** True when the browser had room for it. */
function store(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
