// The page: a board of symbols, a query, and what the network believes at each inner step.

import { decode, emptyDrawing, fromFile, isEmpty, Pad, paint, toPng } from "./drawing.js";
import { pack, unpack } from "./link.js";
import { QUERY, SUPPORT } from "./start.js";
import { say, useLanguage } from "./words.js";

const LABELS = "ABCDEFGHIJ";
const [MIN_CLASSES, MAX_CLASSES, MAX_EXAMPLES, STEPS] = [2, 10, 5, 5];
const NAMES = {
  maml: "MAML", anil: "ANIL", boil: "BOIL", reptile: "Reptile", "meta-sgd": "Meta-SGD",
  "maml++": "MAML++", imaml: "iMAML", protonet: "ProtoNet", "fine-tune": "Fine-tuning",
};
const ICONS = {
  plus: "M12 5v14M5 12h14",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  remove: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
};

const find = (id) => document.getElementById(id);
const drawn = (strokes) => ({ picture: null, strokes: strokes.map((stroke) => [...stroke]) });

let models = [];
// What a link holds.
let state = {
  model: "omniglot-5steps",
  support: SUPPORT.map((strokes) => [drawn(strokes)]),
  query: drawn(QUERY),
  answer: null, // the right class, where the query came from a data set
  data: null, // which
  prepare: "auto", // whether drawings are found on their paper and centred
};
let answer = null; // of the server, to the state as it was
let shown = STEPS; // the inner step that is shown
let pad = null; // that of the query

// ---- elements ----

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function button(text, label, action, className = "small") {
  const made = element("button", { type: "button", class: className, "aria-label": label, title: label });
  if (text in ICONS) {
    const icon = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
    icon.append(svg("path", { d: ICONS[text] }));
    made.append(icon);
  } else made.append(text);
  made.addEventListener("click", action);
  return made;
}

// `from` says whose trouble it is: only a good answer of the server ends the server's.
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

// ---- asking the server ----

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

async function question() {
  const support = await Promise.all(state.support.map((row) => Promise.all(row.filter((d) => !isEmpty(d)).map(toPng))));
  return { model: state.model, support, query: await toPng(state.query), inner_steps: STEPS, prepare: state.prepare };
}

async function call(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(say("offline"));
  }
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error);
  return reply;
}

// What is missing before the network can be asked, in words.
function missing() {
  const empty = state.support.findIndex((examples) => examples.every(isEmpty));
  if (empty >= 0) return say("emptyBoard", LABELS[empty]);
  return isEmpty(state.query) ? say("empty") : null;
}

async function askOnce() {
  try {
    answer = missing() ? null : await call("api/predict", await question());
    if (find("problem").dataset.from === "server") problem(null);
  } catch (error) {
    answer = null;
    problem(error.message, "server");
  }
  showBelief();
}

// ---- what the network believes ----

// Never 0% or 100%: a softmax is not certain.
function percent(p) {
  if (p < 0.001) return "<0.1%";
  if (p > 0.999) return ">99.9%";
  return `${(100 * p).toFixed(p < 0.0995 || p > 0.9895 ? 1 : 0)}%`;
}
const share = (p) => `${100 * p}%`;

function stepName(step) {
  if (answer && answer.steps.length === 1) return say("noSteps");
  return step === 0 ? say("before") : step === 1 ? say("after1") : say("after", step);
}

function showBelief() {
  const slider = find("step");
  const last = answer ? answer.steps.length - 1 : STEPS;
  const step = Math.min(shown, last);
  slider.max = last;
  slider.value = step;
  slider.disabled = find("play").disabled = last === 0 || !answer;
  slider.setAttribute("aria-valuetext", stepName(step));
  find("step-name").textContent = stepName(step);
  for (const id of ["bars", "legend", "steps", "loss-box", "seen-box"]) find(id).hidden = !answer;
  if (!answer) {
    find("verdict").textContent = missing() ?? "";
    return;
  }
  find("seen").src = "data:image/png;base64," + answer.seen;
  find("seen-how").textContent = say(answer.prepared ? "centred" : "asDrawn");
  showBars(step);
  showLoss(step);
}

