// Pictures made smaller as Pillow does it, to the last bit: a Lanczos filter, for bytes with whole
// numbers.
"use strict";

innerloop.define((innerloop) => {
  const LOBES = 3;
  const ONE = 2 ** 22;

  const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
  const lanczos = (x) => (Math.abs(x) < LOBES ? sinc(x) * sinc(x / LOBES) : 0);

  // For each pixel of `size` the first of `length` pixels that it is made of, and their weights.
  function weights(length, size) {
    const scale = length / size;
    const wide = Math.max(scale, 1);
    return Array.from({ length: size }, (_, i) => {
      const centre = (i + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - LOBES * wide + 0.5));
      const last = Math.min(length, Math.trunc(centre + LOBES * wide + 0.5));
      const each = [];
      for (let x = first; x < last; x++) each.push(lanczos((x - centre + 0.5) / wide));
      const sum = each.reduce((a, b) => a + b, 0);
      return { first, by: each.map((v) => v / sum) };
    });
  }

  const whole = (v) => Math.trunc(v * ONE + (v < 0 ? -0.5 : 0.5));
  const byte = (sum) => Math.min(255, Math.max(0, Math.floor(sum / ONE + 0.5)));

  // `rows` rows of `length` numbers to rows of `size`, laid out column by column.
  function rowsTo(out, values, rows, length, size, weight, value) {
    weights(length, size).forEach(({ first, by }, x) => {
      const own = by.map(weight);
      for (let y = 0; y < rows; y++) {
        let sum = 0;
        for (let k = 0; k < own.length; k++) sum += own[k] * values[y * length + first + k];
        out[x * rows + y] = value(sum);
      }
    });
    return out;
  }

  // A square picture of grey bytes, made `size` pixels a side.
  innerloop.resize = (pixels, side, size) => {
    if (side === size) return pixels;
    const across = rowsTo(new Uint8Array(side * size), pixels, side, side, size, whole, byte);
    return rowsTo(new Uint8Array(size * size), across, size, side, size, whole, byte);
  };

  // Numbers [height, width], made [h, w].
  innerloop.resizeNumbers = (values, height, width, h, w) => {
    const same = (v) => v;
    const across = rowsTo(new Float32Array(height * w), values, height, width, w, same, same);
    return rowsTo(new Float32Array(h * w), across, w, height, h, same, same);
  };
});
