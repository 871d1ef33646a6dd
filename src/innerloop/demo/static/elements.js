// Elements of the page, made and found.
"use strict";

(() => {
  const ICONS = {
    plus: "M12 5v14M5 12h14",
    picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
    remove: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
  };

  const find = (id) => document.getElementById(id);

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

  const saying = new Map(); // by button, the timer that ends what it says

  // Puts `text` into the clipboard; the button says `done` for a while, or `otherwise` where the
  // browser has no clipboard for this page.
  async function copy(text, from, done, otherwise) {
    let words = done;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      words = otherwise;
    }
    clearTimeout(saying.get(from));
    from.textContent = innerloop.say(words);
    saying.set(from, setTimeout(() => (from.textContent = innerloop.say(from.dataset.text)), 1600));
  }

  Object.assign(innerloop, { button, copy, element, find, svg });
})();
