// Drawings: strokes in units of 0 to 1000, perhaps over a picture; and a canvas to draw them on.
"use strict";

(() => {
  const { darknessOfInk, inOrder, percentile, say } = innerloop;

  const UNITS = 1000;
  const WIDTH = 30; // of a stroke, about that of Omniglot's
  const SENT = 105; // pixels a side of what the network is given, as Omniglot's
  const KEPT = 56; // pixels a side of a loaded picture
  const LOOKED_AT = 112; // pixels a side in which a loaded picture's ink is looked for
  const [SMALL, ROUND] = [0.25, 0.5]; // of innerloop.data.closer
  const BLANK = 16; // of innerloop.data.ink
  const NEAR = 7; // points closer than this are one
  const MAX_POINTS = 4000;

  function emptyDrawing() {
    return { picture: null, strokes: [] };
  }

  function isEmpty(drawing) {
    return drawing.picture === null && drawing.strokes.length === 0;
  }

  // The bitmap of a picture in base64, once it has been decoded.
  const bitmaps = new Map();

  async function decode(drawing) {
    const text = drawing.picture;
    if (text === null || bitmaps.has(text)) return;
    const image = new Image();
    image.src = "data:image/png;base64," + text;
    await image.decode();
    if (bitmaps.size > 300) bitmaps.clear();
    bitmaps.set(text, image);
  }

  function paint(canvas, drawing, size) {
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, size, size);
    if (drawing.picture !== null && bitmaps.has(drawing.picture)) {
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmaps.get(drawing.picture), 0, 0, size, size);
    }
    context.scale(size / UNITS, size / UNITS);
    context.lineWidth = WIDTH;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = "#000";
    for (const stroke of drawing.strokes) {
      context.beginPath();
      context.moveTo(stroke[0], stroke[1]);
      for (let i = 0; i < stroke.length; i += 2) context.lineTo(stroke[i], stroke[i + 1]);
      context.stroke();
    }
  }

  function base64(canvas) {
    return canvas.toDataURL("image/png").split(",")[1];
  }

  function square(size) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    return canvas;
  }

  async function sent(drawing) {
    await decode(drawing);
    const canvas = square(SENT);
    paint(canvas, drawing, SENT);
    return canvas;
  }

  // What the server is sent.
  async function toPng(drawing) {
    return base64(await sent(drawing));
  }

  // The same as grey bytes, by the weights that Pillow gives to red, green and blue.
  async function toGrey(drawing) {
    const { data, width } = (await sent(drawing)).getContext("2d").getImageData(0, 0, SENT, SENT);
    const pixels = new Uint8Array(width * width);
    for (let i = 0; i < pixels.length; i++) {
      const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
      pixels[i] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
    }
    return { pixels, side: width };
  }

  // Grey bytes as a PNG file in base64.
  function greyPng(pixels, side) {
    const canvas = square(side);
    const data = new ImageData(side, side);
    pixels.forEach((v, i) => data.data.set([v, v, v, 255], 4 * i));
    canvas.getContext("2d").putImageData(data, 0, 0);
    return base64(canvas);
  }

  // A canvas of white paper.
  function blank(size) {
    const context = square(size).getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, size, size);
    context.imageSmoothingQuality = "high";
    return context;
  }

  function greyOf({ data }) {
    return Float32Array.from({ length: data.length / 4 }, (_, i) =>
      0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]);
  }

  function deviation(values) {
    const mean = values.reduce((a, b) => a + b) / values.length;
    return Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length);
  }

  // The part of a picture that is kept: all of it, but of a drawing that is small in it what is
  // around that, since so few pixels are kept; [left, top, width, height].  As the second look of
  // Python, innerloop.data.closer; there stands why each number is what it is.  And whether the
  // picture is blank, without any ink to find.
  function closer({ width, height }, looked) {
    const longer = Math.max(width, height);
    const grey = greyOf(looked.getImageData(0, 0, LOOKED_AT, LOOKED_AT));
    const dark = darknessOfInk(grey, LOOKED_AT, LOOKED_AT) >= 0;
    const found = innerloop.findInk(grey.map((v) => (dark ? v : 255 - v)), LOOKED_AT);
    const whole = { part: [0, 0, width, height], blank: !found && deviation(grey) <= BLANK };
    if (!found || longer <= LOOKED_AT) return whole;
    // It was looked at as a square.
    const box = innerloop.boxOf(found.places, LOOKED_AT)
      .map((v, i) => (v / LOOKED_AT) * (i < 2 ? height : width));
    const side = Math.max(box[1] - box[0], box[3] - box[2]);
    if (side >= SMALL * longer) return whole;
    const [top, bottom, left, right] = box.map((v, i) =>
      Math.round(Math.min(i < 2 ? height : width, Math.max(0, v + (i % 2 ? ROUND : -ROUND) * side))));
    return { part: [left, top, right - left, bottom - top], blank: false };
  }

  // A file of the user's as a drawing: square, grey, dark strokes on white paper; whether only the
  // part around the ink was kept; and whether there is none.
  async function fromFile(file) {
    const bitmap = await createImageBitmap(file);
    const looked = blank(LOOKED_AT);
    looked.drawImage(bitmap, 0, 0, LOOKED_AT, LOOKED_AT);
    const { part, blank: empty } = closer(bitmap, looked);
    const scale = KEPT / Math.max(part[2], part[3]);
    const context = blank(KEPT);
    const [w, h] = part.slice(2).map((n) => Math.max(1, Math.round(n * scale)));
    const [left, top] = [w, h].map((n) => Math.floor((KEPT - n) / 2));
    context.drawImage(bitmap, ...part, left, top, w, h);
    const data = context.getImageData(left, top, w, h);
    const grey = greyOf(data);
    // The edges are paper, or most of the rest where they are a frame; the half percent that differs
    // most from it is ink.
    const edges = grey.filter((_, i) => i < w || i >= w * (h - 1) || i % w === 0 || i % w === w - 1);
    const papers = [edges, grey].map((values) => percentile(inOrder(values), 50));
    const dark = darknessOfInk(grey, w, h) >= 0;
    const paper = dark ? Math.max(...papers) : Math.min(...papers);
    const far = grey.map((v) => (dark ? paper - v : v - paper));
    const most = Math.max(20, Float32Array.from(far).sort()[Math.floor(far.length * 0.995)]);
    for (let i = 0; i < grey.length; i++) {
      const value = 255 * (1 - Math.min(1, Math.max(0, far[i] / most)));
      data.data.set([value, value, value, 255], 4 * i);
    }
    context.putImageData(data, left, top);
    const drawing = { picture: base64(context.canvas), strokes: [] };
    await decode(drawing);
    return { drawing, closer: part[2] < bitmap.width || part[3] < bitmap.height, blank: empty };
  }

  function countPoints(drawing) {
    return drawing.strokes.reduce((sum, stroke) => sum + stroke.length / 2, 0);
  }

  // A canvas on which `drawing` is drawn with a mouse, a finger, a pen or the keyboard.
  class Pad {
    constructor(drawing, label, changed) {
      this.drawing = drawing;
      this.changed = changed;
      this.canvas = document.createElement("canvas");
      this.canvas.className = "paper";
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute("role", "application");
      this.canvas.setAttribute("aria-label", label + ". " + say("keyboard"));
      this.cursor = null;
      this.down = false;
      this.canvas.addEventListener("pointerdown", (event) => this.start(event));
      this.canvas.addEventListener("pointermove", (event) => this.move(event));
      for (const name of ["pointerup", "pointercancel"]) {
        this.canvas.addEventListener(name, (event) => this.stop(event));
      }
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      this.canvas.addEventListener("blur", () => {
        this.cursor = null;
        this.down = false;
        this.show();
      });
      new ResizeObserver(() => this.show()).observe(this.canvas);
    }

    show() {
      const size = Math.max(1, Math.round(this.canvas.clientWidth * (window.devicePixelRatio || 1)));
      if (this.canvas.width !== size) this.canvas.width = this.canvas.height = size;
      paint(this.canvas, this.drawing, size);
      if (this.cursor !== null) this.showCursor();
    }

    showCursor() {
      const context = this.canvas.getContext("2d");
      const [x, y] = this.cursor;
      context.strokeStyle = "#b3261e";
      context.lineWidth = 12;
      context.beginPath();
      context.arc(x, y, this.down ? 22 : 40, 0, 2 * Math.PI);
      context.stroke();
    }

    where(event) {
      const box = this.canvas.getBoundingClientRect();
      const unit = (v, start, length) =>
        Math.round(Math.min(UNITS, Math.max(0, ((v - start) / length) * UNITS)));
      return [unit(event.clientX, box.left, box.width), unit(event.clientY, box.top, box.height)];
    }

    start(event) {
      if (!event.isPrimary || event.button !== 0) return;
      event.preventDefault();
      this.canvas.focus({ preventScroll: true });
      this.cursor = null;
      this.down = false;
      this.canvas.setPointerCapture(event.pointerId);
      this.pointer = event.pointerId;
      this.begin(this.where(event));
    }

    move(event) {
      if (event.pointerId !== this.pointer) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) this.extend(this.where(each));
    }

    stop(event) {
      if (event.pointerId === this.pointer) this.pointer = undefined;
    }

    begin(point) {
      if (countPoints(this.drawing) >= MAX_POINTS) return void this.changed(true);
      this.drawing.strokes.push([...point]);
      this.cleared = undefined;
      this.show();
      this.changed();
    }

    extend([x, y]) {
      const stroke = this.drawing.strokes.at(-1);
      if (!stroke || Math.hypot(x - stroke.at(-2), y - stroke.at(-1)) < NEAR) return;
      if (countPoints(this.drawing) >= MAX_POINTS) return void this.changed(true);
      stroke.push(x, y);
      this.show();
      this.changed();
    }

    // Takes the last stroke back; then the picture below; after `clear` that.
    undo() {
      if (isEmpty(this.drawing)) Object.assign(this.drawing, this.cleared);
      else if (this.drawing.strokes.pop() === undefined) this.drawing.picture = null;
      this.cleared = undefined;
      this.down = false;
      this.show();
      this.changed();
    }

    clear() {
      if (!isEmpty(this.drawing)) this.cleared = { ...this.drawing };
      Object.assign(this.drawing, emptyDrawing());
      this.down = false;
      this.show();
      this.changed();
    }

    key(event) {
      const far = event.shiftKey ? 120 : 40;
      const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in moves) {
        const [x, y] = this.cursor ?? [UNITS / 2, UNITS / 2];
        const within = (v) => Math.min(UNITS, Math.max(0, v));
        this.cursor = [within(x + moves[event.key][0]), within(y + moves[event.key][1])];
        if (this.down) this.extend(this.cursor);
        this.show();
      } else if (event.key === " ") {
        this.cursor ??= [UNITS / 2, UNITS / 2];
        this.down = !this.down;
        if (this.down) this.begin(this.cursor);
        this.show();
      } else if (event.key === "Backspace") {
        this.undo();
      } else {
        return;
      }
      event.preventDefault();
    }
  }

  Object.assign(innerloop, { MAX_POINTS, Pad, decode, emptyDrawing, fromFile, greyPng, isEmpty, paint, toGrey, toPng });
})();
