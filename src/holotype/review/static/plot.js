// Points on a canvas: what is where on the screen, in which colour and shape, and which have room for their picture.

import { pictureOf } from "./pictures.js";

const SPAN = 65535; // places are whole numbers from 0 to here
const MARGIN = 24; // pixels around the whole map
const [OUT, IN] = [0.8, 400]; // how far one zooms, of the whole map
const PICTURED = 400; // places in view up to which pictures are drawn where they fit ...
const FIELD = 100; // ... and with more, one picture in each square of at least so many pixels
const PLACE = 8; // pixels of a place
const SIDE = 52; // pixels of a picture
const KEPT = 900; // pictures
const AT_ONCE = 6; // pictures that are fetched
const GROWTH = 3; // how much larger a point is at most, from close by
const SQUARE = 2; // pixels below which nobody sees that a point is round, and a square is drawn ten times as fast

/** What a point is, the least first: its name, colour and shape, and how many pixels it has at the least, half its width. */
export const KINDS = [
  { name: "rejected", colour: "--map-rejected", least: 1.5, shape: "dot" },
  { name: "doubtful", colour: "--map-doubtful", least: 4, shape: "ring" },
  { name: "found", colour: "--map-found", least: 4, shape: "dot" },
  { name: "no", colour: "--map-no", least: 5.5, shape: "cross" },
  { name: "unsure", colour: "--map-unsure", least: 5.5, shape: "square" },
  { name: "yes", colour: "--map-yes", least: 6, shape: "triangle" },
  { name: "exemplar", colour: "--ink", least: 8, shape: "star" },
];

const SHAPES = {
  dot: (pen, r) => pen.arc(0, 0, r, 0, 2 * Math.PI),
  ring: (pen, r) => pen.arc(0, 0, r, 0, 2 * Math.PI),
  square: (pen, r) => pen.rect(-0.8 * r, -0.8 * r, 1.6 * r, 1.6 * r),
  triangle: (pen, r) => polygon(pen, [0, 1, 2].map((k) => [r * 1.1, (2 * k) / 3])),
  star: (pen, r) => polygon(pen, [...Array(10).keys()].map((k) => [k % 2 ? 0.45 * r : r, k / 5])),
  cross: (pen, r) => {
    for (const turn of [-1, 1]) {
      pen.moveTo(-0.8 * r, -0.8 * r * turn);
      pen.lineTo(0.8 * r, 0.8 * r * turn);
    }
  },
};

/** `corners`: distance and half turns from the top. */
function polygon(pen, corners) {
  for (const [k, [r, turn]] of corners.entries()) {
    const angle = (turn - 0.5) * Math.PI;
    pen[k ? "lineTo" : "moveTo"](r * Math.cos(angle), r * Math.sin(angle));
  }
  pen.closePath();
}

/** Draw a point of `kind` at the pen's place, `r` pixels from its middle to its edge. */
export function drawPoint(pen, kind, r, colour, paper) {
  const line = kind.shape === "ring" || kind.shape === "cross";
  pen.beginPath();
  SHAPES[kind.shape](pen, line ? r - Math.max(0.8, 0.2 * r) : r);
  pen.lineWidth = line ? Math.max(2, 0.4 * r) : 2.5;
  pen.strokeStyle = line ? colour : paper;
  pen.fillStyle = colour;
  if (line || kind.shape !== "dot") pen.stroke();
  if (!line) pen.fill();
}

export class Plot {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.size = { width: 0, height: 0 }; // of the canvas, as the page counts pixels
    this.rows = new Uint32Array();
    this.places = new Uint16Array(); // x and y in turn
    this.states = new Uint8Array();
    this.cursor = -1;
    this.lasso = [];
    this.pictured = new Set(); // points that are drawn as their picture
    this.pictures = new Map(); // row -> its picture, the last that was drawn last
    this.loading = 0;
    this.view = null;
    this.due = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  get count() {
    return this.rows.length;
  }

  add(rows, places) {
    this.rows = joined(this.rows, rows);
    this.places = joined(this.places, places);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.size = { width, height };
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.ratio = ratio;
    if (!this.moved) this.whole();
    this.redraw();
  }

  /** Show all of the map. */
  whole() {
    const { width, height } = this.size;
    const [right, bottom] = [this.greatest(0), this.greatest(1)];
    const scale = Math.min((width - 2 * MARGIN) / right, (height - 2 * MARGIN) / bottom);
    if (!(scale > 0)) return;
    this.moved = false;
    this.first = scale;
    this.view = { x: right / 2, y: bottom / 2, scale };
    this.redraw();
  }

  greatest(axis) {
    let most = 1;
    for (let i = axis; i < this.places.length; i += 2) most = Math.max(most, this.places[i]);
    return Math.min(most, SPAN);
  }

  x(i) {
    return (this.places[2 * i] - this.view.x) * this.view.scale + this.size.width / 2;
  }

  y(i) {
    return (this.places[2 * i + 1] - this.view.y) * this.view.scale + this.size.height / 2;
  }

