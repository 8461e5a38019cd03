// What the server does behind the page: how far it is, in words and on a bar, until it is at an end.

import { get, pause, Refused } from "./server.js";

const LOOK = 300; // milliseconds between two looks
const element = (id) => document.getElementById(id);

export class Following {
  /** `address` says how far it is; `name` begins the ids of the line and of the bar that show it. */
  constructor(address, name) {
    this.address = address;
    this.stage = element(`${name}-stage`);
    this.bar = element(`${name}-bar`);
  }

  /** Say what is going on; how far, where that is known. */
  tell({ stage, done = 0, total = 0 }) {
    const text = stage || "Starting";
    if (this.stage.textContent !== text) this.stage.textContent = text;
    if (total) Object.assign(this.bar, { max: total, value: done });
    else this.bar.removeAttribute("value");
  }

  /** What there is to say of it once it does not run; `running` is called whenever it is seen to run. Throws `Refused`. */
  async end(running = () => {}) {
    for (;;) {
      try {
        const now = await get(this.address);
        if (now.state !== "running") return now;
        running();
        this.tell(now);
      } catch (error) {
        if (error instanceof Refused) throw error;
        this.tell({ stage: error.message });
      }
      await pause(LOOK);
    }
  }
}
