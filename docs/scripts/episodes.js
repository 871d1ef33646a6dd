// What n-way k-shot means: an episode is drawn from a pool of classes.
"use strict";

(() => {
  const [CLASSES, DRAWINGS, SIDE] = [20, 10, 28]; // of the sheet of symbols
  const SHOWN = 34; // pixels a side on the page
  const chinese = document.documentElement.lang.startsWith("zh");
  const WORDS = chinese
    ? {
        n: (v) => `n = ${v} 个类别`,
        k: (v) => `k = ${v} 个样本`,
        q: (v) => `每类 ${v} 个查询`,
        again: "换一个任务",
        answers: "显示答案",
        pool: "所有类别（每类显示一张）",
        support: "支持集：带标签",
        query: "查询集：标签要由网络说出",
        said: (n, k, q) =>
          `${n}-way ${k}-shot：从 ${n * k} 张图学习，回答 ${n * q} 张。瞎猜的正确率是 ${(100 / n).toFixed(0)}%。标签 0 到 ${n - 1} 只在这个任务里有效：换一个任务，同一个类别可能是另一个数。`,
        picture: (label) => `标签 ${label}`,
        hidden: "标签未知",
      }
    : {
        n: (v) => `n = ${v} classes`,
        k: (v) => (v === 1 ? "k = 1 example of each" : `k = ${v} examples of each`),
        q: (v) => (v === 1 ? "1 query of each" : `${v} queries of each`),
        again: "Another episode",
        answers: "Show the answers",
        pool: "All classes, one drawing of each",
        support: "Support set: with labels",
        query: "Query set: the network has to say the labels",
        said: (n, k, q) =>
          `${n}-way ${k}-shot: ${n * k} ${n * k === 1 ? "picture" : "pictures"} to learn from, ${n * q} to answer. Guessing is right in ${(100 / n).toFixed(0)}% of them. The labels 0 to ${n - 1} hold in this episode alone: in the next, the same class may have another number.`,
        picture: (label) => `label ${label}`,
        hidden: "label unknown",
      };

  function made(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, to] of Object.entries(attributes)) element.setAttribute(name, to);
    element.append(...children);
    return element;
  }

  function shuffled(items, random) {
    const left = [...items];
    const out = [];
    while (left.length) out.push(...left.splice(Math.floor(random() * left.length), 1));
    return out;
  }

  const range = (n) => Array.from({ length: n }, (_, i) => i);

  class Figure {
    constructor(place, sheet) {
      this.sheet = sheet;
      this.size = { n: 5, k: 1, q: 2 };
      this.sliders = made("div", { class: "sliders" });
      for (const [name, least, most] of [["n", 2, 10], ["k", 1, 5], ["q", 1, 5]]) {
        const text = made("span", {}, WORDS[name](this.size[name]));
        const slider = made("input", { type: "range", min: least, max: most, value: this.size[name], "data-size": name });
        slider.addEventListener("input", () => {
          this.size[name] = Number(slider.value);
          text.textContent = WORDS[name](this.size[name]);
          slider.setAttribute("aria-valuetext", text.textContent);
          this.show();
        });
        this.sliders.append(made("label", {}, text, slider));
      }
      const again = made("button", { type: "button", class: "again" }, WORDS.again);
      again.addEventListener("click", () => this.draw(Math.random));
      this.answers = made("button", { type: "button", class: "answers", "aria-pressed": "false" }, WORDS.answers);
      this.answers.addEventListener("click", () => {
        this.answers.setAttribute("aria-pressed", String(this.answers.ariaPressed !== "true"));
        this.show();
      });
      this.said = made("p", { class: "said", "aria-live": "polite" });
      this.parts = made("div");
      const buttons = made("div", { class: "choices" }, again, this.answers);
      place.replaceChildren(this.sliders, buttons, this.said, this.parts);
      // The first episode is the same for everybody, as in the picture.
      let seed = 7;
      this.draw(() => (seed = (seed * 16807) % 2147483647) / 2147483647);
    }

    draw(random) {
      this.classes = shuffled(range(CLASSES), random);
      this.drawings = range(CLASSES).map(() => shuffled(range(DRAWINGS), random));
      this.order = shuffled(range(CLASSES * DRAWINGS), random);
      this.show();
    }

    tile(row, column, label, text) {
      const picture = made("span", { class: "symbol", role: "img", "aria-label": text });
      picture.style.backgroundImage = `url("${this.sheet}")`;
      picture.style.backgroundSize = `${DRAWINGS * SHOWN}px ${CLASSES * SHOWN}px`;
      picture.style.backgroundPosition = `${-column * SHOWN}px ${-row * SHOWN}px`;
      return made("span", { class: label === null ? "tile" : "tile labelled" }, picture, made("b", {}, label ?? ""));
    }

    show() {
      const { n, k, q } = this.size;
      const open = this.answers.ariaPressed === "true";
      const chosen = this.classes.slice(0, n);
      const part = (name, title, tiles) =>
        made("div", { class: `part ${name}` }, made("p", { class: "hint" }, title), made("div", {}, ...tiles));
      const pool = range(CLASSES).map((c) => {
        const label = chosen.indexOf(c);
        return this.tile(c, this.drawings[c][0], label < 0 ? null : String(label), label < 0 ? "" : WORDS.picture(label));
      });
      const support = chosen.flatMap((c, label) =>
        range(k).map((i) => this.tile(c, this.drawings[c][i], String(label), WORDS.picture(label))));
      const queries = chosen.flatMap((c, label) => range(q).map((i) => [c, this.drawings[c][5 + i], label, this.order[c * 5 + i]]));
      queries.sort((a, b) => a[3] - b[3]);
      const query = queries.map(([c, column, label]) =>
        this.tile(c, column, open ? String(label) : "?", open ? WORDS.picture(label) : WORDS.hidden));
      this.parts.replaceChildren(
        part("pool", WORDS.pool, pool), part("support", WORDS.support, support), part("query", WORDS.query, query),
      );
      this.said.textContent = WORDS.said(n, k, q);
    }
  }

  for (const place of document.querySelectorAll("[data-figure=episodes]")) {
    place.figure = new Figure(place, new URL("../img/episode-symbols.png", document.currentScript.src).href);
  }
})();