  pan(dx, dy) {
    if (!this.view) return;
    this.moved = true;
    this.view.x -= dx / this.view.scale;
    this.view.y -= dy / this.view.scale;
    this.redraw();
  }

  /** Zoom by `factor`, so that what is at the pixels `x`, `y` stays there. */
  zoom(factor, x = this.size.width / 2, y = this.size.height / 2) {
    if (!this.view) return;
    const { width, height } = this.size;
    const scale = Math.min(Math.max(this.view.scale * factor, this.first * OUT), this.first * IN);
    const change = 1 / this.view.scale - 1 / scale;
    this.view.x += (x - width / 2) * change;
    this.view.y += (y - height / 2) * change;
    this.view.scale = scale;
    this.moved = true;
    this.redraw();
  }

  /** Have point `i` in view, not at the edge. */
  reveal(i) {
    const { width, height } = this.size;
    const room = Math.min(60, width / 4, height / 4);
    const over = (at, end) => Math.min(at - room, 0) + Math.max(at - end + room, 0);
    const [dx, dy] = [over(this.x(i), width), over(this.y(i), height)];
    if (dx || dy) this.pan(-dx, -dy);
  }

  /** The point whose picture is at the pixels, or that is nearest, at most `reach` from there; -1 where there is none. */
  at(x, y, reach) {
    const apart = (i) => [Math.abs(this.x(i) - x), Math.abs(this.y(i) - y)];
    for (const i of this.pictured) if (Math.max(...apart(i)) <= SIDE / 2) return i;
    let [best, least] = [-1, reach];
    for (let i = 0; i < this.count; i++) {
      const far = Math.hypot(...apart(i));
      if (far < least) [best, least] = [i, far];
    }
    return best;
  }

  /** The `count` points nearest to point `i` on the map, itself first. */
  around(i, count) {
    const apart = (j) => (this.places[2 * j] - this.places[2 * i]) ** 2 + (this.places[2 * j + 1] - this.places[2 * i + 1]) ** 2;
    const all = [...this.rows.keys()].map((j) => [j === i ? -1 : apart(j), j]);
    return all.sort((one, other) => one[0] - other[0]).slice(0, count).map(([, j]) => j);
  }

  /** The nearest point to the left, right, above or below point `i`; itself where there is none. */
  beside(i, dx, dy) {
    let [best, least] = [i, Infinity];
    for (let j = 0; j < this.count; j++) {
      const [x, y] = [this.places[2 * j] - this.places[2 * i], this.places[2 * j + 1] - this.places[2 * i + 1]];
      const [along, aside] = [x * dx + y * dy, Math.abs(x * dy + y * dx)];
      if (along > 0 && aside <= along && along + aside < least) [best, least] = [j, along + aside];
    }
    return best;
  }

  /** How far along a curve that fills the map (Hilbert's) point `i` lies: what is near on it is near on the map. */
  along(i) {
    let [x, y, far] = [this.places[2 * i], this.places[2 * i + 1], 0];
    for (let side = (SPAN + 1) / 2; side >= 1; side /= 2) {
      const [right, below] = [x & side ? 1 : 0, y & side ? 1 : 0];
      far = 4 * far + ((3 * right) ^ below);
      if (below) continue;
      if (right) [x, y] = [SPAN - x, SPAN - y];
      [x, y] = [y, x];
    }
    return far;
  }

  /** The points inside the outline `corners`, [x, y] in pixels. */
  inside(corners) {
    const found = [];
    for (let i = 0; i < this.count; i++) if (encloses(corners, this.x(i), this.y(i))) found.push(i);
    return found;
  }

  /** Points in view, what matters most last: as they are drawn. */
  get inView() {
    const { width, height } = this.size;
    const found = KINDS.map(() => []);
    for (let i = 0; i < this.count; i++) {
      const [x, y] = [this.x(i), this.y(i)];
      if (x > -SIDE && y > -SIDE && x < width + SIDE && y < height + SIDE) found[this.states[i] ?? 0].push(i);
    }
    return found.flat();
  }

