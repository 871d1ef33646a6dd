// The page: a board of symbols, a query, and what the network believes at each inner step.
"use strict";

(() => {
  const {
    Browser, LABELS, Pad, QUERY, SUPPORT, Server, button, copy, decode, element, emptyDrawing, find,
    firstLanguage, fromFile, isEmpty, pack, say, showBelief, showModels, unpack, useLanguage,
  } = innerloop;
  const [MIN_CLASSES, MAX_CLASSES, MAX_EXAMPLES, STEPS] = [2, 10, 5, 5];
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
  //   full: nothing more could be drawn.
  function touched(full = false) {
    state.answer = state.data = null;
    if (full) problem(say("full"));
    else if (find("problem").dataset.from === "page") problem(null);
    changed();
  }

  // After a row or a drawing has gone, the keyboard stays near it.
  function focusNear(i, j = 0) {
    const row = find("board").children[Math.min(i, state.support.length - 1)];
    const drawings = row.querySelectorAll("canvas");
    drawings[Math.min(j, drawings.length - 1)].focus({ preventScroll: true });
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
          focusNear(i, j);
          touched();
        }
      }, "erase");
      return element("div", { class: "example" }, own.canvas, erase);
    });
    const add = button("plus", say("addExample", name), () => {
      examples.push(emptyDrawing());
      showBoard();
      focusNear(i, examples.length);
      touched();
    });
    const load = button("picture", say("loadExample", name), () => chooseFiles(examples));
    add.disabled = examples.length >= MAX_EXAMPLES;
    const remove = button("remove", say("removeClass", name), () => {
      state.support.splice(i, 1);
      showBoard();
      focusNear(i);
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

  let filesFor = null; // the drawings of a class, or null for the query

  function chooseFiles(target) {
    filesFor = target;
    find("files").value = "";
    find("files").multiple = target !== null;
    find("files").click();
  }

  // Pictures for the drawings of a class, or for the query.
  async function takeFiles(files, target) {
    problem(null);
    const troubles = [];
    let asked = false;
    for (const file of files) {
      let [drawing, closer, blank] = [];
      try {
        ({ drawing, closer, blank } = await fromFile(file));
      } catch {
        troubles.push(say("badPicture", file.name));
        continue;
      }
      if (closer || blank) troubles.push(say(closer ? "closer" : "blank", file.name));
      const free = target?.findIndex(isEmpty);
      if (free >= 0) target[free] = drawing;
      else if (target?.length < MAX_EXAMPLES) target.push(drawing);
      else if (target || asked) troubles.push(say("noRoom", file.name, target ? MAX_EXAMPLES : 1));
      else {
        setQuery(drawing);
        asked = true;
      }
    }
    showBoard();
    touched();
    if (troubles.length) problem(troubles.join(" "));
  }

  // What is dropped or pasted on a row of the board belongs to its class.
  function takeGiven(event, files) {
    if (!files.length) return;
    event.preventDefault();
    const row = event.target.closest?.("#board li");
    const at = [...find("board").children].indexOf(row);
    takeFiles([...files], state.support[at] ?? null);
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
    const { model, query, prepare } = state;
    const support = state.support.map((row) => row.filter((d) => !isEmpty(d)));
    return { model, support, query, steps: STEPS, prepare };
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
      await showCode();
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
    problem(null);
    // The way back leads to what was there.
    await remember();
    const picture = (text) => ({ picture: text, strokes: [] });
    state.support = episode.support.map((pictures) => pictures.map(picture));
    state.query = picture(episode.query);
    state.answer = episode.answer;
    state.data = ["omniglot", "glyphs"].includes(episode.data) ? episode.data : null;
    await remember(true);
    await showAll();
  }

  // The program is that of the drawings as they are now.
  async function showCode() {
    if (find("code-box").hidden) return;
    find("code").textContent = missing() ?? (await place.code(question()));
  }

  async function openCode() {
    const box = find("code-box");
    box.hidden = !box.hidden;
    find("python").setAttribute("aria-expanded", String(!box.hidden));
    try {
      await showCode();
    } catch (error) {
      problem(error.message);
    }
    if (!box.hidden) box.scrollIntoView({ block: "nearest" });
  }

  // Puts the drawings into the address, in a new entry of the history where `anew`; false if they
  // are too much for one.
  async function remember(anew = false) {
    let link;
    try {
      link = await pack(state);
    } catch {
      return false;
    }
    if (anew) history.pushState(null, "", "#" + link);
    else history.replaceState(null, "", "#" + link);
    return true;
  }

  let remembering = null;

  function rememberSoon() {
    clearTimeout(remembering);
    remembering = setTimeout(() => remember(), 300);
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
    showModels(models, state.model);
    changed();
  }

  function showLanguage(code) {
    const language = useLanguage(code, true);
    for (const each of document.querySelectorAll("[data-text]")) each.textContent = say(each.dataset.text);
    for (const each of document.querySelectorAll("[data-language]")) {
      each.setAttribute("aria-pressed", String(each.dataset.language === language));
    }
    find("local").hidden = !place.sizes;
    find("local").textContent = place.sizes ? say("local", ...place.sizes) : "";
    showModels(models, state.model);
    showBoard();
    showPad();
    showAnswer();
  }

  function listen() {
    find("add-class").addEventListener("click", addClass);
    find("files").addEventListener("change", (event) => takeFiles([...event.target.files], filesFor));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => takeGiven(event, event.dataTransfer.files));
    document.addEventListener("paste", (event) => takeGiven(event, event.clipboardData.files));
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
      showModels(models, state.model);
      changed();
    });
    find("prepare").addEventListener("change", (event) => {
      state.prepare = event.target.checked ? "ink" : "none";
      changed();
    });
    find("surprise").addEventListener("click", surprise);
    find("python").addEventListener("click", openCode);
    find("copy-code").addEventListener("click", (event) => {
      copy(find("code").textContent, event.target, "copied", "select");
      getSelection().selectAllChildren(find("code"));
    });
    find("share").addEventListener("click", async (event) => {
      if (await remember()) await copy(location.href, event.target, "shared", "shareHere");
      else problem(say("longLink"));
    });
    for (const each of document.querySelectorAll("[data-language]")) {
      each.addEventListener("click", () => showLanguage(each.dataset.language));
    }
    window.addEventListener("hashchange", async () => {
      clearTimeout(remembering);
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
