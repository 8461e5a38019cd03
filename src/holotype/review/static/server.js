// What is asked of the server, and what waits to be saved there.

const LIMIT = 5; // answers that may wait
const FIRST_PAUSE = 400; // milliseconds
const LONGEST_PAUSE = 4000;

/** The server said no; asking again would not help. */
export class Refused extends Error {}

/** The server could not be reached, could not do it now, or was started anew and wants the address with its key. */
export class Unreachable extends Error {}

export function get(path, values = {}) {
  const query = new URLSearchParams(values).toString();
  return ask(query ? `${path}?${query}` : path, { method: "GET" });
}

export function post(path, body) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** Send the bytes of a file. */
export function send(address, file) {
  return ask(address, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
}

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Unreachable("the server cannot be reached (is holotype review still running?)");
  }
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  const why = content.error ?? `the server answered with status ${answer.status}`;
  throw answer.status >= 500 || [401, 408].includes(answer.status) ? new Unreachable(why) : new Refused(why);
}

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Of calls that come while `action` runs, one more run is made behind it. */
export function coalesced(action) {
  let running = null;
  let next = null;
  const run = () => {
    running = action().finally(() => {
      running = null;
    });
    return running;
  };
  return () => {
    if (!running) return run();
    next ??= running
      .catch(() => {})
      .then(() => {
        next = null;
        return run();
      });
    return next;
  };
}

/** Acts that wait to be saved, in order; each is sent until the server took or refused it. */
export class Outbox {
  constructor(changed) {
    this.waiting = [];
    this.trouble = "";
    this.changed = changed;
    this.working = false;
  }

  get full() {
    return this.waiting.length >= LIMIT;
  }

  /** Resolves when the server has it; rejects with `Refused`. */
  add(act, path, body) {
    return new Promise((saved, refused) => {
      this.waiting.push({ act, path, body, saved, refused });
      this.work();
    });
  }

  async work() {
    if (this.working) return;
    this.working = true;
    let wait = FIRST_PAUSE;
    while (this.waiting.length) {
      const item = this.waiting[0];
      try {
        const answer = await post(item.path, item.body);
        this.waiting.shift();
        item.saved(answer);
      } catch (error) {
        if (error instanceof Refused) {
          this.drop(item.act, error);
        } else {
          this.trouble = error.message;
          this.changed();
          await pause(wait);
          wait = Math.min(2 * wait, LONGEST_PAUSE);
          continue;
        }
      }
      wait = FIRST_PAUSE;
      this.trouble = "";
      this.changed();
    }
    this.working = false;
  }

  /** An act that was refused takes its undo along. */
  drop(act, error) {
    const dropped = this.waiting.filter((item) => item.act === act);
    this.waiting = this.waiting.filter((item) => item.act !== act);
    for (const item of dropped) item.refused(error);
  }
}
