// What runs round drawings and is no part of them: innerloop.data.frames of Python, for square
// pictures.  There stands why each number is what it is.
"use strict";

(() => {
  const [ROUND, GRID, ALIKE] = [0.8, 14, 0.9];

  // The places of each part of a mask that hangs together.
  function partsOf(mask, side) {
    const seen = new Uint8Array(mask.length);
    const parts = [];
    for (let start = 0; start < mask.length; start++) {
      if (!mask[start] || seen[start]) continue;
      const part = [start];
      seen[start] = 1;
      for (let next = 0; next < part.length; next++) {
        const i = part[next];
        const [y, x] = [Math.floor(i / side), i % side];
        for (let v = Math.max(0, y - 1); v <= Math.min(side - 1, y + 1); v++) {
          for (let u = Math.max(0, x - 1); u <= Math.min(side - 1, x + 1); u++) {
            const at = v * side + u;
            if (!mask[at] || seen[at]) continue;
            seen[at] = 1;
            part.push(at);
          }
        }
      }
      parts.push(part);
    }
    return parts;
  }

  // The rows and columns that some places span: [top, bottom, left, right].
  function boxOf(places, side) {
    let [top, bottom, left, right] = [side, 0, side, 0];
    for (const i of places) {
      const [y, x] = [Math.floor(i / side), i % side];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
      [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    }
    return [top, bottom, left, right];
  }

  // Whether a part has something of the middle half of a box.
  function inMiddle(part, side, [top, bottom, left, right]) {
    const [down, along] = [Math.floor((bottom - top) / 4), Math.floor((right - left) / 4)];
    return part.some((i) => {
      const [y, x] = [Math.floor(i / side), i % side];
      return y >= top + down && y < bottom - down && x >= left + along && x < right - along;
    });
  }

  // The parts that run round the rest near all four edges of a picture; none if nothing else.
  function framesOf(parts, side) {
    const found = parts.filter((part) => {
      const [top, bottom, left, right] = boxOf(part, side);
      const across = Math.min((bottom - top) / side, (right - left) / side);
      return across >= ROUND && !inMiddle(part, side, [0, side, 0, side]);
    });
    return found.length < parts.length ? found : [];
  }

  // Whether one part runs round all others.
  function isEnclosed(parts, side) {
    const all = boxOf(parts.flat(), side).join();
    return parts.length > 1 && parts.some((part) => {
      const box = boxOf(part, side);
      return box.join() === all && !inMiddle(part, side, box);
    });
  }

  // The cells of a grid that places have: a set of numbers.
  const cellOf = (i, side) =>
    Math.floor((Math.floor(i / side) * GRID) / side) * GRID + Math.floor(((i % side) * GRID) / side);
  const cells = (places, side) => new Set(places.map((i) => cellOf(i, side)));

  // Whether cells `a` or those next to them have nearly all of `b`.
  function covers(a, b) {
    let count = 0;
    for (const cell of b) {
      const [y, x] = [Math.floor(cell / GRID), cell % GRID];
      const near = [-1, 0, 1].some((v) => [-1, 0, 1].some((u) =>
        y + v >= 0 && y + v < GRID && x + u >= 0 && x + u < GRID && a.has((y + v) * GRID + x + u)));
      if (near) count += 1;
    }
    return count >= ALIKE * b.size;
  }

  const alike = (a, b) => covers(a, b) && covers(b, a);

  // The frame that runs round most of the drawings, of those that have one; null where none does.
  function sharedFrame(frames) {
    const found = frames.filter((frame) => frame);
    const numbers = found.map((frame) => found.filter((other) => alike(frame, other)).length);
    const most = Math.max(0, ...numbers);
    return 2 * most > frames.length ? found[numbers.indexOf(most)] : null;
  }

  // Whether cells lie along most of each of the four edges.
  function isAllRound(own) {
    const along = (at) => {
      let count = 0;
      for (let i = 0; i < GRID; i++) count += own.has(at(i));
      return 2 * count > GRID;
    };
    const last = GRID * (GRID - 1);
    return along((i) => i) && along((i) => last + i) && along((i) => i * GRID) && along((i) => i * GRID + GRID - 1);
  }

  Object.assign(innerloop, {
    alike, cellOf, cells, covers, framesOf, isAllRound, isEnclosed, partsOf, sharedFrame,
  });
})();
