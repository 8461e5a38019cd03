// Pictures of the pool: fetched and decoded ahead, and known to be on the screen before they are asked about.

import { get, pause, Unreachable } from "./server.js";

const { nonce } = document.body.dataset;
const AGAIN = 1000; // milliseconds until a picture is asked for again

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
