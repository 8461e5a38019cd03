// The page: which view is on the screen, the keys, the notices.

import { Applying } from "./applying.js";
import { Certify, Sample } from "./certify.js";
import { Discover } from "./discover.js";
import { chooseClass } from "./choose.js";
import { AtlasView } from "./map.js";
import { Around } from "./around.js";
import { Drops } from "./drops.js";
import { isolated } from "./names.js";
import { Session } from "./session.js";
import { Described } from "./described.js";
import { draggable, droppable, Exemplars } from "./exemplars.js";
import { Gallery } from "./gallery.js";
import { Menu } from "./menu.js";
import { One } from "./one.js";
import { Pages } from "./pages.js";
import { pictureOf } from "./pictures.js";
import { get } from "./server.js";
import { Selected } from "./selected.js";
import { Sheet } from "./sheet.js";
import { StatusView } from "./status.js";
import { Viewer } from "./viewer.js";
import { Words } from "./words.js";

const LOOK = 3000; // milliseconds between two looks for what other tabs did
const STAY = 6000; // milliseconds of a notice
const element = (id) => document.getElementById(id);

const labels = JSON.parse(document.body.dataset.classes);
const tabs = [...document.querySelectorAll(".tab")];
const openers = [...document.querySelectorAll("header [data-mode]")];
const session = new Session(labels);
const viewer = new Viewer();
new Exemplars(session, viewer);
new StatusView(session, viewer, makeExemplar);
new Applying(session);
new Discover(session);
const menu = new Menu();
const sheet = new Sheet(zoomCells);
const views = {
  pages: new Pages(session, sheet),
  one: new One(session),
  gallery: new Gallery(session, viewer, makeExemplar),
  map: new AtlasView(session, viewer, openSelected, makeExemplar),
  selected: new Selected(session, sheet, () => openMode("map")),
  sample: new Sample(session, sheet, () => leaveSample(() => certify.next()), () => leaveSample(() => certify.open())),
  around: new Around(session, sheet, () => openMode(before)),
};
const words = new Words(session, (...search) => lookAround(views.around.words(...search)));
new Described(session, (text) => words.search(text));
const certify = new Certify(session, openSample);
let mode = "pages";
let before = mode; // the view that one looked around from

function openClass(number) {
  if (labels[number] === undefined || number === session.number) return;
  session.open(labels[number]);
}

function openMode(wanted) {
  if (wanted === mode) return;
  views[mode].leave?.();
  if (wanted === "around") before = mode;
  else views.around.forget();
  mode = wanted;
  place();
  views[mode].enter();
  const lost = document.activeElement.closest("[hidden]") ?? document.activeElement === document.body;
  if (lost && mode === "one") element("main").focus(); // so that Tab goes on from its start
  if (session.unlearnt) session.refit();
}

/** Look through `rows` that were chosen on the map. */
function openSelected(rows) {
  views.selected.choose(rows);
  openMode("selected");
}

/** Have images answered that were drawn at random. */
function openSample(label, images) {
  if (label !== session.label) session.open(label);
  if (!(mode === "sample" && views.sample.holds(label, images))) {
    views.sample.draw(images);
    if (mode === "sample") views.sample.enter();
    else openMode("sample");
  }
}

function leaveSample(then) {
  openMode("pages");
  then();
}

/** What does not depend on the server: the view, the names, the address that a reload comes back to. */
function place() {
  element("main").dataset.mode = mode;
  element("one").hidden = element("answers").hidden = mode !== "one";
  element("pages").hidden = !onSheet();
  element("sample-title").hidden = mode !== "sample";
  element("gallery").hidden = mode !== "gallery";
  element("map").hidden = mode !== "map";
  words.place(element(onSheet() ? "pages" : mode));
  for (const button of openers) button.setAttribute("aria-pressed", String(button.dataset.mode === base()));
  tabs.forEach((tab, k) => {
    if (k === session.number) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  });
  for (const one of document.querySelectorAll(".of-class")) one.textContent = session.label;
  history.replaceState(null, "", `#${new URLSearchParams({ class: session.label, mode: base() })}`);
}

