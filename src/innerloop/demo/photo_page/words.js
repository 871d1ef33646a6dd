// Everything that the page for photographs says, in both languages.
"use strict";

(() => {
  const WORDS = {
    en: {
      tagline: "A few photos of each thing, and a classifier that works.",
      model: "Network: {0}. Pictures go only to the computer that runs innerloop demo.",
      teach: "Things to tell apart",
      teachHint: "Three to five photos of each, as it will be seen later. Drop them on a thing, or load them.",
      add: "Add a thing",
      folder: "Load a folder of folders",
      others: "Anything else (optional)",
      othersHint: "Photos of none of these things: they help to tell them apart, and to refuse.",
      thing: "Thing {0}",
      name: "Name of thing {0}",
      loadOf: "Load photos of {0}",
      removeThing: "Remove {0}",
      removePhoto: "Remove this photo of {0}",
      photoOf: "Photo {1} of {0}",
      ask: "What is it?",
      askHint: "Photos to classify. Drop them here, or load them.",
      load: "Load photos",
      reject: "Share of your own things that may be refused:",
      never: "none: always answer",
      question: "Question {0}",
      removeQuestion: "Remove question {0}",
      none: "None of these",
      most: "{0}: {1}",
      working: "Looking at {0} photos …",
      few: "Give two things or more, each with a photo.",
      single: "“None of these” takes two photos of a thing.",
      estimate: "The share refused is an estimate: to promise it takes {0} photos of things with two or more, and there are {1}.",
      told: "Head on the features: {0}.",
      unread: "{0} cannot be read as a picture: save it as JPEG or PNG.",
      more: "{0} photos are left out, as the page asks about no more at a time: innerloop adapt takes any number.",
      moreFolders: "{0} folders are left out, as the page has no room for more things: innerloop adapt takes any number.",
      offline: "There is no answer from innerloop demo: is it still running?",
    },
    zh: {
      tagline: "每样东西拍几张照片，就有一个能用的分类器。",
      model: "网络：{0}。图片只发给运行 innerloop demo 的电脑。",
      teach: "要区分的东西",
      teachHint: "每样三到五张，拍摄条件与以后使用时相同。把照片拖到对应的东西上，或点按钮载入。",
      add: "添加一样东西",
      folder: "载入文件夹（每样一个子文件夹）",
      others: "其他任何东西（可选）",
      othersHint: "不属于以上任何一类的照片：既有助于区分，也有助于拒绝。",
      thing: "东西 {0}",
      name: "东西 {0} 的名称",
      loadOf: "载入{0}的照片",
      removeThing: "删除{0}",
      removePhoto: "删除{0}的这张照片",
      photoOf: "{0}的第 {1} 张照片",
      ask: "这是什么？",
      askHint: "待判断的照片。拖到这里，或点按钮载入。",
      load: "载入照片",
      reject: "自己的东西最多可拒绝：",
      never: "从不拒绝",
      question: "问题 {0}",
      removeQuestion: "删除问题 {0}",
      none: "都不是",
      most: "{0}：{1}",
      working: "正在看 {0} 张照片……",
      few: "至少给出两样东西，每样至少一张照片。",
      single: "要判断“都不是”，至少有一样东西要有两张照片。",
      estimate: "拒绝的比例只是估计：要作出保证，需要 {0} 张照片（来自有两张以上的东西），现有 {1} 张。",
      told: "特征上的分类头：{0}。",
      unread: "{0} 不能作为图片读取：请存为 JPEG 或 PNG。",
      more: "有 {0} 张照片没有载入：页面一次只能处理这么多。innerloop adapt 没有数量限制。",
      moreFolders: "有 {0} 个文件夹没有载入：页面容不下更多东西。innerloop adapt 没有数量限制。",
      offline: "innerloop demo 没有回答：它还在运行吗？",
    },
  };

  const wanted = new URLSearchParams(location.search).get("lang") || navigator.language;
  let language = wanted.startsWith("zh") ? "zh" : "en";

  function say(name, ...values) {
    return WORDS[language][name].replace(/\{(\d)\}/g, (_, i) => values[i]);
  }

  function speak(chosen = language) {
    language = chosen;
    document.documentElement.lang = language;
    for (const element of document.querySelectorAll("[data-text]")) {
      element.textContent = say(element.dataset.text);
    }
    for (const button of document.querySelectorAll("[data-language]")) {
      button.setAttribute("aria-pressed", button.dataset.language === language);
    }
  }

  Object.assign(innerloop, { say, speak });
})();
