// The network of docs/en/tutorial/why-it-works.md, 1 - 40 - 40 - 1 with ReLU, and its inner loop.
"use strict";

(() => {
  const WIDTH = 40;
  // Where each weight matrix and bias starts in the list of all 1,761 numbers.
  const [W1, B1, W2, B2, W3, B3, ALL] = [0, 40, 80, 1680, 1720, 1760, 1761];

  function forward(weights, x) {
    const first = new Float64Array(WIDTH);
    const second = new Float64Array(WIDTH);
    for (let i = 0; i < WIDTH; i++) first[i] = Math.max(0, weights[W1 + i] * x + weights[B1 + i]);
    let out = weights[B3];
    for (let j = 0; j < WIDTH; j++) {
      let sum = weights[B2 + j];
      for (let i = 0; i < WIDTH; i++) sum += weights[W2 + j * WIDTH + i] * first[i];
      second[j] = Math.max(0, sum);
      out += weights[W3 + j] * second[j];
    }
    return { first, second, out };
  }

  // The mean squared error on points [x, y], and its derivative by each weight.
  function loss(weights, points) {
    const slope = new Float64Array(ALL);
    let total = 0;
    for (const [x, y] of points) {
      const { first, second, out } = forward(weights, x);
      total += (out - y) ** 2 / points.length;
      const off = (2 * (out - y)) / points.length;
      slope[B3] += off;
      const down = new Float64Array(WIDTH);
      for (let j = 0; j < WIDTH; j++) {
        slope[W3 + j] += off * second[j];
        if (second[j] <= 0) continue;
        const at = off * weights[W3 + j];
        slope[B2 + j] += at;
        for (let i = 0; i < WIDTH; i++) {
          slope[W2 + j * WIDTH + i] += at * first[i];
          down[i] += at * weights[W2 + j * WIDTH + i];
        }
      }
      for (let i = 0; i < WIDTH; i++) {
        if (first[i] <= 0) continue;
        slope[W1 + i] += down[i] * x;
        slope[B1 + i] += down[i];
      }
    }
    return { total, slope };
  }

  // The weights before the first and after each inner step, and the loss on the points.
  function innerLoop(start, points, steps, rate) {
    const stages = [];
    let weights = Float64Array.from(start);
    for (let step = 0; ; step++) {
      const { total, slope } = loss(weights, points);
      stages.push({ weights, loss: total });
      if (step === steps) return stages;
      weights = weights.map((v, i) => v - rate * slope[i]);
    }
  }

  globalThis.sineNetwork = {
    innerLoop,
    value: (weights, x) => forward(weights, x).out,
    // Weights as numbers of four bytes in base64.
    unpack: (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer),
  };
})();
