// The menu of the header: what one seldom needs, and on a small screen all but the views.

const element = (id) => document.getElementById(id);

export class Menu {
  constructor() {
    this.button = element("menu-open");
    this.box = element("menu");
    this.button.addEventListener("click", () => this.show(!this.open));
    document.addEventListener("click", (event) => {
      if (this.open && !this.button.contains(event.target)) this.show(false);
    });
    this.box.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget && !this.box.contains(relatedTarget) && relatedTarget !== this.button) this.show(false);
    });
  }

  get open() {
    return this.button.getAttribute("aria-expanded") === "true";
  }

  show(open) {
    this.button.setAttribute("aria-expanded", String(open));
    this.box.classList.toggle("open", open);
  }

  /** Close it, and go on from its button. */
  close() {
    this.show(false);
    this.button.focus();
  }
}
