// What runs round drawings and is no part of them: innerloop.data.frames of Python, for square
// pictures.  There stands why each number is what it is.
"use strict";

(() => {
  const { inOrder, percentile, round } = innerloop;

  const [ROUND, GRID, ALIKE] = [0.8, 14, 0.9];
  const [CORNER, MOST, STRAIGHT, SLANT] = [0.15, 0.8, 0.02, 0.12];
  const [SPAN, FACTOR, TINY] = [0.15, 1.4, 1e-9];

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

  const median = (values) => percentile(inOrder(values), 50);

  const spans = ([top, bottom, left, right], side) =>
    Math.min((bottom - top) / side, (right - left) / side) >= ROUND;

  // The line along one side of a part that `at(i, j)` shows, `j` from that side on: how deep it lies
  // at each `i`, [from, to]; null where it is not straight.
  function lineOf(at, length, across) {
    const line = Array.from({ length }, (_, i) => {
      let from = 0;
      while (!at(i, from)) from += 1;
      let to = from;
      while (to < across && at(i, to)) to += 1;
      return [from, to];
    });
    const corner = round(CORNER * length);
    const along = line.slice(corner, length - corner);
    const outline = along.map(([from]) => from);
    const count = outline.length;
    const third = Math.floor(count / 3);
    if (!third) return null;
    const ends = median(outline.slice(-third)) - median(outline.slice(0, third));
    const rest = outline.map((v, i) => v - (ends / (count - third)) * i);
    const middle = median(rest);
    const away = inOrder(rest.map((v) => Math.abs(v - middle)));
    const number = Math.floor(MOST * (count - 1));
    if (away[number] > Math.max(STRAIGHT * length, 0.5) + TINY) return null;
    if (inOrder(outline)[number] > SLANT * across) return null;
    const usual = median(along.map(([from, to]) => to - from));
    return line.map(([from, to]) => [from, to - from > 2 * usual ? from + usual : to]);
  }

  // The places of a part that are the lines of a box; null where its outline is none of a box.
  function linesOf(part, side) {
    const inside = new Set(part);
    const [top, bottom, left, right] = boxOf(part, side);
    const [height, width] = [bottom - top, right - left];
    const found = new Set();
    for (const [length, across, placeOf] of [
      [height, width, (i, j) => (top + i) * side + left + j],
      [height, width, (i, j) => (top + i) * side + right - 1 - j],
      [width, height, (i, j) => (top + j) * side + left + i],
      [width, height, (i, j) => (bottom - 1 - j) * side + left + i],
    ]) {
      const line = lineOf((i, j) => inside.has(placeOf(i, j)), length, across);
      if (!line) return null;
      line.forEach(([from, to], i) => {
        for (let j = from; j < to; j++) found.add(placeOf(i, j));
      });
    }
    return [...found];
  }

  // The parts that run round the rest near all four edges of a picture; none if nothing else.
  function framesOf(parts, side) {
    const found = parts.filter((part) =>
      spans(boxOf(part, side), side) && !inMiddle(part, side, [0, side, 0, side]));
    return found.length < parts.length ? found : [];
  }

  // The cells of a frame; null where there is none, or it is no box.
  const cellsOfBox = (frame, side) => (frame.length && linesOf(frame, side) ? cells(frame, side) : null);

  // The lines of a box like `frame` that hangs together with what is inside it, or is in pieces.
  function frameTouched(parts, side, frame) {
    const lines = parts.flatMap((part) => {
      const found = spans(boxOf(part, side), side) ? linesOf(part, side) : null;
      return found ?? (covers(frame, cells(part, side)) ? part : []);
    });
    return alike(cells(lines, side), frame) ? lines : [];
  }

  // The width of strokes in pixels.
  function penOf(places, side) {
    const inside = new Set(places);
    let sides = 0;
    for (const i of places) {
      sides += !inside.has(i - side) + !inside.has(i + side);
      sides += (i % side === 0 || !inside.has(i - 1)) + (i % side === side - 1 || !inside.has(i + 1));
    }
    return (2 * places.length) / sides;
  }

  // The part that runs round all others, wherever in the picture; null without one.
  function enclosureOf(parts, side) {
    if (parts.length < 2) return null;
    const all = boxOf(parts.flat(), side).join();
    const found = parts.find((part) => {
      const box = boxOf(part, side);
      return box.join() === all && !inMiddle(part, side, box);
    });
    return found ? enclosure(found, parts.filter((part) => part !== found).flat(), side) : null;
  }

  // Of the places of a part and of the ink within.
  function enclosure(part, within, side) {
    const box = boxOf(part, side);
    const [[height, width], [h, w]] = [box, boxOf(within, side)].map(
      ([top, bottom, left, right]) => [bottom - top, right - left]);
    const span = Math.max(h / height, w / width);
    const [pen, straight] = [penOf(part, side) / penOf(within, side), linesOf(part, side) !== null];
    return { cells: cells(part, side, box), span, aspect: height / width, pen, straight };
  }

  // Whether an enclosure could be part of a character that was learnt with another.
  function mayBeDrawn(found, learnt) {
    const factors = [found.aspect / learnt.aspect, found.pen / learnt.pen];
    const near = Math.abs(found.span - learnt.span) <= SPAN;
    const same = near && factors.every((v) => 1 / FACTOR <= v && v <= FACTOR);
    return (same || !found.straight) && alike(found.cells, learnt.cells);
  }

  // Whether the frames of some could be what others have farther from the edges; see
  // innerloop.data.surroundings of Python.
  function alsoWithin(inks) {
    const enclosed = inks.filter((ink) => ink?.enclosure);
    const others = enclosed.filter((ink) => !ink.frame);
    return enclosed.some((one) =>
      one.frame && others.some((other) => mayBeDrawn(one.enclosure, other.enclosure)));
  }

  // The cells of a grid over a box that places have: a set of numbers.
  function cells(places, side, [top, bottom, left, right] = [0, side, 0, side]) {
    const cellOf = (at, low, high) => Math.floor(((at - low) * GRID) / (high - low));
    return new Set(places.map((i) =>
      GRID * cellOf(Math.floor(i / side), top, bottom) + cellOf(i % side, left, right)));
  }

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
    alike, alsoWithin, boxOf, cells, cellsOfBox, enclosure, enclosureOf, frameTouched, framesOf, isAllRound, linesOf, mayBeDrawn,
    partsOf, sharedFrame,
  });
})();
