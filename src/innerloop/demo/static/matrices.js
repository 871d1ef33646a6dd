// Products of matrices, tile by tile: in WebAssembly with four numbers at a time where the browser
// has that, else in JavaScript.
"use strict";

innerloop.define((innerloop) => {
  const [ROWS, COLUMNS] = [4, 8]; // of a tile
  const PAGE = 65536; // bytes of WebAssembly memory

  // A tile of C = A B: A packed as [depth, ROWS], B as [depth, COLUMNS], the rows of C `wide` apart.
  function tileInJavaScript(f, a, b, c, depth, wide) {
    const sums = new Float64Array(ROWS * COLUMNS);
    for (let k = 0; k < depth; k++, a += ROWS, b += COLUMNS) {
      for (let i = 0; i < ROWS; i++) {
        const left = f[a + i];
        for (let j = 0; j < COLUMNS; j++) sums[i * COLUMNS + j] += left * f[b + j];
      }
    }
    for (let i = 0; i < ROWS; i++) f.set(sums.subarray(i * COLUMNS, (i + 1) * COLUMNS), c + i * wide);
  }

  // The same as a module of WebAssembly, written out byte by byte: a toolchain would be a
  // thousand times as large.  It has one function (a, b, c: addresses in bytes; depth; wide: in
  // bytes).
  //   together: multiply and add in one instruction, which not every browser has.
  function tileModule(together) {
    const number = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...number(n >> 7)]);
    const section = (id, ...bytes) => [id, ...number(bytes.flat().length), ...bytes.flat()];
    const text = (s) => [s.length, ...new TextEncoder().encode(s)];
    const [I32, V128, EMPTY] = [0x7f, 0x7b, 0x40];
    const [A, B, C, DEPTH, WIDE, LEFT, RIGHT, SUMS] = [0, 1, 2, 3, 4, 5, 6, 8];
    const get = (local) => [0x20, local];
    const set = (local) => [0x21, local];
    const integer = (n) => [0x41, n];
    const simd = (n) => [0xfd, ...number(n)];
    const [LOAD, LOAD_SPLAT, STORE, ADD, MULTIPLY] = [0x00, 0x09, 0x0b, 0xe4, 0xe6];
    const MULTIPLY_ADD = 0x105;
    const at = (offset) => [2, ...number(offset)]; // aligned to 2**2 bytes
    const quads = COLUMNS / 4;
    const body = [0x03, EMPTY]; // loop
    for (let q = 0; q < quads; q++) body.push(get(B), simd(LOAD), at(16 * q), set(RIGHT + q));
    for (let i = 0; i < ROWS; i++) {
      body.push(get(A), simd(LOAD_SPLAT), at(4 * i), set(LEFT));
      for (let q = 0; q < quads; q++) {
        const sum = SUMS + i * quads + q;
        const add = together
          ? [get(LEFT), get(RIGHT + q), get(sum), simd(MULTIPLY_ADD)]
          : [get(LEFT), get(RIGHT + q), simd(MULTIPLY), get(sum), simd(ADD)];
        body.push(...add, set(sum));
      }
    }
    body.push(get(A), integer(4 * ROWS), 0x6a, set(A)); // a += ...
    body.push(get(B), integer(4 * COLUMNS), 0x6a, set(B));
    // depth -= 1, and again while it is not 0.
    body.push(get(DEPTH), integer(1), 0x6b, 0x22, DEPTH, 0x0d, 0, 0x0b);
    for (let i = 0; i < ROWS; i++) {
      for (let q = 0; q < quads; q++) body.push(get(C), get(SUMS + i * quads + q), simd(STORE), at(16 * q));
      body.push(get(C), get(WIDE), 0x6a, set(C));
    }
    const code = [1, ...number(1 + quads + ROWS * quads), V128, ...body.flat(), 0x0b];
    return new Uint8Array([
      ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, [1, 0x60, 5, I32, I32, I32, I32, I32, 0]), // one type: five integers to nothing
      ...section(2, [1, ...text("page"), ...text("memory"), 2, 0, 1]),
      ...section(3, [1, 0]),
      ...section(7, [1, ...text("tile"), 0, 0]),
      ...section(10, [1, ...number(code.length), ...code]),
    ]);
  }

  class Matrices {
    // `plain`: without WebAssembly, whatever the browser has.
    constructor(plain = false) {
      this.memory = { buffer: new ArrayBuffer(PAGE), grow: (pages) => this.grown(pages) };
      this.tile = (a, b, c, depth, wide) =>
        tileInJavaScript(this.floats, a / 4, b / 4, c / 4, depth, wide / 4);
      this.fast = false;
      if (!plain) {
        try {
          const memory = new WebAssembly.Memory({ initial: 1 });
          const best = tileModule(true);
          const module = new WebAssembly.Module(WebAssembly.validate(best) ? best : tileModule(false));
          this.tile = new WebAssembly.Instance(module, { page: { memory } }).exports.tile;
          this.memory = memory;
          this.fast = true;
        } catch {
          // No WebAssembly, none with four numbers at a time, or a page that may not compile any.
        }
      }
      this.floats = new Float32Array(this.memory.buffer);
    }

    grown(pages) {
      const larger = new ArrayBuffer(this.memory.buffer.byteLength + PAGE * pages);
      new Uint8Array(larger).set(new Uint8Array(this.memory.buffer));
      this.memory.buffer = larger;
    }

    reserve(floats) {
      const more = 4 * floats - this.memory.buffer.byteLength;
      if (more <= 0) return;
      this.memory.grow(Math.ceil(more / PAGE));
      this.floats = new Float32Array(this.memory.buffer);
    }

    // [rows, columns] = A [rows, depth] times B [depth, columns].
    //   a: the numbers of A, row by row.
    //   pack(floats, start, column, count): writes columns `column` to `column + count` of B to
    //   floats[start + depth index * 8 + column index].
    multiply(a, rows, depth, columns, pack) {
      const heights = Math.ceil(rows / ROWS);
      const wide = Math.ceil(columns / COLUMNS) * COLUMNS;
      const b = heights * ROWS * depth;
      const c = b + COLUMNS * depth;
      this.reserve(c + heights * ROWS * wide);
      const f = this.floats;
      f.fill(0, (rows - (rows % ROWS)) * depth, b); // the rows that the last tile lacks
      for (let i = 0; i < rows; i++) {
        let to = (i - (i % ROWS)) * depth + (i % ROWS);
        for (let from = i * depth; from < (i + 1) * depth; from++, to += ROWS) f[to] = a[from];
      }
      for (let column = 0; column < columns; column += COLUMNS) {
        const count = Math.min(COLUMNS, columns - column);
        if (count < COLUMNS) f.fill(0, b, c);
        pack(f, b, column, count);
        for (let row = 0; row < rows; row += ROWS) {
          this.tile(4 * row * depth, 4 * b, 4 * (c + row * wide + column), depth, 4 * wide);
        }
      }
      const out = new Float32Array(rows * columns);
      for (let row = 0; row < rows; row++) {
        out.set(f.subarray(c + row * wide, c + row * wide + columns), row * columns);
      }
      return out;
    }
  }

  innerloop.Matrices = Matrices;
  innerloop.TILE_COLUMNS = COLUMNS;
});
