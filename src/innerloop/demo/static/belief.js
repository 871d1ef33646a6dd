// What the network believes: bars, and the loss through the inner steps.
"use strict";

(() => {
  const { LABELS, element, emptyDrawing, find, isEmpty, paint, say, svg } = innerloop;

  // Never 0% or 100%: a softmax is not certain.
  function percent(p) {
    if (p < 0.001) return "<0.1%";
    if (p > 0.999) return ">99.9%";
    return `${(100 * p).toFixed(p < 0.0995 || p > 0.9895 ? 1 : 0)}%`;
  }
  const share = (p) => `${100 * p}%`;

  function stepName(answer, step) {
    if (answer && answer.steps.length === 1) return say("noSteps");
    return step === 0 ? say("before") : step === 1 ? say("after1") : say("after", step);
  }

  // The part of the page on the right.
  //   answer: of the network, or null while something is `missing`, in words.
  //   step: the inner step that is shown; `steps`: how many there are where there is no answer.
  //   state: the drawings.
  function showBelief({ answer, missing, step, steps, state }) {
    const slider = find("step");
    const last = answer ? answer.steps.length - 1 : steps;
    const now = Math.min(step, last);
    slider.max = last;
    slider.value = now;
    slider.disabled = find("play").disabled = last === 0 || !answer;
    slider.setAttribute("aria-valuetext", stepName(answer, now));
    find("step-name").textContent = stepName(answer, now);
    for (const id of ["bars", "legend", "steps", "loss-box", "seen-box"]) find(id).hidden = !answer;
    if (!answer) {
      find("verdict").textContent = missing ?? "";
      return;
    }
    find("seen").src = "data:image/png;base64," + answer.seen;
    find("prepare").checked = answer.prepared;
    showBars(answer, now, state);
    showLoss(answer, now);
  }

  function showBars(answer, step, state) {
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

  function showLoss(answer, step) {
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

  Object.assign(innerloop, { showBelief });
})();
