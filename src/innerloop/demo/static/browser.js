// Answers without a server: from files beside the page, computed in a worker of the browser.
"use strict";

(() => {
  const {
    LABELS, alsoWithin, findInk, greyPng, mostAreAlike, onBlankPaper, placeTells, printedCircles, printedRing, resize,
    say, sharedFrame, toGrey, usualPen, workerText, worthFinding,
  } = innerloop;

  // ---- files, which are scripts: from file:// nothing else can be read ----

  const networks = {};
  let symbols = null;
  // What these files call.
  innerloop.network = (name, network) => (networks[name] = unpacked(network));
  innerloop.symbols = (given) => (symbols = given);

  const folder = new URL(".", document.currentScript.src);
  const loading = {};

  function load(file) {
    loading[file] ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = new URL(file, folder);
      script.onload = done;
      script.onerror = () => {
        script.remove();
        delete loading[file];
        failed(new Error(say("badNetwork", file)));
      };
      document.head.append(script);
    });
    return loading[file];
  }

  function fromHalf(bits) {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1024 + fraction) * 2 ** (exponent - 25);
  }

  // Numbers in base64, of four bytes each or of two.
  function numbers({ half, data }) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    if (!half) return new Float32Array(bytes.buffer);
    return Float32Array.from(new Uint16Array(bytes.buffer), fromHalf);
  }

  // The same with all numbers unpacked, however deep they lie.
  function unpacked(part) {
    if (part === null || typeof part !== "object") return part;
    if ("half" in part) return numbers(part);
    if (Array.isArray(part)) return part.map(unpacked);
    return Object.fromEntries(Object.entries(part).map(([name, own]) => [name, unpacked(own)]));
  }

  // ---- the worker ----

  // Runs in the worker, which keeps the networks that it has seen.
  function serve(innerloop) {
    const known = {};
    const matrices = new innerloop.Matrices();
    onmessage = ({ data: { id, name, network, task, options } }) => {
      known[name] ??= network;
      postMessage({ id, stages: innerloop.learn(known[name], ...task, { matrices, ...options }) });
    };
  }

  class Learner {
    constructor() {
      this.sent = new Set();
      this.waiting = new Map();
      this.count = 0;
      try {
        const text = `${workerText()}\n(${serve})(innerloop);`;
        this.worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
        this.worker.onmessage = ({ data }) => this.take(data.id, data.stages);
        // A page that may not have workers computes by itself, and is not to be touched meanwhile.
        this.worker.onerror = () => this.withoutWorker();
      } catch {
        this.worker = null;
      }
    }

    // `task` and `options`: of `innerloop.learn`.
    learn(name, task, options = {}) {
      const id = this.count++;
      return new Promise((done, failed) => {
        this.waiting.set(id, { done, failed, name, task, options });
        if (this.worker) this.post(id);
        else this.compute(id);
      });
    }

    post(id) {
      const { name, task, options } = this.waiting.get(id);
      const network = this.sent.has(name) ? null : networks[name];
      this.sent.add(name);
      this.worker.postMessage({ id, name, network, task, options });
    }

    compute(id) {
      const { failed, name, task, options } = this.waiting.get(id);
      try {
        this.take(id, innerloop.learn(networks[name], ...task, options));
      } catch (error) {
        this.waiting.delete(id);
        failed(error);
      }
    }

    take(id, stages) {
      const { done } = this.waiting.get(id);
      this.waiting.delete(id);
      done(stages);
    }

    withoutWorker() {
      this.worker = null;
      for (const id of [...this.waiting.keys()]) this.compute(id);
    }
  }

  // ---- episodes ----

  // Numbers from 0 up to 1, the same for the same seed (mulberry32).
  function* random(seed) {
    for (;;) {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      yield ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    }
  }

  function some(items, count, numbers) {
    const left = [...items];
    return Array.from({ length: count }, () => {
      const [taken] = left.splice(Math.floor(numbers.next().value * left.length), 1);
      return taken;
    });
  }

  // ---- what the network sees ----

  const looks = new Map(); // by drawing
  const MOST_LOOKS = 300;

  // Grey bytes of a drawing, `side` pixels a side, and its ink once somebody asks.
  async function look(drawing) {
    const key = JSON.stringify(drawing);
    if (!looks.has(key)) {
      const { pixels, side } = await toGrey(drawing);
      const inks = new Map(); // by what is left out round it
      if (looks.size >= MOST_LOOKS) looks.clear();
      const ink = (edges = false, frame = null, but = null, ring = null) => {
        const kept = but?.map((each) => [...each.cells, each.span, each.aspect, each.pen].join());
        const how = [edges, kept?.join(" ") ?? null, frame ? [...frame].sort() : "", ring].join("; ");
        if (!inks.has(how)) inks.set(how, findInk(pixels, side, frame, but, edges, ring));
        return inks.get(how);
      };
      looks.set(key, { pixels, side, ink });
    }
    return looks.get(key);
  }

  // ---- what can be asked ----

  // `site`: what networks.js says.
  class Browser {
    constructor(site) {
      this.site = site;
      this.sizes = site.kilobytes; // [at first, in all]
      this.learner = new Learner();
    }

    // The networks, as `ModelCard` of innerloop.demo.questions.
    async models() {
      return this.site.models;
    }

    // `count` drawings of each of `ways` symbols that no network has seen; the same for the same
    // `numbers`.
    async classes(ways, count, numbers) {
      await load("symbols.js");
      return some(symbols.pictures, ways, numbers).map((own) => some(own, count, numbers));
    }

    // An episode of them, as `EpisodeReply` there.
    async episode(ways, shots, seed) {
      const numbers = random(seed);
      const classes = await this.classes(ways, shots + 1, numbers);
      const answer = Math.floor(numbers.next().value * ways);
      return {
        data: symbols.data,
        support: classes.map((own) => own.slice(0, shots)),
        query: classes[answer][shots],
        answer,
      };
    }

    // To a question { model, support, query, steps, prepare }: `Answer` there.
    async predict({ query, ...question }) {
      const { stages, seen, side, prepared } = await this.learn({ ...question, queries: [query] });
      const steps = stages.map(({ support_loss, probabilities: [first] }) => ({
        support_loss, probabilities: first,
      }));
      return { steps, seen: greyPng(seen[0], side), prepared };
    }

    // The stages of `innerloop.learn` for drawings, and how the network sees the queries.
    async learn({ steps, ...question }, options) {
      const { side, prepared, ...grey } = await this.pictures(question);
      const ink = (pixels) => Float32Array.from(pixels, (v) => 1 - v / 255);
      const labels = grey.support.flatMap((own, i) => own.map(() => i));
      const task = [grey.support.flat().map(ink), labels, grey.queries.map(ink), steps];
      const stages = await this.learner.learn(question.model, task, options);
      return { stages, seen: grey.queries, side, prepared };
    }

    // A program in Python that does the same.
    async code({ query: asked, ...question }) {
      const { support, queries: [query], side } = await this.pictures({ ...question, queries: [asked] });
      const lines = support.map((own, i) => {
        const each = own.map((pixels) => `"${greyPng(pixels, side)}"`);
        return `    "${LABELS[i]}": [${each.join(", ")}],`;
      });
      const { code } = this.site.networks[question.model];
      const words = {
        support: lines.join("\n"), query: greyPng(query, side), model: code, inner_steps: question.steps,
      };
      // As Python's str.format.
      return this.site.template.replace(/\{\{|\}\}|\{(\w+)\}/g, (all, name) => (name ? words[name] : all[0]));
    }

    // Grey bytes of the network's size, and whether the ink was found and centred.
    //   prepare: as for `FewShotClassifier`.
    async pictures({ model, support, queries, prepare = "none" }) {
      const { file, centred } = this.site.networks[model];
      await load(file);
      const { side } = networks[model];
      const all = (drawings) => Promise.all(drawings.map(look));
      const [given, asked] = [await Promise.all(support.map(all)), await all(queries)];
      const mayPrepare = prepare === "ink" || (prepare === "auto" && centred);
      // As innerloop.data.surroundings of Python.
      const inks = (...how) => (mayPrepare ? given.flat().map((each) => each.ink(...how)) : []);
      const atEdges = inks().filter((ink) => ink?.reaches);
      const most = 2 * atEdges.filter((ink) => ink.edged).length > atEdges.length;
      const edges = atEdges.some((ink) => ink.edged || ink.frame) ? most : "apart";
      let frame = sharedFrame(inks(edges).map((ink) => ink?.frame));
      const without = () => given.map((own) => own.map((each) => each.ink(edges, frame)));
      const stays = frame && (alsoWithin(inks(edges)) || placeTells(without(), side));
      if (stays) frame = null;
      let pen = null;
      const plain = inks(edges);
      if (!frame && !stays && plain.length && !plain.includes(null)) {
        const [ring, circles] = [printedRing(plain), printedCircles(plain)];
        const usual = circles && usualPen(circles);
        const rest = given.map((own) => own.map((each) => each.ink(edges, ring, null, usual)));
        // By class, as the drawings; a ring at one place in all has all of the picture.
        const within = ring ? null : given.map((own) => own.map(() => circles?.shift()));
        if ((ring || circles) && !rest.flat().includes(null) && !placeTells(rest, side, 0.99, within)) {
          [frame, pen] = [ring, usual];
        }
      }
      const found = inks(edges, frame, null, pen);
      const but = stays ? null : found.flatMap((ink) => ink?.enclosure ?? []);
      const asGiven = (each) => resize(each.pixels, each.side, side);
      const inInk = (each) => {
        const ink = each.ink(edges, frame, but, pen);
        return ink ? onBlankPaper(ink, side) : asGiven(each);
      };
      const seenBy = (how) => given.map((own) => own.map(how));
      const helps = () => worthFinding(found) && !mostAreAlike(seenBy(asGiven), seenBy(inInk), side);
      const prepared = prepare === "ink" || (mayPrepare && helps());
      const seen = prepared ? inInk : asGiven;
      return { support: seenBy(seen), queries: asked.map(seen), side, prepared };
    }
  }

  Object.assign(innerloop, { Browser, random });
})();
