// One question at a time, with the next ones ready.

import { isolated } from "./names.js";
import { pictureOf, painted, Picture } from "./pictures.js";
import { coalesced, get, pause } from "./server.js";

const RESERVE = 8;
const AHEAD = 3; // pictures of a renewed reserve that are decoded before it takes the place of the old one
const element = (id) => document.getElementById(id);

export class One {
  constructor(session) {
    this.session = session;
    this.turn = 0; // grows with each question; what waited for an older one gives up
    this.forget();
    this.fill = coalesced(() => this.ask());
    session.hear("learnt", () => this.renew());
    session.hear("answered", ({ label, rows }) => label === this.label && this.pass(rows));
  }

  forget() {
    this.turn++;
    this.card = null;
    this.shown = false;
    this.reserve = [];
    this.passed = new Set(); // rows that are not to be asked about again: answered, or not to be shown
  }

  /** Come on the screen: with the question that was there, or with the first of another class. */
  enter() {
    if (this.label === this.session.label && this.card) return this.again();
    this.forget();
    this.label = this.session.label;
    return this.next();
  }

  again() {
    this.setShown(false);
    return this.show(this.card, ++this.turn);
  }

  /** These rows were answered, here or in another view. */
  pass(rows) {
    for (const row of rows) this.passed.add(row);
    this.reserve = this.reserve.filter((card) => !this.passed.has(card.row));
    if (this.card && this.passed.has(this.card.row)) this.next();
  }

  async next() {
    const turn = ++this.turn;
    this.setShown(false);
    this.card = null;
    for (;;) {
      if (!this.reserve.length) await this.wait();
      if (turn !== this.turn) return;
      const card = this.reserve.shift();
      if (!card) return this.showNone();
      this.card = card;
      this.fill();
      if (await this.show(card, turn)) return;
    }
  }

  async wait() {
    element("question-why").textContent = "Looking for the next question…";
    await this.fill();
  }

  /** True when the card is on the screen, or is not wanted any more. */
  async show(card, turn) {
    try {
      await card.picture.ready;
    } catch (error) {
      if (turn !== this.turn) return true;
      this.session.say(`${isolated(card.id)} cannot be shown: ${error.message}. It is skipped.`);
      this.passed.add(card.row);
      return false;
    }
    if (turn !== this.turn) return true;
    card.picture.image.draggable = false; // its button is dragged
    element("question").replaceChildren(card.picture.image);
    element("question").dataset.row = card.row;
    element("question").dataset.id = card.id;
    element("question-name").textContent = card.id;
    element("question-why").textContent = card.why; // "" for most: what is the same of nearly all tells nothing
    await painted();
    if (turn === this.turn) this.setShown(true);
    return true;
  }

  showNone() {
    element("question").replaceChildren();
    delete element("question").dataset.row;
    delete element("question").dataset.id;
    element("question-name").textContent = "";
    element("question-why").textContent = "There are no more questions for this class.";
  }

  setShown(shown) {
    this.shown = shown;
    for (const button of element("answers").querySelectorAll("[data-verdict], [data-other]"))
      button.setAttribute("aria-disabled", String(!shown));
    element("question").dataset.shown = shown;
  }

  /** Answer the question on the screen. `other` is the class that it shows, or is an exemplar of, instead. */
  answer(verdict, other = null, otherVerdict = "yes") {
    if (!this.shown || this.session.outbox.full) return;
    const { row, id, why, score } = this.card;
    const { label } = this.session;
    const answers = [{ row, label, verdict }];
    if (other !== null) answers.push({ row, label: other, verdict: otherVerdict });
    const name = isolated(id);
    const text = other === null ? `${verdict}, about ${name}` : `${name} is ${isolated(other)}`;
    const learn = [verdict, otherVerdict].includes("exemplar");
    this.session.answer({ kind: "one", label, answers, text, learn, card: { row, id, why, score } });
    if (other !== null) this.session.say(`${text}; Z takes it back.`);
  }

  /** Make the image on the screen an exemplar of `label`. */
  exemplar(label) {
    if (!this.shown || this.session.outbox.full) return;
    if (label === this.session.label) return this.answer("exemplar");
    this.answer("no", label, "exemplar");
  }

  /** Ask a question again that was undone. */
  back(card) {
    if (this.card) this.reserve.unshift(this.card);
    this.reserve = this.reserve.filter((one) => one.row !== card.row);
    this.passed.delete(card.row);
    this.reserve.unshift(this.made(card));
    return this.next();
  }

  made(question) {
    const picture = new Picture(pictureOf(question.row, "large"), `Image ${question.id}`);
    return { ...question, label: this.label, picture };
  }

  async ask() {
    if (this.reserve.length >= RESERVE) return;
    const cards = await this.asked(RESERVE - this.reserve.length, this.reserve);
    const have = new Set(this.reserve.map((card) => card.row));
    this.reserve.push(...cards.filter((card) => this.fits(card) && !have.has(card.row)));
  }

  /** After learning: questions that follow from it, once their pictures are there; not the one on the screen. */
  async renew() {
    if (this.label !== this.session.label) return;
    const known = new Map(this.reserve.map((card) => [card.row, card]));
    const cards = await this.asked(RESERVE, [], known);
    await Promise.allSettled(cards.slice(0, AHEAD).map((card) => card.picture.ready));
    const fresh = cards.filter((card) => this.fits(card));
    if (!fresh.length) return;
    this.reserve = fresh;
    if (!this.card) this.next();
  }

  fits(card) {
    return card.label === this.label && card.row !== this.card?.row && !this.passed.has(card.row);
  }

  /** New cards for the class at hand, without those of `reserve`; none when the class was changed meanwhile. */
  async asked(n, reserve, known = new Map()) {
    const { label } = this;
    const out = new Set([...this.passed, ...reserve.map((card) => card.row)]);
    if (this.card) out.add(this.card.row);
    const exclude = [...out].slice(-1000).join(",");
    for (;;) {
      try {
        const { questions } = await get("/api/questions", { label, n, exclude });
        if (label !== this.label) return [];
        return questions.map((question) => known.get(question.row) ?? this.made(question));
      } catch (error) {
        this.session.tell("offline", error.message);
        await pause(1000);
        if (label !== this.label) return [];
      }
    }
  }
}
