// Whether the strokes of a drawing are darker than their paper: innerloop.data.polarity of Python,
// for one picture of at most 112 pixels a side.  There stands why each number is what it is.
"use strict";

(() => {
  const { inOrder, percentile, round } = innerloop;

  const [END, OUTER, EVEN, BENT] = [7 / 8, 0.01, 0.01, 16];
  const [DEEP, APART, HALF] = [1 / 8, 3 / 4, 1 / 2];

  // The outermost pixels, in order.
  function edges(x, width, height) {
    const rows = [x.slice(0, width), x.slice(-width)];
    const columns = [0, width - 1].map((u) => Array.from({ length: height }, (_, v) => x[v * width + u]));
    return inOrder([...rows, ...columns].flatMap((line) => [...line]));
  }

  // What is left of numbers when the surfaces of these terms that fit them best are taken away.
  function without(x, terms) {
    const directions = [];
    for (const term of terms) {
      let rest = term;
      for (const done of directions) rest = minus(rest, done);
      const length = Math.hypot(...rest);
      if (length > 1e-9 * Math.hypot(...term)) directions.push(rest.map((v) => v / length));
    }
    return directions.reduce(minus, x);
  }

  function minus(x, direction) {
    const along = x.reduce((sum, v, i) => sum + v * direction[i], 0);
    return x.map((v, i) => v - along * direction[i]);
  }

  const mean = (x) => x.reduce((a, b) => a + b, 0) / x.length;

  function skewness(x) {
    const deviation = Math.max(1e-3, Math.sqrt(mean(x.map((v) => v * v))));
    return mean(x.map((v) => v * v * v)) / deviation ** 3;
  }

  // Of a picture without a frame, and the ends of its range.
  function byEdgesAndSkewness(x, width, height) {
    const ordered = inOrder(x);
    const outer = Math.floor(OUTER * x.length);
    const [least, most] = [ordered[outer], ordered[x.length - 1 - outer]];
    const paper = percentile(edges(x, width, height), 50);
    const axis = (i, length) => (length > 1 ? -1 + (2 * i) / (length - 1) : 0);
    const u = x.map((_, i) => axis(i % width, width));
    const v = x.map((_, i) => axis(Math.floor(i / width), height));
    const first = [x.map(() => 1), u, v];
    const orders = [first];
    if (Math.min(width, height) >= BENT) {
      orders.push([...first, u.map((a, i) => a * v[i]), u.map((a) => a * a), v.map((a) => a * a)]);
    }
    const found = -mean(orders.map((terms) => skewness(without(x, terms))));
    let darkness = Math.abs(found) < EVEN ? 0 : Math.min(1, Math.max(-1, found));
    if (paper - least > END * (most - least)) darkness = 1;
    if (most - paper > END * (most - least)) darkness = -1;
    return { darkness, least, most };
  }

  // How sure it is that the ink of grey values is dark: above 0 for dark strokes on light paper,
  // below 0 for light strokes on dark.
  function darknessOfInk(values, width, height) {
    const x = Float64Array.from(values);
    const { darkness, least, most } = byEdgesAndSkewness(x, width, height);
    const deep = round(DEEP * Math.min(width, height));
    const [w, h] = [width - 2 * deep, height - 2 * deep];
    if (!deep || Math.min(w, h) < 1) return darkness;
    const inside = Float64Array.from({ length: w * h }, (_, i) =>
      x[(deep + Math.floor(i / w)) * width + deep + (i % w)]);
    const [outer, inner] = [edges(x, width, height), edges(inside, w, h)].map((each) => percentile(each, 50));
    const far = APART * (most - least);
    const framed = (most - outer > far && inner - least > far) || (outer - least > far && most - inner > far);
    if (!framed) return darkness;
    const within = byEdgesAndSkewness(inside, w, h);
    return within.most - within.least > HALF * (most - least) ? within.darkness : darkness;
  }

  Object.assign(innerloop, { darknessOfInk, edges });
})();
