// What else is among none: looked for, and then communities of images, each with the command that makes it a class.

import { Following } from "./following.js";
import { isolated } from "./names.js";
import { pictureOf, tinyOf } from "./pictures.js";
import { post } from "./server.js";

const element = (id) => document.getElementById(id);

export class Discover {
  constructor(session) {
    this.session = session;
    this.dialog = element("discover");
    this.following = new Following("/api/discover", "discover");
    element("discover-open").addEventListener("click", () => this.open());
    element("discover-start").addEventListener("click", () => this.start());
    element("discover-again").addEventListener("click", () => this.start());
    for (const button of this.dialog.querySelectorAll(".close"))
      button.addEventListener("click", () => this.dialog.close());
  }

  open() {
    this.dialog.showModal();
    return this.watch();
  }

  turn(part) {
    for (const one of ["ask", "run", "end"]) element(`discover-${one}`).hidden = one !== part;
    this.dialog.querySelector(`#discover-${part} button`)?.focus();
  }

  async start() {
    try {
      await post("/api/discover", {});
    } catch (error) {
      return this.session.say(`Not looked for: ${error.message}`);
    }
    return this.watch();
  }

  /** Show how far it is until it is at an end, and what was found. */
  async watch() {
    try {
      const now = await this.following.end(() => {
        if (element("discover-run").hidden) this.turn("run");
      });
      if (now.state === "never") this.turn("ask");
      else this.end(now);
    } catch (error) {
      this.session.say(error.message);
    }
  }

  end({ state, message, communities }) {
    const failed = state === "failed";
    element("discover-verdict").textContent = failed ? `It failed: ${message}` : message;
    element("discover-verdict").classList.toggle("bad", failed);
    element("discover-list").replaceChildren(...communities.map(boxOf));
    this.turn("end");
  }
}

function boxOf({ said, count, images, command }, place) {
  const box = document.createElement("section");
  box.className = "change";
  const title = document.createElement("h3");
  title.textContent = `${place + 1}: ${said}`;
  const strip = document.createElement("div");
  strip.className = "strip";
  strip.setAttribute("role", "group");
  strip.setAttribute("aria-label", `The first images of community ${place + 1}`);
  for (const { row, id } of images) {
    const image = tinyOf(pictureOf(row, "thumb"), isolated(id));
    image.title = id;
    image.className = "tiny";
    strip.append(image);
  }
  if (count > images.length) {
    const more = document.createElement("span");
    more.textContent = `and ${count - images.length} more`;
    strip.append(more);
  }
  const words = document.createElement("code");
  words.textContent = command;
  words.tabIndex = 0;
  box.append(title, strip, words);
  return box;
}
