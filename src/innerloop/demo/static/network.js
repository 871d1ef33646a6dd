// Conv4 and its inner loop, as innerloop's Python has them: docs/en/how-it-is-computed.md.
"use strict";

innerloop.define((innerloop) => {
  const { Matrices, block, blockBack, count, shape } = innerloop;
  const BLOCKS = 4;
  const UNIT_EPS = 1.1920929e-7; // of the scaling to one length, as PyTorch's

  // The weights of a block in `weights`, by name.
  const ofBlock = (weights, i) => ({
    conv: weights[`convs.${i}.weight`],
    gamma: weights[`norms.${i}.weight`],
    beta: weights[`norms.${i}.bias`],
  });

  // From pictures [images, side * side] to features, one row for each image, and all on the way.
  function body(matrices, network, weights, images, statistics) {
    let size = shape(1, images.length, network.side);
    let x = new Float32Array(count(size));
    images.forEach((image, i) => x.set(image, i * image.length));
    const blocks = Array.from({ length: BLOCKS }, (_, i) => {
      const options = {
        width: network.width,
        pool: i < network.halvings,
        relu: i < BLOCKS - 1 || !network.unit,
      };
      const made = block(matrices, x, size, ofBlock(weights, i), options, statistics?.[i]);
      [x, size] = [made.out, made.after];
      return made;
    });
    const area = size.side * size.side;
    const features = images.map((_, n) => {
      const row = new Float32Array(size.channels * area);
      for (let c = 0; c < size.channels; c++) {
        const from = (c * size.images + n) * area;
        row.set(x.subarray(from, from + area), c * area);
      }
      return row;
    });
    const lengths = network.unit ? features.map((row) => toUnit(row, network.scale)) : null;
    return { blocks, size, features, lengths, statistics: blocks.map((each) => each.statistics) };
  }

  // Scales a row to a mean square of scale**2, in place; returns the factor.
  function toUnit(row, scale) {
    let squares = 0;
    for (const v of row) squares += v * v;
    const by = scale / Math.sqrt(squares / row.length + UNIT_EPS);
    for (let i = 0; i < row.length; i++) row[i] *= by;
    return by;
  }

  // Derivatives by all weights of the body, by name, given those by the features.
  function bodyBack(matrices, network, weights, made, slopes) {
    const area = made.size.side * made.size.side;
    let down = new Float32Array(count(made.size));
    slopes.forEach((slope, n) => {
      const row = made.features[n];
      let along = 0;
      if (network.unit) {
        for (let i = 0; i < row.length; i++) along += slope[i] * row[i];
        along /= row.length * network.scale ** 2;
      }
      const by = network.unit ? made.lengths[n] : 1;
      for (let i = 0; i < row.length; i++) {
        const c = Math.floor(i / area);
        down[(c * made.size.images + n) * area + (i % area)] = by * (slope[i] - along * row[i]);
      }
    });
    const found = {};
    for (let i = BLOCKS - 1; i >= 0; i--) {
      const own = blockBack(matrices, made.blocks[i], ofBlock(weights, i), down, i === 0);
      found[`convs.${i}.weight`] = own.conv;
      found[`norms.${i}.weight`] = own.gamma;
      found[`norms.${i}.bias`] = own.beta;
      down = own.x;
    }
    return found;
  }

  // Features through the last layer, whose weights hold a row for each class.
  function linear(features, weights) {
    const [rows, bias] = [weights["head.weight"], weights["head.bias"]];
    return features.map((x) => Array.from(bias, (shift, c) => {
      let sum = shift;
      for (let i = 0; i < x.length; i++) sum += rows[c * x.length + i] * x[i];
      return sum;
    }));
  }

  function softmax(logits) {
    const most = Math.max(...logits);
    const parts = logits.map((v) => Math.exp(v - most));
    const sum = parts.reduce((a, b) => a + b);
    return parts.map((v) => v / sum);
  }

  // How much each picture of the support set counts, 1 in all: every class the same.
  function shares(labels, ways) {
    const counts = new Array(ways).fill(0);
    for (const label of labels) counts[label]++;
    return labels.map((label) => 1 / (ways * counts[label]));
  }

  // The mean over the classes of -log of the probability of the right one.
  //   share: of each picture, see `shares`.
  function crossEntropy(logits, labels, share) {
    const losses = logits.map((row, i) => {
      const most = Math.max(...row);
      const all = Math.log(row.reduce((sum, v) => sum + Math.exp(v - most), 0));
      return share[i] * (most + all - row[labels[i]]);
    });
    return losses.reduce((a, b) => a + b);
  }

  // Derivatives of the inner loss by all weights that the inner loop may change, by name.
  function slopesOf(matrices, network, weights, support, logits, labels, share) {
    const ways = logits[0].length;
    const times = network.per_shot ? ways : 1;
    const off = logits.map((row, n) =>
      softmax(row).map((p, c) => times * share[n] * (p - (c === labels[n] ? 1 : 0))),
    );
    const rows = weights["head.weight"];
    const head = new Float32Array(rows.length);
    const bias = new Float32Array(ways);
    const down = support.features.map((x, n) => {
      const slope = new Float32Array(x.length);
      for (let c = 0; c < ways; c++) {
        const part = off[n][c];
        bias[c] += part;
        for (let i = 0, at = c * x.length; i < x.length; i++, at++) {
          head[at] += part * x[i];
          slope[i] += part * rows[at];
        }
      }
      return slope;
    });
    const body = network.body_stays ? {} : bodyBack(matrices, network, weights, support, down);
    return { "head.weight": head, "head.bias": bias, ...body };
  }

  const atStep = (list, step) => list[Math.min(step, list.length - 1)];

  // The weights before the first step: a row of the last layer for each class.
  function start(network, ways) {
    const weights = {};
    for (const [name, { values: [first] }] of Object.entries(network.parameters)) {
      const times = name.startsWith("head.") ? ways : 1;
      weights[name] = new Float32Array(first.length * times);
      for (let i = 0; i < times; i++) weights[name].set(first, i * first.length);
    }
    return weights;
  }

  // The weights after a step: along the slope at the rate of each, or what the next step has.
  function advance(network, weights, slopes, step) {
    const after = {};
    for (const [name, { values, rates }] of Object.entries(network.parameters)) {
      after[name] = rates ? descend(weights[name], slopes[name], atStep(rates, step)) : atStep(values, step + 1);
    }
    return after;
  }

  // `rates`: a rate for each weight, repeated for each class, or one for all.
  function descend(weights, slopes, rates) {
    const out = new Float32Array(weights.length);
    const many = rates.length;
    for (let i = 0; i < out.length; i++) {
      out[i] = weights[i] - (many === 1 ? rates[0] : rates[i % many]) * slopes[i];
    }
    return out;
  }

  // Minus the squared distances of features to the mean features of each class.
  function byDistance(features, support, labels, ways) {
    const centres = Array.from({ length: ways }, (_, c) => {
      const own = support.filter((_, i) => labels[i] === c);
      return own[0].map((_, i) => own.reduce((sum, row) => sum + row[i], 0) / own.length);
    });
    return features.map((row) =>
      centres.map((centre) => -row.reduce((sum, v, i) => sum + (v - centre[i]) ** 2, 0)),
    );
  }

  // Before the first and after each inner step: the loss on the support set, and for each query
  // the probability of each class.
  //   network: what `innerloop.demo.site` writes of it.
  //   support, queries: lists of pictures, Float32Array [side * side] of ink from 0 to 1.
  //   labels: the class of each picture of the support set; each of 0 to the last occurs.
  //   together: batch norm takes the statistics for queries from the support set where this is
  //   null, else from so many queries at a time.
  innerloop.learn = function (network, support, labels, queries, steps, options = {}) {
    const { matrices = new Matrices(), together = null } = options;
    const sets = [];
    for (let i = 0; i < queries.length; i += together ?? queries.length) {
      sets.push(queries.slice(i, i + (together ?? queries.length)));
    }
    const ways = Math.max(...labels) + 1;
    const share = shares(labels, ways);
    const learns = "head.weight" in network.parameters;
    const last = learns ? steps : 0;
    const stages = [];
    let weights = start(network, ways);
    let seen, asked;
    for (let step = 0; step <= last; step++) {
      if (step === 0 || !network.body_stays) {
        seen = body(matrices, network, weights, support, null);
        const given = together === null ? seen.statistics : null;
        asked = sets.flatMap((set) => body(matrices, network, weights, set, given).features);
      }
      const logits = (rows) =>
        learns ? linear(rows, weights) : byDistance(rows, seen.features, labels, ways);
      const own = logits(seen.features);
      stages.push({
        support_loss: crossEntropy(own, labels, share),
        probabilities: logits(asked).map((row) => softmax(row.map((v) => v / network.temperature))),
      });
      if (step < last) {
        const slopes = slopesOf(matrices, network, weights, seen, own, labels, share);
        weights = advance(network, weights, slopes, step);
      }
    }
    return stages;
  };
});