/** The view that a button of the header opens. */
function base() {
  const from = mode === "around" ? before : mode;
  return { selected: "map", sample: "pages" }[from] ?? from;
}

/** Whether the view shows cells that can be marked. */
function onSheet() {
  return ["pages", "selected", "sample", "around"].includes(mode);
}

/** Look around an image, or search by a picture: at once where one can come back to. */
async function lookAround(step) {
  if (!(await step)) return;
  viewer.dialog.close();
  if (mode === "around") return views.around.enter();
  openMode("around");
}

function fillOthers() {
  const others = labels.map((label, k) => ({ label, k })).filter(({ label, k }) => label !== session.label && k < 9);
  const buttons = others.map(({ label, k }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.dataset.other = label;
    const key = document.createElement("kbd");
    key.textContent = k + 1;
    const name = document.createElement("span");
    name.dir = "auto";
    name.textContent = label;
    button.title = `No, it is ${isolated(label)}`;
    button.setAttribute("aria-label", `It is ${isolated(label)}`);
    button.append(name, " ", key);
    button.addEventListener("click", () => views.one.answer("no", label));
    keepFocus(button);
    return button;
  });
  element("others").replaceChildren(...buttons);
  element("others-title").hidden = !buttons.length;
}

/** A click with a pointer leaves the keys where they were: Space still shows the picture large. */
function keepFocus(button) {
  button.addEventListener("pointerdown", (event) => event.preventDefault());
  button.addEventListener("mousedown", (event) => event.preventDefault());
}

/** After a pointer pressed a button, or a dialog closed, the keys are for the page again: Enter submits it. */
function takeKeys() {
  if (onSheet() && !menu.open && !document.querySelector("dialog[open]")) sheet.take();
}

/** Both before a click does something, so that a dialog gives the keys back to the page, and after. */
function clicked(event) {
  const button = event.target.closest("button, a, summary");
  if (event.detail && button && !button.matches(".cell") && !event.target.closest("dialog")) takeKeys();
}

/** One at a time, over the header: it covers nothing of what is asked. */
function notice(text) {
  const line = document.createElement("p");
  line.textContent = text;
  element("notices").replaceChildren(line);
  setTimeout(() => line.remove(), STAY);
}

function tellUnsaved() {
  const { waiting, trouble } = session.outbox;
  const line = element("unsaved");
  line.hidden = !trouble;
  const count = waiting.length === 1 ? "1 answer is" : `${waiting.length} answers are`;
  const more = session.outbox.full ? " Answering waits until they are." : "";
  if (trouble) line.textContent = `${count} not saved yet: ${trouble}.${more}`;
}

/** Make the image `row` an exemplar of the class at hand, or of one that is asked for. */
async function makeExemplar(row, id, choose = false, wanted = null) {
  const label = wanted ?? (choose ? await chooseClass(labels) : session.label);
  if (label === null) return;
  const one = views.one;
  if (mode === "one" && one.card?.row === row && !viewer.dialog.open) return one.exemplar(label);
  const answers = [{ row, label, verdict: "exemplar" }];
  const [image, name] = [isolated(id), isolated(label)];
  const entry = { kind: "other", label, answers, text: `${image} as exemplar of ${name}`, learn: true };
  if (await session.answer(entry)) session.say(`${image} is an exemplar of ${name}.`);
}

/** What holds the image that a key is about: the cell or thumbnail in focus, or the question. */
function holderAt(target) {
  const holder = target.closest("[data-row]") ?? (mode === "one" ? element("question") : null);
  return holder?.dataset.row ? holder : null;
}

/** That image, once it is shown. */
function imageAt(target) {
  const holder = holderAt(target);
  const shown = holder?.querySelector("img");
  if (!shown?.complete || !shown.naturalWidth) return null;
  return { row: Number(holder.dataset.row), id: holder.dataset.id };
}

