// The inner loop on a sine wave: drag its points, go through the steps, change the start.
"use strict";

(() => {
  const { innerLoop, unpack, value } = sineNetwork;
  const [STEPS, RATE, POINTS, SPAN, HEIGHT] = [10, 0.01, 10, 5, 5.5];
  const [WIDE, HIGH] = [640, 340]; // of the drawing
  const chinese = document.documentElement.lang.startsWith("zh");
  const WORDS = chinese
    ? {
        starts: { meta: "元学习得到的起点", joint: "预训练的起点", random: "随机起点" },
        start: "起点",
        wave: "换一条波",
        step: (s) => `内循环 ${s} 步之后`,
        loss: (points, wave) => `在十个点上的均方误差：${points}；与整条波的均方误差：${wave}`,
        point: (x, y) => `支持集的一个点，x = ${x}，y = ${y}。方向键移动。`,
        picture: (start, s) => `${start}，内循环 ${s} 步之后的曲线`,
        hint: "圆点是支持集，可以拖动；灰线是它们所在的波；红线是网络，蓝色点线是第一步之前的网络。",
      }
    : {
        starts: { meta: "meta-learnt start", joint: "pre-trained start", random: "random start" },
        start: "Start",
        wave: "Another wave",
        step: (s) => (s === 1 ? "after 1 inner step" : `after ${s} inner steps`),
        loss: (points, wave) => `Squared error on the ten points: ${points}; on the whole wave: ${wave}`,
        point: (x, y) => `A point of the support set, x = ${x}, y = ${y}. Arrow keys move it.`,
        picture: (start, s) => `The curve of the ${start} after ${s} inner steps`,
        hint: "The points are the support set: drag them. Grey is the wave that they came from, red is the network, dotted blue is the network before the first step.",
      };

  const across = (x) => ((x + SPAN) / (2 * SPAN)) * WIDE;
  const down = (y) => ((HEIGHT - y) / (2 * HEIGHT)) * HIGH;

  function made(tag, attributes = {}, ...children) {
    const space = ["svg", "path", "circle", "line"].includes(tag)
      ? "http://www.w3.org/2000/svg"
      : "http://www.w3.org/1999/xhtml";
    const element = document.createElementNS(space, tag);
    for (const [name, to] of Object.entries(attributes)) element.setAttribute(name, to);
    element.append(...children);
    return element;
  }

  function path(curve) {
    const parts = [];
    for (let i = 0; i <= 160; i++) {
      const x = -SPAN + (2 * SPAN * i) / 160;
      // Far outside of the picture there is nothing to be seen.
      const y = Math.max(-3 * HEIGHT, Math.min(3 * HEIGHT, curve(x)));
      parts.push(`${i ? "L" : "M"}${across(x).toFixed(1)} ${down(y).toFixed(1)}`);
    }
    return parts.join("");
  }

  class Figure {
    constructor(place, weights) {
      this.weights = weights;
      this.start = "meta";
      this.step = 1;
      this.svg = made("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "group" });
      this.truth = made("path", { class: "truth" });
      this.before = made("path", { class: "before" });
      this.curve = made("path", { class: "curve" });
      const axis = made("line", { class: "axis", x1: 0, x2: WIDE, y1: down(0), y2: down(0) });
      this.dots = Array.from({ length: POINTS }, (_, i) => this.dot(i));
      this.svg.append(axis, this.truth, this.before, this.curve, ...this.dots);
      this.said = made("p", { class: "said", "aria-live": "polite" });
      this.slider = made("input", { type: "range", min: 0, max: STEPS, value: this.step });
      this.slider.addEventListener("input", () => {
        this.step = Number(this.slider.value);
        this.show();
      });
      this.name = made("span");
      this.buttons = Object.entries(WORDS.starts).map(([start, text]) => {
        const button = made("button", { type: "button", "data-start": start }, text);
        button.addEventListener("click", () => {
          this.start = start;
          this.adapt();
        });
        return button;
      });
      const other = made("button", { type: "button", class: "other" }, WORDS.wave);
      other.addEventListener("click", () => this.draw(Math.random));
      place.replaceChildren(
        made("div", { class: "choices", role: "group", "aria-label": WORDS.start }, ...this.buttons, other),
        this.svg,
        made("label", {}, this.name, this.slider),
        this.said,
        made("p", { class: "hint" }, WORDS.hint),
      );
      // The first wave is the same for everybody, as in the picture.
      let seed = 80047;
      this.draw(() => (seed = (seed * 16807) % 2147483647) / 2147483647);
    }

    // A wave and points of it, as `SinusoidSampler` draws them.
    draw(random) {
      const [amplitude, phase] = [0.1 + 4.9 * random(), Math.PI * random()];
      this.wave = (x) => amplitude * Math.sin(x - phase);
      this.points = this.dots.map(() => {
        const x = SPAN * (2 * random() - 1);
        return [x, this.wave(x)];
      });
      this.truth.setAttribute("d", path(this.wave));
      this.adapt();
    }

    dot(i) {
      const dot = made("circle", { r: 8, tabindex: 0, role: "button" });
      dot.addEventListener("pointerdown", (event) => {
        dot.setPointerCapture(event.pointerId);
        dot.focus({ preventScroll: true });
        event.preventDefault();
      });
      dot.addEventListener("pointermove", (event) => {
        if (!dot.hasPointerCapture(event.pointerId)) return;
        const box = this.svg.getBoundingClientRect();
        const x = ((event.clientX - box.left) / box.width) * 2 * SPAN - SPAN;
        this.move(i, x, HEIGHT - ((event.clientY - box.top) / box.height) * 2 * HEIGHT);
      });
      dot.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: [-0.25, 0], ArrowRight: [0.25, 0], ArrowUp: [0, 0.25], ArrowDown: [0, -0.25] };
        if (!(event.key in by)) return;
        event.preventDefault();
        this.move(i, this.points[i][0] + by[event.key][0], this.points[i][1] + by[event.key][1]);
      });
      return dot;
    }

    move(i, x, y) {
      const within = (v, most) => Math.max(-most, Math.min(most, v));
      this.points[i] = [within(x, SPAN), within(y, HEIGHT)];
      this.adapt();
    }

    adapt() {
      this.stages = innerLoop(this.weights[this.start], this.points, STEPS, RATE);
      this.show();
    }

    show() {
      const { weights, loss } = this.stages[this.step];
      const first = this.stages[0].weights;
      this.before.setAttribute("d", path((x) => value(first, x)));
      this.curve.setAttribute("d", path((x) => value(weights, x)));
      this.points.forEach(([x, y], i) => {
        this.dots[i].setAttribute("cx", across(x));
        this.dots[i].setAttribute("cy", down(y));
        this.dots[i].setAttribute("aria-label", WORDS.point(x.toFixed(2), y.toFixed(2)));
      });
      for (const button of this.buttons) {
        button.setAttribute("aria-pressed", String(button.dataset.start === this.start));
      }
      this.name.textContent = WORDS.step(this.step);
      this.slider.setAttribute("aria-valuetext", WORDS.step(this.step));
      this.svg.setAttribute("aria-label", WORDS.picture(WORDS.starts[this.start], this.step));
      let off = 0;
      for (let i = 0; i < 100; i++) {
        const x = -SPAN + (2 * SPAN * (i + 0.5)) / 100;
        off += (value(weights, x) - this.wave(x)) ** 2 / 100;
      }
      const short = (v) => (v < 1000 ? v.toFixed(2) : v.toExponential(1));
      this.said.textContent = WORDS.loss(short(loss), short(off));
    }
  }

  const weights = Object.fromEntries(
    Object.entries(sineWeights).map(([name, text]) => [name, unpack(text)]),
  );
  for (const place of document.querySelectorAll("[data-figure=sine]")) {
    place.figure = new Figure(place, weights);
  }
})();
