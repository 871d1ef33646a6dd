// Pictures made smaller as Pillow does it, to the last bit: a Lanczos filter with whole numbers.
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
      return { first, by: each.map((v) => Math.trunc((v / sum) * ONE + (v < 0 ? -0.5 : 0.5))) };
    });
  }

  // `rows` rows of `length` bytes to rows of `size`, laid out column by column.
  function rowsTo(pixels, rows, length, size) {
    const out = new Uint8Array(rows * size);
    weights(length, size).forEach(({ first, by }, x) => {
      for (let y = 0; y < rows; y++) {
        let sum = ONE / 2;
        for (let k = 0; k < by.length; k++) sum += by[k] * pixels[y * length + first + k];
        out[x * rows + y] = Math.min(255, Math.max(0, Math.floor(sum / ONE)));
      }
    });
    return out;
  }

  // A square picture of grey bytes, made `size` pixels a side.
  innerloop.resize = (pixels, side, size) =>
    side === size ? pixels : rowsTo(rowsTo(pixels, side, side, size), size, side, size);
});
