// Everything that the page says, in both languages.
"use strict";

(() => {
  const WORDS = {
    en: {
      tagline: "Draw a few symbols, and watch a network learn them.",
      network: "Network",
      surprise: "Surprise me",
      share: "Copy link",
      shared: "Link copied",
      shareHere: "The link is in the address bar.",
      python: "Python code",
      teach: "Teach",
      teachHint: "One drawing of each symbol is enough. Draw over them, add your own.",
      addClass: "Add a class",
      addExample: "Add a drawing of {0}",
      loadExample: "Load pictures of {0}",
      removeClass: "Remove class {0}",
      eraseExample: "Erase this drawing of {0}",
      removeExample: "Remove this drawing of {0}",
      example: "Drawing {1} of class {0}",
      query: "The symbol in question",
      ask: "Ask",
      askHint: "Draw one of the symbols again, not quite the same.",
      undo: "Undo",
      clear: "Clear",
      load: "Load a picture",
      seen: "What the network sees",
      prepare: "Find the ink and centre it",
      belief: "What the network believes",
      empty: "Draw a symbol in the middle.",
      emptyBoard: "Class {0} has nothing drawn yet.",
      verdict: "It is {0}: {1}",
      unsure: "No idea: all {0} are as likely ({1})",
      truth: " (it was {0})",
      legend: "Dashed: chance. On the right: the same through the inner steps.",
      before: "before adaptation",
      after1: "after 1 inner step",
      after: "after {0} inner steps",
      noSteps: "compares with the examples, without inner steps",
      play: "Play",
      loss: "Loss on the drawings of part 1, before and after each inner step",
      lossText: "Support loss falls from {0} to {1} in {2} inner steps",
      barText: "{0}: {1}",
      historyText: "{0} through the inner steps: {1}",
      codeTitle: "The same in Python",
      copy: "Copy",
      copied: "Copied",
      select: "Press Ctrl+C",
      steps1: "{0} with {1} inner step",
      stepsMany: "{0} with {1} inner steps",
      trainedOn: "{0}, trained on {1}",
      untrainedName: "{0}, not trained at all",
      cardAccuracy: "Tells five unseen characters apart from one drawing of each: {0} ± {1} % right.",
      cardUntrained: "The same network with random weights: what you see is what meta-training bought.",
      cardRun: "A run of your own.",
      omniglot: "Omniglot (handwritten characters)",
      glyphs: "glyphs (symbols drawn by a program)",
      episode: "An episode of {0}: the network has never seen these symbols. Which one is it?",
      badLink: "This link cannot be read; here is the usual board.",
      badPicture: "{0} cannot be read as a picture. Save it as PNG or JPEG.",
      blank: "{0} looks blank, without any ink: an answer to it means little.",
      closer: "{0}: the drawing is small in this picture, so the part around it is shown.",
      noRoom: "{0} is left out: there is room for {1}.",
      full: "This drawing has as many points as there can be: clear it, or take strokes back.",
      longLink: "These drawings are too much for a link.",
      badNetwork: "A part of this page is missing: {0}. Load the page again.",
      offline: "The server does not answer. Is innerloop demo still running?",
      local: "There is no server: the inner loop runs in your browser, and nothing that you draw leaves it. The page loads {0} kB, and {1} kB with all networks and symbols.",
      whatTitle: "What happens here",
      what1: "The network was meta-trained: it has practised learning on thousands of tasks with other symbols. For your symbols it starts from the weights that this practice led to and takes a few steps of gradient descent on your drawings of part 1, the inner loop. The slider goes through these steps; before the first one the network knows nothing of your symbols, and every class is as likely.",
      what2: "Switch to the network that was not trained to see what meta-training bought, or to ProtoNet, which learns by comparison instead of gradient steps.",
      keyboard: "With a keyboard: Tab to a drawing; arrows move the pen (Shift: further), Space sets it down and lifts it, Backspace takes the last stroke back.",
    },
    zh: {
      tagline: "画几个符号，看网络当场学会它们。",
      network: "网络",
      surprise: "随机出题",
      share: "复制链接",
      shared: "链接已复制",
      shareHere: "链接就在地址栏里。",
      python: "Python 代码",
      teach: "教",
      teachHint: "每个符号画一个就够了。可以直接在上面画，也可以添加自己的符号。",
      addClass: "添加类别",
      addExample: "为 {0} 再画一个样本",
      loadExample: "为 {0} 载入图片",
      removeClass: "删除类别 {0}",
      eraseExample: "擦掉 {0} 的这个样本",
      removeExample: "删除 {0} 的这个样本",
      example: "类别 {0} 的第 {1} 个样本",
      query: "待识别的符号",
      ask: "问",
      askHint: "把其中一个符号再画一遍，不必一模一样。",
      undo: "撤销",
      clear: "清空",
      load: "载入图片",
      seen: "网络看到的图像",
      prepare: "提取笔迹并居中",
      belief: "网络的判断",
      empty: "请在中间画一个符号。",
      emptyBoard: "类别 {0} 还没有画任何东西。",
      verdict: "是 {0}：{1}",
      unsure: "毫无头绪：{0} 个类别同样可能（{1}）",
      truth: "（答案是 {0}）",
      legend: "虚线：随机猜测的概率；右侧：内循环各步的概率。",
      before: "适应之前",
      after1: "内循环 1 步之后",
      after: "内循环 {0} 步之后",
      noSteps: "与样本直接比较，没有内循环",
      play: "播放",
      loss: "支持集（第 1 部分的样本）上的损失：适应之前与内循环每一步之后",
      lossText: "内循环 {2} 步，支持集损失从 {0} 降到 {1}",
      barText: "{0}：{1}",
      historyText: "{0} 在内循环各步的概率：{1}",
      codeTitle: "用 Python 做同样的事",
      copy: "复制",
      copied: "已复制",
      select: "请按 Ctrl+C",
      steps1: "{0}（内循环 {1} 步）",
      stepsMany: "{0}（内循环 {1} 步）",
      trainedOn: "{0}，训练数据：{1}",
      untrainedName: "{0}，未经训练",
      cardAccuracy: "五类、每类一个样本，区分从未见过的字符：正确率 {0} ± {1} %。",
      cardUntrained: "同一个网络，随机权重：两者之差就是元训练的收获。",
      cardRun: "你自己训练的网络。",
      omniglot: "Omniglot（手写字符）",
      glyphs: "glyphs（程序画的符号）",
      episode: "取自 {0} 的一个任务，网络从未见过这些符号。中间的是哪一个？",
      badLink: "无法读取这个链接，已显示默认的符号。",
      badPicture: "{0} 不是可以读取的图片，请存成 PNG 或 JPEG。",
      blank: "{0} 看上去是空白的，找不到墨迹，答案没有意义。",
      closer: "{0}：图里的字符很小，这里只取它周围的部分。",
      noRoom: "{0} 没有载入：这里最多 {1} 张。",
      full: "这幅画的点数已达上限：请清空或撤销几笔。",
      longLink: "图片太多，放不进一个链接。",
      badNetwork: "页面缺少一部分：{0}。请重新载入。",
      offline: "服务器没有响应。innerloop demo 还在运行吗？",
      local: "没有服务器：内循环就在你的浏览器里计算，画的内容不会离开浏览器。页面大小 {0} kB，加上所有网络和符号共 {1} kB。",
      whatTitle: "这里发生了什么",
      what1: "这个网络经过元训练：它已经在成千上万个由其他符号组成的任务上练习过“如何学习”。面对你的符号，它从元训练得到的初始权重出发，在第 1 部分的样本上做几步梯度下降，这就是内循环。滑块可以逐步查看：第一步之前，网络对你的符号一无所知，每个类别的概率都一样。",
      what2: "切换到未经训练的网络，就能看出元训练的作用；也可以切换到 ProtoNet，它不做梯度下降，而是直接比较。",
      keyboard: "键盘操作：用 Tab 选中画板；方向键移动画笔（按住 Shift 移动更远），空格键落笔或提笔，退格键撤销上一笔。",
    },
  };

  let language = "en";

  // Says everything in a language, if there is such a one, from now on; `kept` for the next visit.
  function useLanguage(code, kept = false) {
    language = code in WORDS ? code : "en";
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    try {
      if (kept) localStorage.setItem("language", language);
    } catch {
      // A browser that keeps nothing asks again next time.
    }
    return language;
  }

  function firstLanguage() {
    const given = new URLSearchParams(location.search).get("lang");
    let kept = null;
    try {
      kept = localStorage.getItem("language");
    } catch {
      // See useLanguage.
    }
    return given ?? kept ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  }

  function say(name, ...values) {
    return values.reduce((text, value, i) => text.replaceAll(`{${i}}`, value), WORDS[language][name]);
  }

  Object.assign(innerloop, { WORDS, firstLanguage, useLanguage, say });
})();
