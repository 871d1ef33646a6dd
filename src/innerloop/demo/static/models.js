// The choice of networks, and what is said about the one that is chosen.
"use strict";

(() => {
  const { element, find, say } = innerloop;

  const NAMES = {
    maml: "MAML", anil: "ANIL", boil: "BOIL", reptile: "Reptile", "meta-sgd": "Meta-SGD",
    "maml++": "MAML++", imaml: "iMAML", protonet: "ProtoNet", "fine-tune": "Fine-tuning",
  };

  const dataName = (name) => (["omniglot", "glyphs"].includes(name) ? say(name) : name);

  // `models`: cards, see `ModelCard` of innerloop.demo.questions; `chosen`: the name of one.
  function showModels(models, chosen) {
    find("model").replaceChildren(...models.map((card) => {
      const steps = card.inner_steps === 1 ? "steps1" : "stepsMany";
      const name = NAMES[card.algorithm] ?? card.algorithm;
      const algorithm = card.inner_steps ? say(steps, name, card.inner_steps) : name;
      const text = card.trained ? say("trainedOn", algorithm, dataName(card.data)) : say("untrainedName", algorithm);
      return element("option", { value: card.name }, card.trained && card.accuracy === null ? `${card.name}: ${text}` : text);
    }));
    find("model").value = chosen;
    const card = models.find((each) => each.name === chosen);
    const number = (v) => (100 * v).toFixed(1);
    find("card").textContent = !card ? ""
      : !card.trained ? say("cardUntrained")
      : card.accuracy === null ? say("cardRun")
      : say("cardAccuracy", number(card.accuracy), number(card.ci95));
  }

  Object.assign(innerloop, { showModels });
})();
