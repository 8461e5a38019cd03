// One of the classes, as somebody chooses it.

import { isolated } from "./names.js";

const element = (id) => document.getElementById(id);

/** Ask which of `labels` is meant, with the pointer or its number; null where none is. */
export function chooseClass(labels) {
  const dialog = element("choose");
  return new Promise((resolve) => {
    let chosen = null;
    const buttons = labels.map((label, k) => {
      const button = document.createElement("button");
      button.type = "button";
      if (k < 9) {
        const key = document.createElement("kbd");
        key.textContent = k + 1;
        button.append(key, " ");
      }
      button.append(isolated(label));
      button.addEventListener("click", () => {
        chosen = label;
        dialog.close();
      });
      return button;
    });
    element("choices").replaceChildren(...buttons);
    const press = (event) => {
      if (/^[1-9]$/.test(event.key) && !event.repeat) buttons[event.key - 1]?.click();
    };
    dialog.addEventListener("keydown", press);
    dialog.addEventListener(
      "close",
      () => {
        dialog.removeEventListener("keydown", press);
        resolve(chosen);
      },
      { once: true },
    );
    dialog.showModal();
  });
}