function zoom(target) {
  const image = imageAt(target);
  if (!image) return;
  if (mode === "one" && image.row === views.one.card?.row) return zoomQuestion();
  if (target.closest("#items, .moved, #exemplar")) return target.closest("[data-row]").click();
  viewer.open([{ address: pictureOf(image.row, "large"), row: image.row, id: image.id, about: "" }], 0);
}

/** Show cells of a sheet large, where they can be marked as well; Enter on the sheet answers. */
function zoomCells(cells, place, mark) {
  const items = cells.map((cell) => ({
    address: pictureOf(cell.question.row, "large"),
    row: cell.question.row,
    id: cell.question.id,
    about: cell.question.why,
    mark: cell.mark,
    cell,
  }));
  viewer.open(items, place, {
    answer: (item, verdict) => {
      mark(item.cell, verdict);
      item.mark = verdict;
      return true;
    },
    exemplar: (item, choose) => makeExemplar(item.cell.question.row, item.id, choose),
  });
}

function zoomQuestion() {
  const { card, shown } = views.one;
  if (!card || !shown) return;
  viewer.open([{ address: pictureOf(card.row, "large"), row: card.row, id: card.id, about: card.why }], 0, {
    answer: (_, verdict) => {
      views.one.answer(verdict);
      return false;
    },
    exemplar: async (_, choose) => {
      viewer.dialog.close();
      makeExemplar(card.row, card.id, choose);
    },
  });
}

function pressed(event) {
  const { target, key } = event;
  const button = target.closest("button, a, summary");
  if (event.repeat && button && (key === "Enter" || key === " ")) event.preventDefault();
  const bracket = key === "[" || key === "]"; // some keyboards have them on AltGr
  if (document.querySelector("dialog[open]")) return;
  if (menu.open) return key === "Escape" ? void (menu.close(), takeKeys()) : undefined;
  if (target.matches("input[type=search], select")) {
    if (key === "Escape") target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (views[mode].chord?.(event)) event.preventDefault();
    if (!(bracket && event.getModifierState("AltGraph"))) return;
  }
  const moves = key.startsWith("Arrow") || bracket;
  if (event.repeat && !moves) return;
  if (views[mode].key?.(event)) event.preventDefault();
  else if (act(key, event, button)) event.preventDefault();
}

/** True when the key means something. */
function act(key, event, button) {
  const verdict = { y: "yes", n: "no", u: "unsure" }[key.toLowerCase()];
  const modes = { p: "pages", q: "one", l: "gallery", m: "map", Escape: "pages" }[key.length > 1 ? key : key.toLowerCase()];
  if (verdict && mode === "one") views.one.answer(verdict);
  else if (/^[1-9]$/.test(key) && mode === "one") answerNumber(Number(key) - 1);
  else if (key.toLowerCase() === "z" || key === "Backspace") session.undo();
  else if (key === "[" || key === "]") openClass(session.number + (key === "]" ? 1 : -1));
  else if (modes) openMode(modes);
  else if (key === "?") element("help").showModal();
  else if (key.toLowerCase() === "c") certify.open();
  else if (key.toLowerCase() === "e") exemplarAt(event);
  else if (key.toLowerCase() === "a") aroundAt(event.target);
  else if (key.toLowerCase() === "f") drops.choose();
  else if (key === "/") words.focus();
  else if (key === "+" || (key === " " && (!button || button.matches("#question, .cell, .tiny")))) zoom(event.target);
  else return false;
  return true;
}

function answerNumber(k) {
  if (labels.length < 2 || labels[k] === undefined) return;
  if (k === session.number) views.one.answer("yes");
  else views.one.answer("no", labels[k]);
}

function exemplarAt(event) {
  const image = imageAt(event.target);
  if (image) makeExemplar(image.row, image.id, event.shiftKey);
}

