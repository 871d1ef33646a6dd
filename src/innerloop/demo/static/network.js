// Conv4 and its inner loop, as innerloop's Python has them: docs/en/how-it-is-computed.md.
// Activations are [channels, images, height, width], so that a channel is one run of numbers.
"use strict";

innerloop.define((innerloop) => {
  const { Matrices, TILE_COLUMNS } = innerloop;
  const NORM_EPS = 1e-5; // of batch norm
  const UNIT_EPS = 1.1920929e-7; // of the scaling to one length, as PyTorch's

  const shape = (channels, images, side) => ({ channels, images, side });
  const count = ({ channels, images, side }) => channels * images * side * side;

  // Each picture with a frame of zeros, which a 3 x 3 convolution sees around it.
  function framed(x, { channels, images, side }) {
    const wide = side + 2;
    const out = new Float32Array(channels * images * wide * wide);
    for (let p = 0, from = 0; p < channels * images; p++) {
      for (let y = 0; y < side; y++) {
        const to = (p * wide + y + 1) * wide + 1;
        for (let i = 0; i < side; i++) out[to + i] = x[from++];
      }
    }
    return out;
  }

  // For each position its index in the framed pictures of the first channel, and for each of the
  // 9 * channels numbers that it sees how far these lie from there.
  function neighbours({ channels, images, side }) {
    const wide = side + 2;
    const positions = new Int32Array(images * side * side);
    for (let n = 0, i = 0; n < images; n++) {
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) positions[i++] = (n * wide + y) * wide + x;
      }
    }
    const offsets = new Int32Array(9 * channels);
    for (let c = 0, i = 0; c < channels; c++) {
      for (let y = 0; y < 3; y++) {
        for (let x = 0; x < 3; x++) offsets[i++] = c * images * wide * wide + y * wide + x;
      }
    }
    return { positions, offsets };
  }

  // Columns of the matrix x[along[k] + across[column]].
  function gather(x, along, across) {
    return (floats, start, column, n) => {
      // A full tile is filled row by row, as it lies in memory: a fifth of the whole time less.
      const [a, b, c, d, e, f, g, h] = across.subarray(column, column + TILE_COLUMNS);
      if (n === TILE_COLUMNS) {
        for (let k = 0, to = start; k < along.length; k++, to += TILE_COLUMNS) {
          const at = along[k];
          floats[to] = x[a + at];
          floats[to + 1] = x[b + at];
          floats[to + 2] = x[c + at];
          floats[to + 3] = x[d + at];
          floats[to + 4] = x[e + at];
          floats[to + 5] = x[f + at];
          floats[to + 6] = x[g + at];
          floats[to + 7] = x[h + at];
        }
        return;
      }
      for (let j = 0; j < n; j++) {
        const base = across[column + j];
        for (let k = 0, to = start + j; k < along.length; k++, to += TILE_COLUMNS) {
          floats[to] = x[base + along[k]];
        }
      }
    };
  }

  // Framed pictures through weights [outputs, channels, 3, 3].
  function convolve(matrices, x, size, weights, outputs) {
    const { positions, offsets } = neighbours(size);
    const pack = gather(x, offsets, positions);
    return matrices.multiply(weights, outputs, offsets.length, positions.length, pack);
  }

  // The derivative by the weights, given that by the outputs.
  function convolveWeights(matrices, x, size, slope, outputs) {
    const { positions, offsets } = neighbours(size);
    const pack = gather(x, positions, offsets);
    return matrices.multiply(slope, outputs, positions.length, offsets.length, pack);
  }

  // What weights [outputs, channels, 3, 3] do on the way back: turned by half, and the other way.
  function turned(weights, outputs, channels) {
    const back = new Float32Array(weights.length);
    for (let o = 0; o < outputs; o++) {
      for (let c = 0; c < channels; c++) {
        for (let k = 0; k < 9; k++) back[(c * outputs + o) * 9 + 8 - k] = weights[(o * channels + c) * 9 + k];
      }
    }
    return back;
  }

  // Mean and 1 / deviation of each channel.
  function moments(x, channels) {
    const each = x.length / channels;
    const [means, scales] = [new Float64Array(channels), new Float64Array(channels)];
    for (let c = 0; c < channels; c++) {
      let [sum, squares] = [0, 0];
      for (let i = c * each; i < (c + 1) * each; i++) sum += x[i];
      const mean = sum / each;
      for (let i = c * each; i < (c + 1) * each; i++) squares += (x[i] - mean) ** 2;
      means[c] = mean;
      scales[c] = 1 / Math.sqrt(squares / each + NORM_EPS);
    }
    return { means, scales };
  }

  // What batch norm makes of x, as it is or of the greatest of each 2 x 2.
  //   from: where each number stood in x, the first where several are equal.
  function normalise(x, size, { means, scales }, { gamma, beta }, { pool, relu }) {
    const side = pool ? Math.floor(size.side / 2) : size.side;
    const after = { ...size, side };
    const out = new Float32Array(count(after));
    const from = new Int32Array(out.length);
    const each = size.images * size.side * size.side;
    let to = 0;
    for (let c = 0; c < size.channels; c++) {
      const [mean, by, shift] = [means[c], scales[c] * gamma[c], beta[c]];
      const sign = Math.sign(by);
      for (let n = 0; n < size.images; n++) {
        for (let y = 0; y < side; y++) {
          const row = pool ? 2 * y : y;
          let at = c * each + (n * size.side + row) * size.side;
          for (let i = 0; i < side; i++, to++) {
            let best = at;
            if (pool) {
              // Compared before they are scaled, with the sign of the scale.
              const below = at + size.side;
              if (sign * x[at + 1] > sign * x[best]) best = at + 1;
              if (sign * x[below] > sign * x[best]) best = below;
              if (sign * x[below + 1] > sign * x[best]) best = below + 1;
              at += 2;
            } else at += 1;
            const value = (x[best] - mean) * by + shift;
            out[to] = relu && !(value > 0) ? 0 : value;
            from[to] = best;
          }
        }
      }
    }
    return { out, from, after };
  }

  // One block.  `statistics`: those of batch norm, or null for those of x itself.
  function block(matrices, x, size, weights, options, statistics) {
    const grown = { ...size, channels: options.width };
    const given = framed(x, size);
    const convolved = convolve(matrices, given, size, weights.conv, options.width);
    const seen = statistics ?? moments(convolved, options.width);
    const made = normalise(convolved, grown, seen, weights, options);
    return { given, size, grown, convolved, statistics: seen, options, ...made };
  }

  // The derivative of batch norm, pooling and ReLU by what they were given, gamma and beta.
  function normaliseBack({ convolved, statistics, options, out, from }, weights, slope) {
    const { width, relu } = options;
    const [each, few] = [convolved.length / width, slope.length / width];
    const gamma = new Float32Array(width);
    const beta = new Float32Array(width);
    const before = new Float32Array(convolved.length);
    for (let c = 0; c < width; c++) {
      const [mean, scale] = [statistics.means[c], statistics.scales[c]];
      const by = scale * weights.gamma[c];
      let [sum, along] = [0, 0];
      for (let i = c * few; i < (c + 1) * few; i++) {
        if (relu && !(out[i] > 0)) continue;
        sum += slope[i];
        along += slope[i] * (convolved[from[i]] - mean) * scale;
      }
      [gamma[c], beta[c]] = [along, sum];
      // Through the mean and the deviation each number has a share in all.
      const tilt = (-by * along * scale) / each;
      const level = (-by * sum) / each - tilt * mean;
      for (let i = c * each; i < (c + 1) * each; i++) before[i] = tilt * convolved[i] + level;
      for (let i = c * few; i < (c + 1) * few; i++) {
        if (!relu || out[i] > 0) before[from[i]] += by * slope[i];
      }
    }
    return { gamma, beta, before };
  }

  // Derivatives by the weights of a block and, unless it is the first, by what came in.
  function blockBack(matrices, made, weights, slope, first) {
    const { size, grown, options: { width } } = made;
    const { gamma, beta, before } = normaliseBack(made, weights, slope);
    const conv = convolveWeights(matrices, made.given, size, before, width);
    if (first) return { conv, gamma, beta };
    const back = turned(weights.conv, width, size.channels);
    const x = convolve(matrices, framed(before, grown), grown, back, size.channels);
    return { conv, gamma, beta, x };
  }

  // From pictures [images, side * side] to features, one row for each image, and all on the way.
  function body(matrices, network, weights, images, statistics) {
    let size = shape(1, images.length, network.side);
    let x = new Float32Array(count(size));
    images.forEach((image, i) => x.set(image, i * image.length));
    const blocks = weights.blocks.map((own, i) => {
      const options = {
        width: network.width,
        pool: i < network.halvings,
        relu: i < weights.blocks.length - 1 || !network.unit,
      };
      const made = block(matrices, x, size, own, options, statistics?.[i]);
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

  // Derivatives by all weights of the body, given those by the features.
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
    const slopesOf = [];
    for (let i = made.blocks.length - 1; i >= 0; i--) {
      slopesOf[i] = blockBack(matrices, made.blocks[i], weights.blocks[i], down, i === 0);
      down = slopesOf[i].x;
    }
    return slopesOf;
  }

  const linear = (rows, head) =>
    rows.map((row) => head.rows.map((own, c) => {
      let sum = head.bias[c];
      for (let i = 0; i < row.length; i++) sum += own[i] * row[i];
      return sum;
    }));

  function softmax(logits) {
    const most = Math.max(...logits);
    const parts = logits.map((v) => Math.exp(v - most));
    const sum = parts.reduce((a, b) => a + b);
    return parts.map((v) => v / sum);
  }

  // The mean over the support set of -log of the probability of the right class.
  function crossEntropy(logits, labels) {
    const losses = logits.map((row, i) => {
      const most = Math.max(...row);
      return most + Math.log(row.reduce((sum, v) => sum + Math.exp(v - most), 0)) - row[labels[i]];
    });
    return losses.reduce((a, b) => a + b) / losses.length;
  }

  function descend(weights, slopes, rate) {
    const out = new Float32Array(weights.length);
    for (let i = 0; i < out.length; i++) out[i] = weights[i] - rate * slopes[i];
    return out;
  }

  // The gradient of the inner loss, and one step along it.
  function innerStep(matrices, network, weights, support, logits, labels, ways) {
    const by = (network.per_shot ? ways : 1) / labels.length;
    const off = logits.map((row, n) => softmax(row).map((p, c) => by * (p - (c === labels[n] ? 1 : 0))));
    const features = support.features;
    const head = weights.head.rows.map((own, c) => {
      const slope = new Float32Array(own.length);
      features.forEach((row, n) => row.forEach((v, i) => (slope[i] += off[n][c] * v)));
      return slope;
    });
    const bias = weights.head.bias.map((_, c) => off.reduce((sum, row) => sum + row[c], 0));
    const down = features.map((row, n) => {
      const slope = new Float32Array(row.length);
      weights.head.rows.forEach((own, c) => own.forEach((v, i) => (slope[i] += off[n][c] * v)));
      return slope;
    });
    const rate = network.inner_lr;
    const body = bodyBack(matrices, network, weights, support, down);
    return {
      head: {
        rows: weights.head.rows.map((own, c) => descend(own, head[c], rate)),
        bias: descend(weights.head.bias, bias, rate),
      },
      blocks: weights.blocks.map((own, i) => ({
        conv: descend(own.conv, body[i].conv, rate),
        gamma: descend(own.gamma, body[i].gamma, rate),
        beta: descend(own.beta, body[i].beta, rate),
      })),
    };
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
    const stages = [];
    let weights = { blocks: network.blocks, head: null };
    if (network.head) {
      weights.head = {
        rows: Array.from({ length: ways }, () => network.head.row.slice()),
        bias: new Float32Array(ways).fill(network.head.bias),
      };
    }
    for (let step = 0; step <= (network.head ? steps : 0); step++) {
      const seen = body(matrices, network, weights, support, null);
      const given = together === null ? seen.statistics : null;
      const asked = sets.flatMap((set) => body(matrices, network, weights, set, given).features);
      const logits = (rows) =>
        network.head ? linear(rows, weights.head) : byDistance(rows, seen.features, labels, ways);
      const own = logits(seen.features);
      stages.push({
        support_loss: crossEntropy(own, labels),
        probabilities: logits(asked).map((row) => softmax(row.map((v) => v / network.temperature))),
      });
      if (network.head && step < steps) {
        weights = innerStep(matrices, network, weights, seen, own, labels, ways);
      }
    }
    return stages;
  };
});
