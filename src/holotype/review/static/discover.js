// What else is among none: looked for, and then communities of images, each with the command that makes it a class.

import { Following } from "./following.js";
import { stripOf } from "./pictures.js";
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

function boxOf(found, place) {
  const box = document.createElement("section");
  box.className = "change";
  const title = document.createElement("h3");
  title.textContent = `${place + 1}: ${found.said}`;
  const words = document.createElement("code");
  words.textContent = found.command;
  words.tabIndex = 0;
  box.append(title, stripOf(found, `The first images of community ${place + 1}`), words);
  return box;
}
