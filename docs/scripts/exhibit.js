// The seventh bug of the museum, to be switched on and off: whose statistics batch norm takes.
"use strict";

(() => {
  const { Browser, element: made, random } = innerloop;
  const [MODEL, WAYS, QUERIES, STEPS] = ["omniglot-5steps", 5, 5, 5];
  // How many queries are normalised together; they stand class by class.
  const TOGETHER = { all: WAYS * QUERIES, class: QUERIES, one: 1 };
  const chinese = document.documentElement.lang.startsWith("zh");
  const WORDS = chinese
    ? {
        bug: "错误：用查询样本的统计量",
        which: "查询样本怎样到来",
        all: "25 个一起",
        class: "同一类的 5 个一起",
        one: "逐个到来",
        again: "换一个任务",
        support: "支持集的统计量",
        said: (how, right) => `${how}：25 个查询样本中答对 ${right} 个。`,
        working: "正在计算…",
        label: (label) => `类别 ${label}`,
        answer: (label, right) => `回答 ${label}，${right ? "正确" : "错误"}`,
        hint: "每行最左边是支持集里的样本，右边是五个查询样本，下面是网络在内循环 5 步之后的回答。",
      }
    : {
        bug: "Bug: statistics of the queries",
        which: "How the queries come",
        all: "25 at once",
        class: "5 of one class at once",
        one: "one at a time",
        again: "Another episode",
        support: "statistics of the support set",
        said: (how, right) => `${how[0].toUpperCase()}${how.slice(1)}: ${right} of 25 queries right.`,
        working: "Computing …",
        label: (label) => `class ${label}`,
        answer: (label, right) => `answer ${label}, ${right ? "right" : "wrong"}`,
        hint: "On the left of each row is the support set's example, on the right five queries, and below them what the network says after 5 inner steps.",
      };

  class Figure {
    constructor(place, browser) {
      this.browser = browser;
      this.bug = false;
      this.way = "class";
      this.asked = 0;
      this.toggle = made("button", { type: "button", class: "bug" }, WORDS.bug);
      this.toggle.addEventListener("click", () => {
        this.bug = !this.bug;
        this.show();
      });
      this.ways = Object.keys(TOGETHER).map((way) => {
        const button = made("button", { type: "button", "data-way": way }, WORDS[way]);
        button.addEventListener("click", () => {
          this.way = way;
          this.show();
        });
        return button;
      });
      const again = made("button", { type: "button", class: "again" }, WORDS.again);
      again.addEventListener("click", () => this.draw(Math.floor(Math.random() * 2 ** 31)));
      this.said = made("p", { class: "said", "aria-live": "polite" });
      this.rows = made("div", { class: "rows" });
      place.replaceChildren(
        made("div", { class: "choices" }, this.toggle, again),
        made("div", { class: "choices", role: "group", "aria-label": WORDS.which }, ...this.ways),
        this.said, this.rows, made("p", { class: "hint" }, WORDS.hint),
      );
      // The first episode is the same for everybody, as in the picture.
      this.draw(1);
    }

    async draw(seed) {
      this.classes = await this.browser.classes(WAYS, 1 + QUERIES, random(seed));
      await this.show();
    }

    async show() {
      this.toggle.setAttribute("aria-pressed", String(this.bug));
      for (const button of this.ways) {
        button.disabled = !this.bug;
        button.setAttribute("aria-pressed", String(this.bug && button.dataset.way === this.way));
      }
      const asked = ++this.asked;
      this.said.textContent = WORDS.working;
      const drawing = (picture) => ({ picture, strokes: [] });
      const question = {
        model: MODEL,
        support: this.classes.map(([first]) => [drawing(first)]),
        queries: this.classes.flatMap(([, ...own]) => own.map(drawing)),
        steps: STEPS,
      };
      const options = { together: this.bug ? TOGETHER[this.way] : null };
      const { stages } = await this.browser.learn(question, options);
      if (asked !== this.asked) return; // Something else has been asked since.
      const answers = stages.at(-1).probabilities.map((p) => p.indexOf(Math.max(...p)));
      const tile = (picture, kind, label, text) => made(
        "span", { class: `tile ${kind}` },
        made("img", { class: "symbol", src: `data:image/png;base64,${picture}`, alt: text }),
        made("b", {}, String(label)),
      );
      this.rows.replaceChildren(...this.classes.map(([first, ...own], c) => made(
        "div", {},
        tile(first, "labelled", c, WORDS.label(c)),
        ...own.map((picture, i) => {
          const label = answers[c * QUERIES + i];
          return tile(picture, label === c ? "right" : "wrong", label, WORDS.answer(label, label === c));
        }),
      )));
      const right = answers.filter((label, i) => label === Math.floor(i / QUERIES)).length;
      this.said.textContent = WORDS.said(this.bug ? WORDS[this.way] : WORDS.support, right);
    }
  }

  const browser = new Browser(innerloop.site);
  for (const place of document.querySelectorAll("[data-figure=exhibit]")) {
    place.figure = new Figure(place, browser);
  }
})();
