// Answers without a server: from files beside the page, computed in a worker of the browser.
"use strict";

(() => {
  const { LABELS, greyPng, resize, say, toGrey, workerText } = innerloop;

  // ---- files, which are scripts: from file:// nothing else can be read ----

  const networks = {};
  let symbols = null;
  // What these files call.
  innerloop.network = (name, network) => (networks[name] = unpacked(network));
  innerloop.symbols = (given) => (symbols = given);

  const loading = {};

  function load(file) {
    loading[file] ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = file;
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

  function unpacked({ blocks, head, ...facts }) {
    return {
      ...facts,
      blocks: blocks.map(({ conv, gamma, beta }) => ({
        conv: numbers(conv), gamma: numbers(gamma), beta: numbers(beta),
      })),
      head: head && { row: numbers(head.row), bias: head.bias },
    };
  }

  // ---- the worker ----

  // Runs in the worker, which keeps the networks that it has seen.
  function serve(innerloop) {
    const known = {};
    const matrices = new innerloop.Matrices();
    onmessage = ({ data: { id, name, network, support, labels, queries, steps } }) => {
      known[name] ??= network;
      postMessage({ id, stages: innerloop.learn(known[name], support, labels, queries, steps, matrices) });
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

    learn(name, ...task) {
      const id = this.count++;
      return new Promise((done) => {
        this.waiting.set(id, { done, name, task });
        if (this.worker) this.post(id, name, task);
        else this.compute(id);
      });
    }

    post(id, name, [support, labels, queries, steps]) {
      const network = this.sent.has(name) ? null : networks[name];
      this.sent.add(name);
      this.worker.postMessage({ id, name, network, support, labels, queries, steps });
    }

    compute(id) {
      const { name, task } = this.waiting.get(id);
      this.take(id, innerloop.learn(networks[name], ...task));
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

    // Symbols that no network has seen, as `EpisodeReply` there.
    async episode(ways, shots, seed) {
      await load("symbols.js");
      const numbers = random(seed);
      const classes = some(symbols.pictures, ways, numbers).map((own) => some(own, shots + 1, numbers));
      const answer = Math.floor(numbers.next().value * ways);
      return {
        data: symbols.data,
        support: classes.map((own) => own.slice(0, shots)),
        query: classes[answer][shots],
        answer,
      };
    }

    // To a question { model, support, query, steps }: `Answer` there.
    async predict(question) {
      const { support, query, side } = await this.pictures(question);
      const ink = (pixels) => Float32Array.from(pixels, (v) => 1 - v / 255);
      const stages = await this.learner.learn(
        question.model,
        support.flat().map(ink),
        support.flatMap((own, i) => own.map(() => i)),
        [ink(query)],
        question.steps,
      );
      const steps = stages.map(({ support_loss, probabilities: [first] }) => ({
        support_loss, probabilities: first,
      }));
      return { steps, seen: greyPng(query, side) };
    }

    // A program in Python that does the same.
    async code(question) {
      const { support, query, side } = await this.pictures(question);
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

    // Grey bytes of the network's size.
    async pictures({ model, support, query }) {
      await load(this.site.networks[model].file);
      const { side } = networks[model];
      const grey = async (drawing) => {
        const sent = await toGrey(drawing);
        return resize(sent.pixels, sent.side, side);
      };
      const rows = await Promise.all(support.map((drawings) => Promise.all(drawings.map(grey))));
      return { support: rows, query: await grey(query), side };
    }
  }

  Object.assign(innerloop, { Browser });
})();
