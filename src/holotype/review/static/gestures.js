// What a pointer does on the map: drag, wheel and two fingers move it; Shift and drag, or a drag while the lasso is
// chosen, goes around points; what stays in place is a tap.

const STILL = 5; // pixels that a tap may move

export class Gestures {
  /** `heard`: pan(dx, dy), zoom(factor, x, y), lasso(corners), lassoed(corners), tap(x, y, touch), hover(x, y) or hover(). */
  constructor(box, heard) {
    this.box = box;
    this.heard = heard;
    this.drawing = false; // a drag goes around points without Shift
    this.down = new Map();
    this.corners = null;
    box.addEventListener("pointerdown", (event) => this.press(event));
    box.addEventListener("pointermove", (event) => this.move(event));
    box.addEventListener("pointerup", (event) => this.release(event));
    box.addEventListener("pointercancel", (event) => this.cancel(event));
    box.addEventListener("pointerleave", () => heard.hover());
    box.addEventListener("wheel", (event) => this.turn(event), { passive: false });
  }

  place({ clientX, clientY }) {
    const { left, top } = this.box.getBoundingClientRect();
    return [clientX - left, clientY - top];
  }

  press(event) {
    if (event.button !== 0) return;
    const [x, y] = this.place(event);
    this.box.setPointerCapture(event.pointerId);
    this.still = this.down.size === 0;
    this.down.set(event.pointerId, { x, y, startX: x, startY: y });
    this.corners = this.down.size === 1 && (event.shiftKey || this.drawing) ? [[x, y]] : null;
    this.heard.lasso(this.corners ?? []);
    this.heard.hover();
  }

  move(event) {
    const [x, y] = this.place(event);
    const finger = this.down.get(event.pointerId);
    if (!finger) {
      if (event.pointerType === "mouse") this.heard.hover(x, y);
      return;
    }
    if (Math.hypot(x - finger.startX, y - finger.startY) > STILL) this.still = false;
    if (this.corners) {
      this.corners.push([x, y]);
      this.heard.lasso(this.corners);
    } else if (this.down.size === 2) {
      this.pinch(event.pointerId, x, y);
    } else if (this.down.size === 1 && !this.still) {
      this.heard.pan(x - finger.x, y - finger.y);
    }
    if (!this.still || this.corners) Object.assign(finger, { x, y });
  }

  /** One of two fingers went to x, y. */
  pinch(which, x, y) {
    const finger = this.down.get(which);
    const [other] = [...this.down].filter(([id]) => id !== which).map(([, one]) => one);
    const before = Math.hypot(finger.x - other.x, finger.y - other.y);
    const after = Math.hypot(x - other.x, y - other.y);
    this.still = false;
    this.heard.pan((x - finger.x) / 2, (y - finger.y) / 2);
    if (before > 0 && after > 0) this.heard.zoom(after / before, (x + other.x) / 2, (y + other.y) / 2);
  }

  release(event) {
    const finger = this.down.get(event.pointerId);
    if (!finger) return;
    this.down.delete(event.pointerId);
    const { corners } = this;
    this.corners = null;
    this.heard.lasso([]);
    if (this.still) this.heard.tap(finger.startX, finger.startY, event.pointerType !== "mouse");
    else if (corners) this.heard.lassoed(corners);
  }

  cancel(event) {
    this.down.delete(event.pointerId);
    this.corners = null;
    this.still = false;
    this.heard.lasso([]);
  }

  turn(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 100 : event.deltaY / 3;
    const [x, y] = this.place(event);
    this.heard.zoom(1.25 ** -Math.max(-4, Math.min(4, event.ctrlKey ? 5 * lines : lines)), x, y);
  }
}
