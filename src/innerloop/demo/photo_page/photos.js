// The page for photographs: things with a few photos each, and photos to be told.
"use strict";

(() => {
  const { button, element, find, say, speak } = innerloop;

  // A photo is its JPEG as a data address; a thing has a name and photos.
  const state = { model: "", side: 512, most: {}, things: [], others: [], queries: [], answers: null };
  let number = 0;
  let asked = 0;
  let takes = null; // What the photos of the file dialog are for.
  let unread = []; // What there is to say of the files that were loaded last.
  let failed = ""; // And of the question.

  function newThing(name) {
    number += 1;
    const thing = { name: name || say("thing", number), photos: [] };
    state.things.push(thing);
    return thing;
  }

  // Scaled down before it is sent; the browser turns it as its EXIF data says.
  async function read(file) {
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      throw new Error(say("unread", file.name));
    }
    const scale = Math.min(1, state.side / Math.max(picture.width, picture.height));
    const canvas = element("canvas");
    canvas.width = Math.max(1, Math.round(picture.width * scale));
    canvas.height = Math.max(1, Math.round(picture.height * scale));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff"; // Where it is transparent.
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    return canvas.toDataURL("image/jpeg", 0.92);
  }

  // Pairs of photos and the files that are to be among them.
  async function load(...pairs) {
    unread = [];
    await Promise.all(pairs.map(async ([photos, files]) => {
      const most = mostOf(photos);
      for (const file of spread([...files], most - photos.length)) {
        try {
          const photo = await read(file);
          // Others may have been dropped meanwhile.
          if (photos.length < most) photos.push(photo);
        } catch (error) {
          unread.push(error.message);
        }
      }
    }));
    show();
    ask();
  }

  function mostOf(photos) {
    if (photos === state.queries) return state.most.queries;
    return photos === state.others ? state.most.background : state.most.pictures;
  }

  // As many as there is room for, not the first ones, which may all be of one minute.
  function spread(files, room) {
    if (files.length <= room) return files;
    const chosen = Math.max(0, room);
    unread.push(say("more", files.length - chosen));
    return Array.from({ length: chosen }, (_, i) => files[Math.floor(i * files.length / chosen)]);
  }

  // What was said of the files loaded last stays while the question is answered.
  function problem(text) {
    failed = text;
    showProblem();
  }

  function showProblem() {
    const text = [...unread, failed].filter(Boolean).join(" ");
    find("problem").textContent = text;
    find("problem").hidden = !text;
  }

  // The newest question counts; answers to older ones are dropped.
  async function ask() {
    asked += 1;
    const mine = asked;
    const things = state.things.filter((thing) => thing.photos.length);
    state.answers = null;
    const status = find("status");
    if (things.length < 2 || !state.queries.length) {
      status.textContent = things.length < 2 ? say("few") : "";
      return showAnswers();
    }
    const content = (photos) => photos.map((photo) => photo.split(",")[1]);
    const reject = find("reject").value;
    const body = {
      classes: things.map(({ name, photos }) => ({ name, pictures: content(photos) })),
      queries: content(state.queries),
      background: content(state.others),
      reject: reject ? Number(reject) : null,
    };
    const photos = [...things.map((thing) => thing.photos), state.others, state.queries].flat().length;
    status.textContent = say("working", photos);
    showAnswers();
    try {
      const reply = await call("api/tell", body);
      if (mine !== asked) return;
      problem("");
      state.answers = { ...reply, names: things.map((thing) => thing.name), reject };
    } catch (error) {
      if (mine !== asked) return;
      problem(error.message);
    }
    status.textContent = "";
    showAnswers();
  }

  async function call(path, body) {
    let response;
    try {
      response = await fetch(path, body && {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
    } catch {
      throw new Error(say("offline"));
    }
    const reply = await response.json();
    if (!response.ok) throw new Error(reply.error);
    return reply;
  }

  function choose(photos) {
    takes = photos;
    find("files").click();
  }

  function droppable(place, photos) {
    place.addEventListener("dragover", (event) => {
      event.preventDefault();
      place.classList.add("over");
    });
    place.addEventListener("dragleave", () => place.classList.remove("over"));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      place.classList.remove("over");
      load([photos(), event.dataTransfer.files]);
    });
  }

  function photoList(photos, name) {
    return element("div", { class: "photos" }, ...photos.map((photo, i) => {
      const remove = button("×", say("removePhoto", name), () => {
        photos.splice(i, 1);
        show();
        ask();
      });
      return element("div", { class: "photo" }, element("img", { src: photo, alt: say("photoOf", name, i + 1) }), remove);
    }));
  }

  function thingCard(thing, i) {
    const name = element("input", { type: "text", maxlength: 100, "aria-label": say("name", i + 1) });
    name.value = thing.name;
    name.addEventListener("change", () => {
      thing.name = name.value.trim() || say("thing", i + 1);
      show();
      ask();
    });
    const tools = [
      button("picture", say("loadOf", thing.name), () => choose(thing.photos)),
      button("remove", say("removeThing", thing.name), () => {
        state.things.splice(i, 1);
        show();
        ask();
      }),
    ];
    const card = element("li", { class: "thing" }, element("header", {}, name, ...tools), photoList(thing.photos, thing.name));
    droppable(card, () => thing.photos);
    return card;
  }

  function show() {
    find("model").textContent = say("model", state.model);
    find("things").replaceChildren(...state.things.map(thingCard));
    find("add").disabled = state.things.length >= state.most.things;
    showProblem();
    const load = button("picture", say("loadOf", say("others")), () => choose(state.others));
    const title = element("header", {}, element("strong", {}, say("others")), load);
    const others = element("div", { class: "thing" }, title, element("p", { class: "hint" }, say("othersHint")), photoList(state.others, say("others")));
    droppable(others, () => state.others);
    find("others").replaceChildren(others);
    showAnswers();
  }

  const percent = (share) => `${Math.round(100 * share)}%`;

  function beliefs(probabilities, names) {
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
    return order.slice(0, 6).map((i) => {
      const fill = element("span", { class: "fill" });
      fill.style.width = `${100 * probabilities[i]}%`;
      const track = element("div", { class: "track" }, fill);
      return element("div", { class: "belief" }, element("span", { title: names[i] }, names[i]), track, element("span", {}, percent(probabilities[i])));
    });
  }

  function verdict({ probabilities, none }, names) {
    if (none) return say("none");
    const best = probabilities.indexOf(Math.max(...probabilities));
    return say("most", names[best], percent(probabilities[best]));
  }

  function answerCard(photo, i) {
    const answer = state.answers && state.answers.answers[i];
    const told = answer
      ? [element("h3", {}, verdict(answer, state.answers.names)), ...beliefs(answer.probabilities, state.answers.names)]
      : [];
    const picture = element("div", { class: "picture" }, element("img", { src: photo, alt: say("question", i + 1) }));
    const remove = button("remove", say("removeQuestion", i + 1), () => {
      state.queries.splice(i, 1);
      ask();
    });
    return element("li", { class: `answer${answer && answer.none ? " none" : ""}` }, picture, element("div", {}, ...told), remove);
  }

  function showAnswers() {
    find("answers").replaceChildren(...state.queries.map(answerCard));
    if (!state.answers) return;
    const { head, needed, pictures, reject } = state.answers;
    const said = head ? [say("told", head)] : [];
    if (reject && !pictures) said.push(say("single"));
    if (pictures && pictures < needed) said.push(say("estimate", needed, pictures));
    find("status").textContent = said.join(" ");
  }

  function loadFolders(files) {
    const byFolder = new Map();
    for (const file of files) {
      const parts = file.webkitRelativePath.split("/");
      if (!file.type.startsWith("image/") || parts.length < 2) continue;
      const name = parts[parts.length - 2];
      byFolder.set(name, [...(byFolder.get(name) || []), file]);
    }
    // The empty things that the page opens with make room.
    state.things = state.things.filter((thing) => thing.photos.length);
    const room = state.most.things - state.things.length;
    const folders = [...byFolder].slice(0, Math.max(0, room));
    const loading = load(...folders.map(([name, found]) => [newThing(name).photos, found]));
    if (folders.length < byFolder.size) unread.push(say("moreFolders", byFolder.size - folders.length));
    return loading;
  }

  async function start() {
    speak();
    const opening = await call("api/start");
    state.model = opening.model;
    state.side = opening.side;
    state.most = opening.most;
    for (const { name, pictures } of opening.classes) {
      newThing(name).photos = pictures.map((content) => `data:image/jpeg;base64,${content}`);
    }
    while (state.things.length < 2) newThing();
    for (const language of document.querySelectorAll("[data-language]")) {
      language.addEventListener("click", () => {
        speak(language.dataset.language);
        show();
      });
    }
    find("add").addEventListener("click", () => {
      newThing();
      show();
    });
    find("folder").addEventListener("click", () => find("folders").click());
    find("load").addEventListener("click", () => choose(state.queries));
    find("reject").addEventListener("change", ask);
    for (const [id, action] of [["files", (files) => load([takes, files])], ["folders", loadFolders]]) {
      find(id).addEventListener("change", () => {
        const files = [...find(id).files];
        find(id).value = ""; // So that the same file can be chosen again.
        action(files);
      });
    }
    droppable(find("ask").parentElement, () => state.queries);
    // What is dropped beside a thing would replace the page.
    for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
    show();
    ask();
  }

  start().catch((error) => problem(error.message));
})();
