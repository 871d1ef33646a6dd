// The one global name of the page.  Plain scripts, not modules: browsers refuse modules from file://.
"use strict";

const innerloop = {
  parts: [],

  // A part that computes, and so has to exist in a worker too.  From file:// a worker can only be
  // made of text: that of these functions.
  define(part) {
    innerloop.parts.push(part);
    part(innerloop);
  },

  workerText() {
    const parts = innerloop.parts.map((part) => `(${part})(innerloop);`);
    return `"use strict"; const innerloop = {}; ${parts.join("\n")}`;
  },
};