function showBars(step) {
  const p = answer.steps[step].probabilities;
  const best = p.indexOf(Math.max(...p));
  const unsure = p.every((v) => Math.abs(v - p[0]) < 1e-4);
  const truth = state.answer === null ? "" : say("truth", LABELS[state.answer]);
  find("verdict").textContent =
    (unsure ? say("unsure", p.length, percent(p[0])) : say("verdict", LABELS[best], percent(p[best]))) + truth;
  find("bars").replaceChildren(...p.map((value, i) => {
    const thumb = element("canvas", { class: "thumb", width: 68, height: 68, "aria-hidden": "true" });
    paint(thumb, state.support[i]?.find((d) => !isEmpty(d)) ?? emptyDrawing(), 68);
    const fill = element("div", { class: "fill" });
    fill.style.width = share(value);
    const chance = element("div", { class: "chance" });
    chance.style.left = share(1 / p.length);
    const history = element("div", { class: "history", role: "img" });
    const over = answer.steps.map((each) => each.probabilities[i]);
    history.setAttribute("aria-label", say("historyText", LABELS[i], over.map(percent).join(", ")));
    for (const [s, v] of over.entries()) {
      const column = element("i", s === step ? { class: "now" } : {});
      column.style.height = share(v);
      history.append(column);
    }
    const track = element("div", { class: "track", role: "img" }, fill, chance);
    track.setAttribute("aria-label", say("barText", LABELS[i], percent(value)));
    return element(
      "li", !unsure && i === best ? { class: "best" } : {},
      thumb,
      element("span", { class: "name" }, LABELS[i]),
      track,
      element("span", { class: "percent" }, percent(value)),
      history,
    );
  }));
}

function showLoss(step) {
  const losses = answer.steps.map((each) => each.support_loss);
  const [left, right, top, bottom] = [8, 312, 22, 84];
  const most = Math.max(...losses, 1e-6);
  const x = (i) => (losses.length === 1 ? left : left + ((right - left) * i) / (losses.length - 1));
  const y = (v) => bottom - ((bottom - top) * v) / most;
  const points = losses.map((v, i) => `${x(i)},${y(v)}`).join(" ");
  const parts = [
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    svg("polyline", { class: "line", points }),
  ];
  for (const [i, v] of losses.entries()) {
    const anchor = i === 0 ? "start" : i === losses.length - 1 ? "end" : "middle";
    const now = i === step ? { class: "now" } : {};
    parts.push(svg("circle", { cx: x(i), cy: y(v), r: i === step ? 6 : 4, ...now }));
    parts.push(svg("text", { x: x(i), y: y(v) - 10, "text-anchor": anchor }, v.toFixed(2)));
    parts.push(svg("text", { x: x(i), y: bottom + 20, "text-anchor": anchor }, String(i)));
  }
  find("loss").querySelector("g").replaceChildren(...parts);
  find("loss-text").textContent = say(
    "lossText", losses[0].toFixed(2), losses.at(-1).toFixed(2), losses.length - 1,
  );
}

let playing = null;

function play() {
  clearInterval(playing);
  shown = 0;
  showBelief();
  playing = setInterval(() => {
    shown += 1;
    if (!answer || shown >= answer.steps.length - 1) clearInterval(playing);
    showBelief();
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
  find("prepare").value = state.prepare;
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
    episode = await call(`api/episode?ways=${ways}&shots=${shots}&seed=${seed}`);
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
    find("code").textContent = (await call("api/code", await question())).code;
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
  showModels();
  showBoard();
  showPad();
  showBelief();
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
    showBelief();
  });
  find("play").addEventListener("click", play);
  find("model").addEventListener("change", (event) => {
    state.model = event.target.value;
    showModels();
    changed();
  });
  find("prepare").addEventListener("change", (event) => {
    state.prepare = event.target.value;
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
    models = (await call("api/models")).models;
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
