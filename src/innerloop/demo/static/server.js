// Answers of the server of `innerloop demo`.
"use strict";

(() => {
  const { say, toPng } = innerloop;

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

  async function packed({ model, support, query, steps, prepare }) {
    const pictures = await Promise.all(support.map((drawings) => Promise.all(drawings.map(toPng))));
    return { model, support: pictures, query: await toPng(query), inner_steps: steps, prepare };
  }

  // What can be asked: see `Browser` in browser.js, which answers the same without a server.
  class Server {
    sizes = null;

    async models() {
      return (await call("api/models")).models;
    }

    episode(ways, shots, seed) {
      return call(`api/episode?ways=${ways}&shots=${shots}&seed=${seed}`);
    }

    async predict(question) {
      return call("api/predict", await packed(question));
    }

    async code(question) {
      return (await call("api/code", await packed(question))).code;
    }
  }

  Object.assign(innerloop, { Server });
})();
