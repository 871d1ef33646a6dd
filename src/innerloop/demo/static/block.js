// A block of Conv4 and its derivatives: 3 x 3 convolution, batch norm, max-pooling and ReLU.
// Activations are [channels, images, height, width], so that a channel is one run of numbers.
"use strict";

innerloop.define((innerloop) => {
  const { TILE_COLUMNS } = innerloop;
  const NORM_EPS = 1e-5; // of batch norm

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

  Object.assign(innerloop, { block, blockBack, count, shape });
});
