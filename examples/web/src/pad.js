// The area to draw on, with finger, pen or mouse.

import { showPixels } from "./pixels.js";

const PEN = 0.07;
// Points nearer than this to the last one are left out.
const NEAR = 0.012;

/** Keeps strokes, whose points lie in [0, 1] by [0, 1], and calls `onChange` after each change. */
export class Pad {
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.strokes = [];
    this.example = null;
    this.pointer = null;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.end(event));
    }
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  /** Shows the pixels of an example in place of strokes. */
  showExample(pixels) {
    [this.strokes, this.example] = [[], pixels];
    this.paint();
  }

  clear() {
    [this.strokes, this.example] = [[], null];
    this.changed();
  }

  undo() {
    this.strokes.pop();
    this.example = null;
    this.changed();
  }

  begin(event) {
    if (this.pointer !== null || event.button !== 0) return;
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.example = null;
    this.strokes.push([this.pointOf(event)]);
    this.changed();
  }

  move(event) {
    if (event.pointerId !== this.pointer) return;
    const stroke = this.strokes.at(-1);
    for (const part of event.getCoalescedEvents?.() ?? [event]) {
      const [x, y] = this.pointOf(part);
      const [lastX, lastY] = stroke.at(-1);
      if (Math.hypot(x - lastX, y - lastY) >= NEAR) stroke.push([x, y]);
    }
    this.changed();
  }

  end(event) {
    if (event.pointerId === this.pointer) this.pointer = null;
  }

  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  changed() {
    this.paint();
    this.onChange();
  }

  paint() {
    const size = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (size === 0) return;
    this.canvas.width = this.canvas.height = size;
    const context = this.canvas.getContext("2d");
    context.scale(size, size);
    this.paintExample(context);
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke) context.lineTo(...point);
      context.stroke();
    }
  }

  paintExample(context) {
    if (!this.example) return;
    const picture = document.createElement("canvas");
    showPixels(picture, this.example, "");
    context.imageSmoothingEnabled = false;
    // With a margin, as something drawn has it.
    context.drawImage(picture, 0.1, 0.1, 0.8, 0.8);
  }
}
