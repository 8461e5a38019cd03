// The search box: words, for which the images of the pool are shown that they find.

import { Following } from "./following.js";
import { get, post } from "./server.js";

const element = (id) => document.getElementById(id);

export class Words {
  /** `find` is given words, what to wait for before the server is asked, and what takes the reason where it fails. */
  constructor(session, find) {
    this.session = session;
    this.find = find;
    this.box = element("words");
    this.note = element("words-note");
    this.following = new Following("/api/words", "words");
    this.ready = false; // what makes vectors of words is loaded
    this.why = ""; // words cannot be searched
    this.words = null; // what is shown is found by these
    this.form = element("words-form");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.search(this.box.value);
    });
    session.hear("searched", (words) => {
      this.words = words;
      if (document.activeElement !== this.box) this.box.value = words ?? "";
    });
    this.box.addEventListener("focus", () => this.why && this.tell(this.why));
    this.box.addEventListener("blur", () => this.hide());
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault(); // which would empty it
      this.box.value = this.words ?? "";
    });
    this.look();
  }

  /** Go into the heading of the view, `section`. */
  place(section) {
    const head = section.querySelector(".head");
    if (this.form.parentElement !== head) head.append(this.form);
  }

  /** Find out whether words can be searched here; nothing is loaded for that. */
  async look() {
    try {
      this.allow((await get("/api/words")).why);
    } catch {
      // whoever searches is told
    }
  }

  allow(why) {
    this.why = why && `${why[0].toUpperCase()}${why.slice(1)}.`;
    this.box.readOnly = Boolean(why);
    this.box.setAttribute("aria-disabled", String(Boolean(why)));
    this.box.title = this.why;
    if (document.activeElement === this.box && why) this.tell(this.why);
  }

  focus() {
    this.box.focus();
    this.box.select();
  }

  search(text) {
    const words = text.trim();
    if (this.why) return this.focus();
    if (!words) return this.tell("Type what the images show, then press Enter.");
    this.box.value = words;
    this.box.blur(); // the keys are for the page again
    return this.find(words, () => this.prepare(), (why) => this.fail(why));
  }

  /** Let the server load what it needs, and show how far that is. Throws where it fails. */
  async prepare() {
    if (this.ready) return;
    await post("/api/words", {});
    const { state, message } = await this.following.end(() => this.show("words-work"));
    this.hide();
    if (state === "failed") throw new Error(message);
    this.ready = true;
  }

  fail(why) {
    const free = [document.body, element("main")].includes(document.activeElement);
    if (free) this.focus();
    this.tell(`Nothing was searched: ${why}.`);
  }

  tell(text) {
    element("words-why").textContent = text;
    this.show("words-why");
  }

  show(part) {
    for (const one of ["words-why", "words-work"]) element(one).hidden = one !== part;
    this.note.hidden = false;
  }

  hide() {
    this.note.hidden = true;
  }
}
