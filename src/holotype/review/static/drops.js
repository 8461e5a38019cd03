// Pictures from outside: a file that is dropped on the page, pasted, or chosen.

const MOST = Number(document.body.dataset.most); // bytes
const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export class Drops {
  /** `taken` is given a file, `say` what is wrong with what came. */
  constructor(taken, say) {
    this.taken = taken;
    this.say = say;
    this.own = false; // an image of the page is dragged: a browser may offer that as a file too
    document.addEventListener("dragstart", (event) => {
      this.own = !event.defaultPrevented;
    });
    document.addEventListener("dragend", () => {
      this.own = false;
    });
    for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => this.over(event));
    document.addEventListener("dragleave", (event) => event.relatedTarget || this.show(false));
    document.addEventListener("drop", (event) => this.drop(event));
    document.addEventListener("paste", (event) => this.paste(event));
    const chooser = element("picture-file");
    chooser.addEventListener("change", () => {
      this.take(chooser.files);
      chooser.value = ""; // so that the same one can be chosen again
    });
    element("search-open").addEventListener("click", () => this.choose());
  }

  choose() {
    element("picture-file").click();
  }

  fromOutside(event) {
    return !this.own && event.dataTransfer.types.includes("Files");
  }

  show(over) {
    if (over) document.body.dataset.dropping = true;
    else delete document.body.dataset.dropping;
  }

  over(event) {
    if (!this.fromOutside(event)) return;
    event.preventDefault();
    const blocked = document.querySelector("dialog[open]");
    event.dataTransfer.dropEffect = blocked ? "none" : "copy";
    this.show(!blocked);
  }

  drop(event) {
    this.show(false);
    if (!this.fromOutside(event)) return;
    event.preventDefault(); // or the browser would leave the page for the file
    if (document.querySelector("dialog[open]")) return;
    this.take(event.dataTransfer.files);
  }

  paste(event) {
    if (document.querySelector("dialog[open]")) return;
    const { files } = event.clipboardData;
    if (files.length) {
      event.preventDefault();
      this.take(files);
    } else if (!event.target.closest?.("input")) {
      this.say("There is no picture on the clipboard.");
    }
  }

  take(files) {
    const [file] = files;
    if (!file) return undefined;
    if (!file.size) return this.say(`${file.name} is empty, or a folder: expected a picture.`);
    if (file.size > MOST) {
      const sizes = `${number.format(file.size / 2 ** 20)} MB, expected at most ${number.format(MOST / 2 ** 20)} MB`;
      return this.say(`${file.name} is too large: ${sizes}.`);
    }
    if (files.length > 1) this.say(`${file.name} is searched for, the first of ${files.length} files.`);
    return this.taken(file);
  }
}