function aroundAt(target) {
  const own = onSheet() ? sheet.current?.question.row : mode === "map" ? element("plot").dataset.at : undefined;
  const row = holderAt(target)?.dataset.row ?? own;
  if (row !== undefined) return lookAround(views.around.image(Number(row)));
  return session.say("Choose an image first: it is looked around the one in focus.");
}

function dropped(row, label) {
  const holder = document.querySelector(`[data-row="${row}"]`);
  makeExemplar(row, holder?.dataset.id ?? `image ${row}`, false, label);
}

async function look() {
  if (document.visibilityState !== "visible") return;
  try {
    const { version, nonce } = await get("/api/version");
    if (nonce !== document.body.dataset.nonce && !session.outbox.waiting.length) return location.reload(); // a new server
    if (!session.outbox.waiting.length) element("unsaved").hidden = true;
    if (session.state && version !== session.state.version) session.refresh();
  } catch (error) {
    session.tell("offline", error.message);
  }
}

session.hear("opened", () => {
  place();
  fillOthers();
  views[mode].leave?.();
  views[mode].enter();
  tabs[session.number].scrollIntoView({ block: "nearest", inline: "nearest" });
});
session.hear("notice", notice);
session.hear("outbox", tellUnsaved);
session.hear("offline", (why) => {
  element("unsaved").textContent = `${why[0].toUpperCase()}${why.slice(1)}`;
  element("unsaved").hidden = false;
});
session.hear("undone", (entry) => {
  if (entry.kind === "one") {
    openMode("one");
    views.one.back(entry.card);
  } else if (entry.kind === "page") {
    openMode("pages");
    views.pages.back(entry.cells);
  } else if (["selected", "sample"].includes(entry.kind)) {
    views[entry.kind].again(entry);
    if (mode === entry.kind) views[mode].enter();
    else openMode(entry.kind);
  }
});

tabs.forEach((tab, k) => {
  tab.addEventListener("click", () => openClass(k));
  droppable(tab, (row) => dropped(row, labels[k]));
});
droppable(element("exemplars"), (row) => dropped(row, session.label));
for (const id of ["question", "items", "joined", "left"]) draggable(element(id));
for (const button of openers) {
  button.addEventListener("click", () => openMode(button.dataset.mode));
}
for (const id of ["apply", "certify", "discover"]) element(id).addEventListener("close", takeKeys);
for (const early of [true, false]) document.addEventListener("click", clicked, early);
for (const button of element("answers").querySelectorAll("[data-verdict]")) {
  button.addEventListener("click", () => views.one.answer(button.dataset.verdict));
  keepFocus(button);
}
for (const button of document.querySelectorAll(".undo")) button.addEventListener("click", () => session.undo());
for (const button of document.querySelectorAll(".undo, .around, .sheet-bar button")) keepFocus(button);
element("trail-back").addEventListener("click", () => (views[mode].quit ? views[mode].quit() : views[mode].back()));
element("exemplar-make").addEventListener("click", () => views.one.exemplar(session.label));
keepFocus(element("exemplar-make"));
element("question").addEventListener("click", zoomQuestion);
element("help-open").addEventListener("click", () => element("help").showModal());
document.addEventListener("keydown", pressed);
window.addEventListener("beforeunload", (event) => {
  if (session.outbox.waiting.length) event.preventDefault();
});
const drops = new Drops((file) => lookAround(views.around.file(file)), notice);
viewer.around = ({ row }) => lookAround(views.around.image(row));
for (const button of document.querySelectorAll(".around"))
  button.addEventListener("click", () => aroundAt(document.body));
setInterval(look, LOOK);
document.addEventListener("visibilitychange", look);

const wanted = new URLSearchParams(location.hash.slice(1));
if (openers.some((button) => button.dataset.mode === wanted.get("mode"))) mode = wanted.get("mode");
session.open(labels.includes(wanted.get("class")) ? wanted.get("class") : labels[0]);