  redraw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.draw();
    });
  }

  draw() {
    const { pen } = this;
    const { width, height } = this.size;
    if (!width || !this.view) return;
    const style = getComputedStyle(this.canvas);
    const colours = KINDS.map((kind) => style.getPropertyValue(kind.colour).trim());
    const paper = style.getPropertyValue("--paper").trim();
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const points = this.inView;
    const growth = Math.min(Math.max(Math.sqrt(this.view.scale / this.first), 1), GROWTH);
    const r = KINDS[0].least * growth;
    const stamps = KINDS.map((kind, k) => this.stamp(kind, k ? kind.least * Math.sqrt(growth) : r, colours[k], paper));
    this.pictured = this.placePictures(points);
    pen.fillStyle = colours[0];
    for (const i of points) {
      if (this.pictured.has(i)) continue;
      if (r < SQUARE && !this.states[i]) {
        pen.fillRect(this.x(i) - r, this.y(i) - r, 2 * r, 2 * r);
        continue;
      }
      const { image, half } = stamps[this.states[i] ?? 0];
      pen.drawImage(image, this.x(i) - half, this.y(i) - half, 2 * half, 2 * half);
    }
    for (const i of this.pictured) this.drawPicture(i, colours, paper);
    this.drawCursor(style.getPropertyValue("--accent").trim());
    this.drawLasso(style.getPropertyValue("--accent").trim());
    this.canvas.dataset.drawn = points.length;
    this.canvas.dataset.pictures = [...this.pictured].filter((i) => this.pictures.get(this.rows[i])?.complete).length;
  }

  /** A point, drawn once to be stamped many times. */
  stamp(kind, r, colour, paper) {
    const half = Math.ceil(1.1 * r) + 2;
    const image = document.createElement("canvas");
    image.width = image.height = 2 * half * this.ratio;
    const pen = image.getContext("2d");
    pen.scale(this.ratio, this.ratio);
    pen.translate(half, half);
    drawPoint(pen, kind, r, colour, paper);
    return { image, half };
  }

  /** Those of `points` that have room for their picture: the cursor first, then what matters most. */
  placePictures(points) {
    const found = new Set();
    const places = points.map((i) => `${Math.round(this.x(i) / PLACE)} ${Math.round(this.y(i) / PLACE)}`);
    const many = new Set(places).size > PICTURED;
    const first = many ? this.landmarks(points) : points.toReversed();
    const order = [...(points.includes(this.cursor) ? [this.cursor] : []), ...first];
    const taken = [];
    for (const i of order) {
      const [x, y] = [this.x(i), this.y(i)];
      if (taken.some(([u, v]) => Math.abs(u - x) < SIDE && Math.abs(v - y) < SIDE)) continue;
      taken.push([x, y]);
      found.add(i);
    }
    return found;
  }

  /** Of each square of the map the point that matters most: the same ones while one moves, others from closer by. */
  landmarks(points) {
    const side = 2 ** Math.ceil(Math.log2(FIELD / this.view.scale));
    const best = new Map();
    for (const i of points) {
      const square = `${Math.floor(this.places[2 * i] / side)} ${Math.floor(this.places[2 * i + 1] / side)}`;
      best.delete(square); // the last of all has the last point
      best.set(square, i);
    }
    return [...best.values()].toReversed();
  }

  drawPicture(i, colours, paper) {
    const { pen } = this;
    const picture = this.picture(this.rows[i]);
    const [x, y, inner] = [this.x(i), this.y(i), SIDE - 10];
    const state = this.states[i] ?? 0;
    pen.fillStyle = paper;
    pen.strokeStyle = colours[state];
    pen.lineWidth = state ? 3 : 1;
    pen.beginPath();
    pen.roundRect(x - SIDE / 2 + 2, y - SIDE / 2 + 2, SIDE - 4, SIDE - 4, 5);
    pen.fill();
    pen.stroke();
    if (picture?.complete && picture.naturalWidth) {
      const shrink = inner / Math.max(picture.naturalWidth, picture.naturalHeight);
      const [width, height] = [picture.naturalWidth * shrink, picture.naturalHeight * shrink];
      pen.drawImage(picture, x - width / 2, y - height / 2, width, height);
    }
    if (!state) return;
    pen.save();
    pen.translate(x + SIDE / 2 - 6, y - SIDE / 2 + 6);
    drawPoint(pen, KINDS[state], 6, colours[state], paper);
    pen.restore();
  }

  /** The picture of `row`, where it is there; else it comes, and is drawn then. */
  picture(row) {
    const known = this.pictures.get(row);
    if (known) {
      this.pictures.delete(row);
      this.pictures.set(row, known);
      return known;
    }
    if (this.loading >= AT_ONCE) return null;
    const image = new Image();
    this.loading++;
    image.onload = image.onerror = () => {
      this.loading--;
      this.redraw();
    };
    image.src = pictureOf(row, "thumb");
    this.pictures.set(row, image);
    if (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
    return image;
  }

  drawCursor(colour) {
    if (this.cursor < 0) return;
    const { pen } = this;
    const half = this.pictured.has(this.cursor) ? SIDE / 2 + 3 : 11;
    pen.strokeStyle = colour;
    pen.lineWidth = 3;
    pen.strokeRect(this.x(this.cursor) - half, this.y(this.cursor) - half, 2 * half, 2 * half);
  }

  drawLasso(colour) {
    if (this.lasso.length < 2) return;
    const { pen } = this;
    pen.beginPath();
    for (const [x, y] of this.lasso) pen.lineTo(x, y);
    pen.closePath();
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 2;
    pen.stroke();
    pen.globalAlpha = 0.12;
    pen.fill();
    pen.globalAlpha = 1;
  }
}

function joined(one, other) {
  const both = new one.constructor(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

/** Whether the outline `corners` goes around x, y. */
function encloses(corners, x, y) {
  let within = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [[ax, ay], [bx, by]] = [corners[i], corners[j]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
  }
  return within;
}
