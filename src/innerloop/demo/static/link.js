// A drawing in an address: JSON, deflated, in the base64 of addresses.  A link may come from
// anybody, so that what is read from it is checked piece by piece.
"use strict";

(() => {
  const { MAX_POINTS } = innerloop;

  const MAX_LINK = 200_000; // characters
  const MAX_TEXT = 1_000_000; // bytes once inflated

  async function through(bytes, transform, most) {
    const reader = new Blob([bytes]).stream().pipeThrough(transform).getReader();
    const parts = [];
    let length = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      length += value.length;
      if (length > most) throw new Error("too long");
      parts.push(value);
    }
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }

  async function pack(state) {
    const text = new TextEncoder().encode(JSON.stringify({ version: 1, ...state }));
    const bytes = await through(text, new CompressionStream("deflate-raw"), Infinity);
    let binary = "";
    for (const byte of bytes) binary += String.fromCharCode(byte);
    const link = btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    if (link.length > MAX_LINK) throw new Error("too long");
    return link;
  }

  async function unpack(link) {
    if (link.length > MAX_LINK) throw new Error("too long");
    const binary = atob(link.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
    const text = await through(bytes, new DecompressionStream("deflate-raw"), MAX_TEXT);
    return checked(JSON.parse(new TextDecoder().decode(text)));
  }

  function need(condition) {
    if (!condition) throw new Error("not a drawing of this page");
  }

  function checked(state) {
    need(state?.version === 1 && typeof state.model === "string");
    need(Array.isArray(state.support) && state.support.length >= 2 && state.support.length <= 10);
    for (const examples of state.support) {
      need(Array.isArray(examples) && examples.length >= 1 && examples.length <= 5);
    }
    const answer = state.answer ?? null;
    need(answer === null || (Number.isInteger(answer) && state.support[answer]));
    return {
      model: state.model,
      support: state.support.map((examples) => examples.map(checkedDrawing)),
      query: checkedDrawing(state.query),
      answer,
      data: ["omniglot", "glyphs"].includes(state.data) ? state.data : null,
    prepare: ["auto", "ink", "none"].includes(state.prepare) ? state.prepare : "auto",
    };
  }

  function checkedDrawing(drawing) {
    const picture = drawing?.picture ?? null;
    need(picture === null || (typeof picture === "string" && /^[A-Za-z0-9+/]+=*$/.test(picture)));
    need(Array.isArray(drawing.strokes));
    let points = 0;
    for (const stroke of drawing.strokes) {
      need(Array.isArray(stroke) && stroke.length >= 2 && stroke.length % 2 === 0);
      need(stroke.every((v) => Number.isFinite(v) && v >= 0 && v <= 1000));
      points += stroke.length / 2;
    }
    need(points <= 2 * MAX_POINTS);
    return { picture, strokes: drawing.strokes.map((stroke) => [...stroke]) };
  }

  Object.assign(innerloop, { pack, unpack });
})();
