// The map: images in two dimensions, what is alike together, coloured by how each stands to the class at hand.

import { Gestures } from "./gestures.js";
import { isolated } from "./names.js";
import { pictureOf, tinyOf } from "./pictures.js";
import { drawPoint, KINDS, Plot } from "./plot.js";
import { coalesced, get, pause, post, Refused } from "./server.js";

const LOOK = 400; // milliseconds between two looks at how far the map is
const [REACH, THUMB] = [12, 24]; // pixels from a point that still mean it: with a mouse, with a finger
const NEAR = 40; // images that one steps through in the viewer, around the one that was chosen
const ISLAND = 60; // pixels to what counts as elsewhere
const STEP = 1.5; // of a key that zooms
const WORDS = ["Not found", "Doubtful", "Found", "No", "Unsure", "Yes", "Exemplar"];
const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

export class AtlasView {
  /** `choose` is given rows to be looked through; `exemplar` a row, its id, and whether to ask for the class. */
  constructor(session, viewer, choose, exemplar) {
    Object.assign(this, { session, viewer, choose, exemplar });
    this.box = element("plot");
    this.plot = new Plot(element("points"));
    this.turn = 0;
    this.names = new Map(); // row -> its id
    this.gestures = new Gestures(this.box, {
      pan: (dx, dy) => this.plot.pan(dx, dy),
      zoom: (factor, x, y) => {
        this.hover();
        this.plot.zoom(factor, x, y);
      },
      lasso: (corners) => this.outline(corners),
      lassoed: (corners) => this.chosen(this.plot.inside(corners)),
      tap: (x, y, touch) => this.tap(x, y, touch ? THUMB : REACH),
      hover: (x, y) => this.hover(x, y),
    });
    this.colour = coalesced(() => this.ask()); // else two might fetch the same points
    this.fillLegend();
    element("map-again").addEventListener("click", () => this.enter());
    element("map-lasso").addEventListener("click", () => this.setLasso(!this.gestures.drawing));
    element("map-in").addEventListener("click", () => this.plot.zoom(STEP));
    element("map-out").addEventListener("click", () => this.plot.zoom(1 / STEP));
    element("map-whole").addEventListener("click", () => this.plot.whole());
    element("map-open").addEventListener("click", () => this.openNear());
    session.hear("state", () => this.active && this.colour());
    session.hear("answered", ({ label, answers }) => label === session.label && this.mark(answers));
  }

  enter() {
    this.active = true;
    this.focus();
    return this.plot.count ? this.colour() : this.wait();
  }

  /** Arrow keys are for the map, where there are keys. */
  focus() {
    if (matchMedia("(hover: hover)").matches && !document.querySelector("dialog[open]")) this.box.focus();
  }

  leave() {
    this.active = false;
    this.hover();
  }

  /** Have the map laid out, and show how far that is. */
  async wait() {
    const turn = ++this.turn;
    this.progress("Looking for the map…");
    for (let look = () => post("/api/map", {}); turn === this.turn && this.active; look = () => get("/api/map")) {
      try {
        const { state, done, total, message } = await look();
        if (state === "failed") return this.progress(message, { failed: true });
        if (state === "done") {
          if (message) this.session.say(message);
          return await this.load();
        }
        this.progress("Laying out the map; you can go on in another view meanwhile.", { done, total });
      } catch (error) {
        if (error instanceof Refused) return this.progress(error.message, { failed: true });
        this.progress(error.message);
      }
      await pause(LOOK);
    }
    return undefined;
  }

  progress(text, { done = 0, total = 0, failed = false } = {}) {
    element("map-wait").hidden = !text;
    this.box.hidden = element("map-tools").hidden = element("legend").hidden = Boolean(text);
    if (element("map-stage").textContent !== text) element("map-stage").textContent = text;
    element("map-bar").hidden = failed;
    element("map-again").hidden = !failed;
    if (total) Object.assign(element("map-bar"), { max: total, value: done });
    else element("map-bar").removeAttribute("value");
  }

  async load() {
    await this.more();
    this.progress("");
    this.plot.resize();
    this.plot.whole();
    await this.colour();
    this.focus();
  }

