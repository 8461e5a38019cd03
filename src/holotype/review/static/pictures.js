// Pictures of the pool: fetched and decoded ahead, and known to be on the screen before they are asked about.

import { isolated } from "./names.js";
import { get, pause, Unreachable } from "./server.js";

const { nonce } = document.body.dataset;
const AGAIN = 1000; // milliseconds until a picture is asked for again
const number = new Intl.NumberFormat("en");

export const pictureOf = (row, size) => `/image/${row}/${size}?v=${nonce}`;

export function exemplarOf(exemplar, size) {
  if (exemplar.row !== null) return pictureOf(exemplar.row, size);
  return `/exemplar/${exemplar.number}/${size}?v=${nonce}&name=${encodeURIComponent(exemplar.name)}`;
}

/** Resolves when what was just put into the page has been painted. */
export const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

export function tinyOf(address, alt) {
  const image = new Image();
  image.alt = alt;
  image.loading = "lazy";
  image.src = address;
  return image;
}

/** A line of tiny pictures behind `title`: the first of `count` images, and how many more there are. */
export function stripOf({ count, images }, label, title = "") {
  const line = document.createElement("div");
  line.className = "strip";
  line.setAttribute("role", "group");
  line.setAttribute("aria-label", label);
  if (title) line.append(spanOf(title));
  for (const { row, id } of images) {
    const image = tinyOf(pictureOf(row, "thumb"), isolated(id));
    image.title = id;
    image.className = "tiny";
    line.append(image);
  }
  if (count > images.length) line.append(spanOf(`and ${number.format(count - images.length)} more`));
  return line;
}

const spanOf = (text) => Object.assign(document.createElement("span"), { textContent: text });

/** One picture; `ready` resolves when it is decoded, and rejects with the reason when it cannot be. */
export class Picture {
  constructor(address, alt) {
    this.address = address;
    this.image = new Image();
    this.image.alt = alt;
    this.image.decoding = "sync"; // decoded already, so it is painted with the frame that shows it
    this.ready = this.load();
    this.ready.catch(() => {}); // whoever shows it asks
  }

  async load() {
    for (let attempt = 0; ; attempt++) {
      this.image.src = attempt ? `${this.address}&attempt=${attempt}` : this.address;
      try {
        await this.image.decode();
        return;
      } catch {
        await this.explain();
      }
      await pause(AGAIN);
    }
  }

  /** Throws what the server says of the picture; returns when the server cannot be reached. */
  async explain() {
    try {
      await get(this.address);
    } catch (error) {
      if (error instanceof Unreachable) return;
      throw error;
    }
    throw new Error("the browser cannot show it");
  }
}
