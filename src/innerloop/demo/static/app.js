// The page: a board of symbols, a query, and what the network believes at each inner step.
"use strict";

(() => {
  const {
    Browser, LABELS, Pad, QUERY, SUPPORT, Server, button, decode, element, emptyDrawing, find,
    fromFile, isEmpty, pack, say, showBelief, unpack, useLanguage,
  } = innerloop;
  const [MIN_CLASSES, MAX_CLASSES, MAX_EXAMPLES, STEPS] = [2, 10, 5, 5];
  const NAMES = {
    maml: "MAML", anil: "ANIL", boil: "BOIL", reptile: "Reptile", "meta-sgd": "Meta-SGD",
    "maml++": "MAML++", imaml: "iMAML", protonet: "ProtoNet", "fine-tune": "Fine-tuning",
  };

  const drawn = (strokes) => ({ picture: null, strokes: strokes.map((stroke) => [...stroke]) });

  // Where the answers come from: networks.js says so, which a server has empty.
  const place = innerloop.site ? new Browser(innerloop.site) : new Server();

  let models = [];
  // What a link holds.
  let state = {
    model: "omniglot-5steps",
    support: SUPPORT.map((strokes) => [drawn(strokes)]),
    query: drawn(QUERY),
    answer: null, // the right class, where the query came from a data set
    data: null, // which
    prepare: "auto", // whether the ink is found and centred, as for `FewShotClassifier`
  };
  let answer = null; // to the state as it was
  let shown = STEPS; // the inner step that is shown
  let pad = null; // that of the query

  // `from` says whose trouble it is: only a good answer ends that of `place`.
  function problem(text, from = "page") {
    find("problem").hidden = !text;
    find("problem").textContent = text ?? "";
    find("problem").dataset.from = from;
  }

  // ---- the board ----

  // A drawing is changed by hand: it is no longer what the data set said.
  function touched() {
    state.answer = state.data = null;
    changed();
  }

  function showBoard() {
    find("board").replaceChildren(...state.support.map(classRow));
    find("add-class").disabled = state.support.length >= MAX_CLASSES;
  }

  function classRow(examples, i) {
    const name = LABELS[i];
    const boxes = examples.map((drawing, j) => {
      const own = new Pad(drawing, say("example", name, j + 1), touched);
      const last = examples.length === 1;
      const erase = button("×", say(last ? "eraseExample" : "removeExample", name), () => {
        if (last) own.clear();
        else {
          examples.splice(j, 1);
          showBoard();
          touched();
        }
      }, "erase");
      return element("div", { class: "example" }, own.canvas, erase);
    });
    const add = button("plus", say("addExample", name), () => {
      examples.push(emptyDrawing());
      showBoard();
      touched();
      find("board").children[i].querySelectorAll("canvas")[examples.length - 1].focus();
    });
    const load = button("picture", say("loadExample", name), () => chooseFiles(i));
    add.disabled = examples.length >= MAX_EXAMPLES;
    const remove = button("remove", say("removeClass", name), () => {
      state.support.splice(i, 1);
      showBoard();
      touched();
    });
    remove.disabled = state.support.length <= MIN_CLASSES;
    return element(
      "li", {},
      element("span", { class: "name" }, name),
      element("div", { class: "examples" }, ...boxes, add, load),
      remove,
    );
  }

  function addClass() {
    state.support.push([emptyDrawing()]);
    showBoard();
    touched();
    find("board").lastElementChild.querySelector("canvas").focus();
  }

  // ---- pictures ----

  let filesFor = null; // the class, or null for the query

  function chooseFiles(target) {
    filesFor = target;
    find("files").value = "";
    find("files").multiple = target !== null;
    find("files").click();
  }

  async function takeFiles() {
    problem(null);
    for (const file of find("files").files) {
      let drawing;
      try {
        drawing = await fromFile(file);
      } catch {
        problem(say("badPicture", file.name));
        continue;
      }
      if (filesFor === null) setQuery(drawing);
      else {
        const examples = state.support[filesFor];
        const free = examples.findIndex(isEmpty);
        if (free >= 0) examples[free] = drawing;
        else if (examples.length < MAX_EXAMPLES) examples.push(drawing);
      }
    }
    showBoard();
    touched();
  }

  // ---- the query ----

  function setQuery(drawing) {
    state.query = drawing;
    showPad();
  }

  function showPad() {
    pad = new Pad(state.query, say("query"), touched);
    find("pad").replaceChildren(pad.canvas);
  }

  // ---- asking ----

  let wanted = 0;
  let asked = 0;
  let asking = false;

  function changed() {
    wanted += 1;
    rememberSoon();
    if (!asking) askUntilDone();
  }

  async function askUntilDone() {
    asking = true;
    document.querySelector("main").ariaBusy = "true";
    while (asked !== wanted) {
      asked = wanted;
      await askOnce();
    }
    asking = false;
    document.querySelector("main").ariaBusy = "false";
  }

  function question() {
    const support = state.support.map((row) => row.filter((d) => !isEmpty(d)));
    return { model: state.model, support, query: state.query, steps: STEPS, prepare: state.prepare };
  }

  // What is missing before the network can be asked, in words.
  function missing() {
    const empty = state.support.findIndex((examples) => examples.every(isEmpty));
    if (empty >= 0) return say("emptyBoard", LABELS[empty]);
    return isEmpty(state.query) ? say("empty") : null;
  }

  async function askOnce() {
    try {
      answer = missing() ? null : await place.predict(question());
      if (find("problem").dataset.from === "place") problem(null);
    } catch (error) {
      answer = null;
      problem(error.message, "place");
    }
    showAnswer();
  }

  function showAnswer() {
    showBelief({ answer, missing: missing(), step: shown, steps: STEPS, state });
  }

  let playing = null;

  function play() {
    clearInterval(playing);
    shown = 0;
    showAnswer();
    playing = setInterval(() => {
      shown += 1;
      if (!answer || shown >= answer.steps.length - 1) clearInterval(playing);
      showAnswer();
    }, 700);
  }

  // ---- models, episodes, code, links ----

  const dataName = (name) => (["omniglot", "glyphs"].includes(name) ? say(name) : name);

  function showModels() {
    find("model").replaceChildren(...models.map((card) => {
      const steps = card.inner_steps === 1 ? "steps1" : "stepsMany";
      const name = NAMES[card.algorithm] ?? card.algorithm;
      const algorithm = card.inner_steps ? say(steps, name, card.inner_steps) : name;
      const text = card.trained ? say("trainedOn", algorithm, dataName(card.data)) : say("untrainedName", algorithm);
      return element("option", { value: card.name }, card.trained && card.accuracy === null ? `${card.name}: ${text}` : text);
    }));
    find("model").value = state.model;
    const card = models.find((each) => each.name === state.model);
    const number = (v) => (100 * v).toFixed(1);
    find("card").textContent = !card ? ""
      : !card.trained ? say("cardUntrained")
      : card.accuracy === null ? say("cardRun")
      : say("cardAccuracy", number(card.accuracy), number(card.ci95));
  }

  async function surprise() {
    const shots = Math.max(1, Math.min(MAX_EXAMPLES, state.support[0].length));
    const seed = Math.floor(Math.random() * 2 ** 31);
    const ways = state.support.length;
    let episode;
    try {
      episode = await place.episode(ways, shots, seed);
    } catch (error) {
      problem(error.message);
      return;
    }
    const picture = (text) => ({ picture: text, strokes: [] });
    state.support = episode.support.map((pictures) => pictures.map(picture));
    state.query = picture(episode.query);
    state.answer = episode.answer;
    state.data = ["omniglot", "glyphs"].includes(episode.data) ? episode.data : null;
    await showAll();
  }

  async function showCode() {
    if (missing()) {
      problem(missing());
      return;
    }
    try {
      find("code").textContent = await place.code(question());
      find("code-box").hidden = false;
      find("code-box").scrollIntoView({ behavior: "smooth", block: "nearest" });
    } catch (error) {
      problem(error.message);
    }
  }

  async function copy(text, from, done) {
    let words = done;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      words = say("shareHere");
    }
    const before = from.textContent;
    from.textContent = words;
    setTimeout(() => (from.textContent = before), 1600);
  }

  async function remember() {
    const link = await pack(state);
    history.replaceState(null, "", "#" + link);
  }

  let remembering = null;

  function rememberSoon() {
    clearTimeout(remembering);
    remembering = setTimeout(remember, 300);
  }

  async function recall() {
    const link = location.hash.slice(1);
    if (!link) return;
    try {
      const found = await unpack(link);
      await Promise.all([...found.support.flat(), found.query].map(decode));
      state = found;
      if (!models.some((card) => card.name === state.model)) state.model = models[0].name;
    } catch {
      problem(say("badLink"));
    }
  }

  // ---- the whole ----

  async function showAll() {
    await Promise.all([...state.support.flat(), state.query].map(decode));
    showBoard();
    showPad();
    showModels();
    changed();
  }

  function showLanguage(code) {
    const language = useLanguage(code);
    try {
      localStorage.setItem("language", language);
    } catch {
      // A browser that keeps nothing asks again next time.
    }
    for (const each of document.querySelectorAll("[data-text]")) each.textContent = say(each.dataset.text);
    for (const each of document.querySelectorAll("[data-language]")) {
      each.setAttribute("aria-pressed", String(each.dataset.language === language));
    }
    find("local").hidden = !place.sizes;
    find("local").textContent = place.sizes ? say("local", ...place.sizes) : "";
    showModels();
    showBoard();
    showPad();
    showAnswer();
  }

  function firstLanguage() {
    const given = new URLSearchParams(location.search).get("lang");
    let kept = null;
    try {
      kept = localStorage.getItem("language");
    } catch {
      // See showLanguage.
    }
    return given ?? kept ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  }

  function listen() {
    find("add-class").addEventListener("click", addClass);
    find("files").addEventListener("change", takeFiles);
    find("undo").addEventListener("click", () => pad.undo());
    find("clear").addEventListener("click", () => pad.clear());
    find("load-query").addEventListener("click", () => chooseFiles(null));
    find("step").addEventListener("input", (event) => {
      clearInterval(playing);
      shown = Number(event.target.value);
      showAnswer();
    });
    find("play").addEventListener("click", play);
    find("model").addEventListener("change", (event) => {
      state.model = event.target.value;
      showModels();
      changed();
    });
    find("prepare").addEventListener("change", (event) => {
      state.prepare = event.target.checked ? "ink" : "none";
      changed();
    });
    find("surprise").addEventListener("click", surprise);
    find("python").addEventListener("click", showCode);
    find("copy-code").addEventListener("click", (event) => copy(find("code").textContent, event.target, say("copied")));
    find("share").addEventListener("click", async (event) => {
      await remember();
      await copy(location.href, event.target, say("shared"));
    });
    for (const each of document.querySelectorAll("[data-language]")) {
      each.addEventListener("click", () => showLanguage(each.dataset.language));
    }
    window.addEventListener("hashchange", async () => {
      await recall();
      await showAll();
    });
  }

  async function begin() {
    useLanguage(firstLanguage());
    try {
      models = await place.models();
    } catch (error) {
      problem(error.message);
      return;
    }
    await recall();
    listen();
    showLanguage(firstLanguage());
    changed();
  }

  begin();
})();