  /** Fetch the points that are not here yet. */
  async more() {
    const { plot } = this;
    const { rows, places, total } = await get("/api/map/points", { start: plot.count });
    plot.add(new Uint32Array(bytes(rows)), new Uint16Array(bytes(places)));
    this.total = total;
  }

  /** Ask how the points stand now, and colour them. */
  async ask() {
    const { label } = this.session;
    if (!this.plot.count) return;
    try {
      const { states, count } = await get("/api/map/states", { label });
      if (count > this.plot.count) await this.more();
      if (label !== this.session.label) return;
      this.plot.states = Uint8Array.from(states, Number);
    } catch (error) {
      return void this.session.tell("offline", error.message);
    }
    this.tell();
    this.plot.redraw();
  }

  /** What was just answered is shown before the server says so. */
  mark(answers) {
    for (const { row, verdict } of answers) {
      const [i, kind] = [this.plot.rows.indexOf(row), KINDS.findIndex(({ name }) => name === verdict)];
      if (i >= 0 && kind >= 0) this.plot.states[i] = kind;
    }
    this.tell();
    this.plot.redraw();
  }

  fillLegend() {
    const items = KINDS.map((kind, k) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet small";
      button.title = "Go to the next one, farther on";
      button.addEventListener("click", () => this.next(k));
      const sign = document.createElement("canvas");
      sign.setAttribute("aria-hidden", "true");
      const count = document.createElement("b");
      button.append(sign, ` ${WORDS[k]} `, count);
      item.append(button);
      return item;
    });
    element("legend").replaceChildren(...items.toReversed());
    this.signs = items;
  }

  tell() {
    const { plot, total } = this;
    if (total === undefined) return; // nothing is laid out yet
    const style = getComputedStyle(this.box);
    const counts = KINDS.map(() => 0);
    for (const state of plot.states) counts[state]++;
    for (const [k, item] of this.signs.entries()) {
      item.querySelector("b").textContent = number.format(counts[k]);
      const sign = item.querySelector("canvas");
      sign.width = sign.height = 32;
      const pen = sign.getContext("2d");
      pen.translate(16, 16);
      drawPoint(pen, KINDS[k], k ? 8 + KINDS[k].least : 8, style.getPropertyValue(KINDS[k].colour), "transparent");
    }
    const all = plot.count < total ? `${number.format(plot.count)} of ${number.format(total)}` : number.format(total);
    element("map-title-count").textContent = `${all} images`;
    this.box.dataset.states = counts.join(" ");
    const words = counts.map((count, k) => `${number.format(count)} ${WORDS[k].toLowerCase()}`).toReversed();
    this.box.setAttribute("aria-label", `Map of ${all} images: ${words.join(", ")}`);
  }

  outline(corners) {
    this.plot.lasso = corners;
    this.plot.redraw();
  }

  setLasso(on) {
    this.gestures.drawing = on;
    element("map-lasso").setAttribute("aria-pressed", String(on));
    this.box.classList.toggle("lasso", on);
  }

  /** Look through `points`: those of which nothing is known first, the likeliest before others, neighbours together. */
  chosen(points) {
    this.setLasso(false);
    if (!points.length) return this.session.say("No image is inside the line.");
    const first = KINDS.findIndex(({ name }) => name === "no");
    const turn = (i) => (this.plot.states[i] < first ? -this.plot.states[i] : 1);
    const place = new Map(points.map((i) => [i, this.plot.along(i)]));
    const order = points.toSorted((i, j) => turn(i) - turn(j) || place.get(i) - place.get(j));
    if (order.length > Number(element("count").value)) this.session.say(`${number.format(order.length)} images, a page at a time.`);
    return this.choose(order.map((i) => this.plot.rows[i]));
  }

  openNear() {
    if (this.plot.cursor < 0) this.move(this.middle());
    this.choose(this.plot.around(this.plot.cursor, Number(element("count").value)).map((i) => this.plot.rows[i]));
  }

  middle() {
    const { width, height } = this.plot.size;
    return this.plot.at(width / 2, height / 2, Infinity);
  }

  tap(x, y, reach) {
    const i = this.plot.at(x, y, reach);
    this.focus();
    if (i < 0) return undefined;
    this.move(i);
    return this.zoom(i);
  }

  /** Go to the next point of kind `k`, in the order of the map, that is not beside the cursor: on another island. */
  next(k) {
    const { plot } = this;
    const { cursor } = plot;
    const far = (i) => cursor < 0 || Math.hypot(plot.x(i) - plot.x(cursor), plot.y(i) - plot.y(cursor)) > ISLAND;
    const place = new Map();
    for (let i = 0; i < plot.count; i++) if (plot.states[i] === k) place.set(i, plot.along(i));
    const order = [...place.keys()].sort((i, j) => place.get(i) - place.get(j));
    const from = cursor < 0 ? -1 : plot.along(cursor);
    this.move(order.find((i) => place.get(i) > from && far(i)) ?? order.find(far) ?? order[0] ?? -1);
  }

  async hover(x, y) {
    const tip = element("map-tip");
    const i = x === undefined ? -1 : this.plot.at(x, y, REACH);
    const row = this.plot.rows[i];
    if (this.hovered === row) return;
    this.hovered = row;
    tip.hidden = i < 0;
    if (i < 0) return;
    const [left, top] = [this.plot.x(i), this.plot.y(i)];
    const { width, height } = this.plot.size;
    tip.dataset.side = `${top > height / 2 ? "above" : "below"} ${left > width / 2 ? "left" : "right"}`;
    tip.style.setProperty("--x", `${left}px`);
    tip.style.setProperty("--y", `${top}px`);
    tip.replaceChildren(tinyOf(pictureOf(row, "thumb"), ""), WORDS[this.plot.states[i]]);
  }

  /** Put the cursor on point `i`. */
  async move(i) {
    if (i < 0) return;
    this.plot.cursor = i;
    this.plot.reveal(i);
    this.plot.redraw();
    const row = this.plot.rows[i];
    this.box.dataset.at = row;
    const [image] = await this.asked([row]);
    if (image && this.plot.cursor === i)
      element("map-about").textContent = `${isolated(image.id)}: ${WORDS[this.plot.states[i]].toLowerCase()}. ${isolated(image.why)}`;
  }

  async asked(rows) {
    try {
      return (await get("/api/images", { label: this.session.label, rows: rows.join(",") })).images;
    } catch (error) {
      this.session.say(`The images cannot be listed: ${error.message}`);
      return [];
    }
  }

  /** Show point `i` large; from there one steps on to those that are nearest to it. */
  async zoom(i) {
    const images = await this.asked(this.plot.around(i, NEAR).map((j) => this.plot.rows[j]));
    if (!images.length || !this.active) return;
    const items = images.map((image) => ({
      address: pictureOf(image.row, "large"),
      id: image.id,
      verdict: image.verdict,
      about: isolated(image.why),
      row: image.row,
    }));
    this.viewer.open(items, 0, {
      answer: (shown, verdict) => {
        this.answer(shown, verdict);
        return true;
      },
      exemplar: (shown, which) => this.exemplar(shown.row, shown.id, which),
    });
  }

  async answer(shown, verdict) {
    if (this.session.outbox.full) return;
    const { label } = this.session;
    const answers = [{ row: shown.row, label, verdict }];
    const text = `${verdict}, about ${isolated(shown.id)}`;
    if (await this.session.answer({ kind: "other", label, answers, text })) shown.verdict = verdict;
  }

  /** True when the key was for the map. */
  key(event) {
    const pressed = event.target.closest("button, a, select") && ["Enter", " "].includes(event.key);
    if (!this.plot.count || pressed) return false;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { cursor } = this.plot;
    this.hover();
    const key = event.key.length > 1 ? event.key : event.key.toLowerCase();
    if (key in ways) this.move(cursor < 0 ? this.middle() : this.plot.beside(cursor, ...ways[key]));
    else if (key === "+" || key === "=") this.near(STEP);
    else if (key === "-") this.near(1 / STEP);
    else if (key === "0") this.plot.whole();
    else if (key === "s") this.setLasso(!this.gestures.drawing);
    else if (key === "Enter") this.openNear();
    else if (key === " ") this.zoom(cursor < 0 ? this.middle() : cursor);
    else return false;
    return true;
  }

  /** Zoom at the cursor. */
  near(factor) {
    const { plot } = this;
    if (plot.cursor < 0) plot.zoom(factor);
    else plot.zoom(factor, plot.x(plot.cursor), plot.y(plot.cursor));
  }
}

function bytes(text) {
  return Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer;
}
