// The ink of a drawing, found, cropped and centred: innerloop.data.ink of Python, for square
// pictures of dark strokes.  There stands why each number is what it is.
"use strict";

(() => {
  const {
    alike, cellsOfBox, circleLike, cut, edges, enclosure, enclosureOf, frameTouched, framesOf, inOrder, isAllRound, mayBeDrawn,
    onLine, partsOf, percentile, resize, resizeNumbers, round, solve,
  } = innerloop;

  const LONGER_SIDE = 18 / 28;
  const [FAINT, NOISE, SPECK] = [0.35, 3, 0.02];
  const [DOT, DOTS] = [0.5, 3];
  const [CLEAR, CLEAN] = [0.1, 10];
  const [SHARP, NOISY, LOUD] = [0.5, 0.8, 0.14];
  const [ROUNDS, PAPER, FREE, SOLID] = [6, 2.5, 75, 0.6];
  const [FILLED, FEW, FEWEST] = [0.85, 16, 12];
  const [SHADOW, TABLE, DIM, UNEVEN] = [0.3, 0.12, 0.75, 0.02];
  const [SMOOTHED, SMALL] = [84, 32];
  // Of innerloop.data.likeness.
  const [BLUR, DIFFERENT, ALIKE] = [1.5 / 28, 0, 0.9];
  // DIFFERENT and ALIKE of innerloop.data.surroundings.
  const IN_A_FRAME = [0.5, 0.85];

  // The root of the mean square of some of the numbers.
  function spread(values, counts) {
    let [sum, count] = [0, 0];
    for (const v of values) {
      if (!counts(v)) continue;
      sum += v * v;
      count += 1;
    }
    return count ? Math.sqrt(sum / count) : 0;
  }

  // For each place of a picture the terms of a surface of second order: 1, u, v, uv, uu and vv.
  const TERMS = 6;
  const bases = new Map();

  function basis(side) {
    if (!bases.has(side)) {
      const axis = (i) => -1 + (2 * i) / (side - 1);
      const made = new Float64Array(TERMS * side * side);
      for (let i = 0; i < side * side; i++) {
        const [v, u] = [axis(Math.floor(i / side)), axis(i % side)];
        made.set([1, u, v, u * v, u * u, v * v], TERMS * i);
      }
      bases.set(side, made);
    }
    return bases.get(side);
  }

  // The surface of so many terms through the places that were chosen; null for too few of them.
  function fitted(x, terms, size, chosen) {
    const a = Array.from({ length: size }, () => new Float64Array(size));
    const b = new Float64Array(size);
    let count = 0;
    for (let i = 0; i < x.length; i++) {
      if (!chosen[i]) continue;
      count += 1;
      for (let j = 0; j < size; j++) {
        const term = terms[TERMS * i + j];
        b[j] += term * x[i];
        for (let k = 0; k <= j; k++) a[j][k] += term * terms[TERMS * i + k];
      }
    }
    if (count < 12) return null;
    for (let j = 0; j < size; j++) for (let k = 0; k < j; k++) a[k][j] = a[j][k];
    const weights = solve(a, b);
    return x.map((_, i) => {
      let sum = 0;
      for (let j = 0; j < size; j++) sum += weights[j] * terms[TERMS * i + j];
      return sum;
    });
  }

  // What stands out from the paper, and how far the paper's own pixels are from its brightness.
  function withoutPaper(x, side) {
    const values = inOrder(x);
    let middle = percentile(values, 50);
    const around = percentile(edges(x, side, side), FREE);
    if (middle - around > SOLID * (percentile(values, 99) - percentile(values, 1))) middle = around;
    let rest = x.map((v) => v - middle);
    let chosen = x.map((v) => (v <= middle + 1e-9 ? 1 : 0));
    let deviation = 0;
    for (let number = 0; number < ROUNDS; number++) {
      const surface = fitted(x, basis(side), number < 2 ? 3 : TERMS, chosen);
      if (!surface) break;
      rest = x.map((v, i) => v - surface[i]);
      deviation = spread(rest, (v) => v <= 0);
      const most = PAPER * Math.max(deviation, 1 / 255);
      const before = chosen;
      chosen = rest.map((v) => (Math.abs(v) <= most ? 1 : 0));
      // The same places again would give the same surface.
      if (number >= 2 && chosen.every((v, i) => v === before[i])) break;
    }
    return { rest, deviation };
  }

  // As scipy.ndimage.gaussian_filter.
  function smooth(x, side, sigma) {
    const radius = Math.floor(4 * sigma + 0.5);
    const weights = Array.from({ length: 2 * radius + 1 }, (_, i) =>
      Math.exp((-0.5 * (i - radius) ** 2) / sigma ** 2));
    const sum = weights.reduce((a, b) => a + b);
    const by = weights.map((w) => w / sum);
    const mirrored = (i) => (i < 0 ? -1 - i : i >= side ? 2 * side - 1 - i : i);
    const along = (from, step) => from.map((_, i) => {
      const at = Math.floor(i / step) % side;
      const start = i - at * step;
      let total = 0;
      for (let k = 0; k < by.length; k++) total += by[k] * from[start + mirrored(at + k - radius) * step];
      return total;
    });
    return along(along(x, side), 1);
  }

  // The least (sign -1: the most) of each place and `by` more to both sides, along rows and columns;
  // in blocks of a window's length, whose beginnings and ends make up any window (van Herk 1992).
  function least(x, side, by, sign = 1) {
    const size = 2 * by + 1;
    const length = size * Math.ceil((side + 2 * by) / size);
    const [line, first, last] = [0, 0, 0].map(() => new Float64Array(length));
    const found = Float64Array.from(x, (v) => sign * v);
    for (const [step, next] of [[1, side], [side, 1]]) {
      for (let start = 0, at = 0; at < side; at++, start += next) {
        line.fill(Infinity);
        for (let i = 0; i < side; i++) line[by + i] = found[start + i * step];
        for (let i = 0; i < length; i++) first[i] = i % size ? Math.min(first[i - 1], line[i]) : line[i];
        for (let i = length - 1; i >= 0; i--) {
          last[i] = (i + 1) % size ? Math.min(last[i + 1], line[i]) : line[i];
        }
        for (let i = 0; i < side; i++) found[start + i * step] = Math.min(last[i], first[i + size - 1]);
      }
    }
    return found.map((v) => sign * v);
  }

  // What is left without all that is narrow and lighter than its surroundings; beyond its edges the
  // picture goes on as it is there, or as paper.
  function opened(x, side, share, paper = false) {
    const size = Math.max(3, round(share * side)) | 1;
    const whole = side + 2 * size;
    const smoothed = smooth(x, side, Math.min(1, side / SMOOTHED));
    const within = (i) => Math.min(side - 1, Math.max(0, i));
    const padded = Float64Array.from({ length: whole * whole }, (_, i) => {
      const [v, u] = [Math.floor(i / whole) - size, (i % whole) - size];
      const outside = v !== within(v) || u !== within(u);
      return paper && outside ? 0 : smoothed[within(v) * side + within(u)];
    });
    const by = (size - 1) / 2;
    const found = least(least(padded, whole, by), whole, by, -1);
    return x.map((_, i) => found[(Math.floor(i / side) + size) * whole + (i % side) + size]);
  }

  // Where a square as wide as shadows, all of it in the picture, is as dark as these.
  function inner(x, side, paper) {
    const strength = percentile(inOrder(x), 99.5) - paper;
    return opened(x.map((v) => v - paper), side, SHADOW, true)
      .map((v) => (v > (FAINT / 2) * strength && v < DIM * strength ? 1 : 0));
  }

  // How far what is wide, and reaches the picture's edges, stands out; see _wide of Python.
  function wide(rest, side, share, holding = null) {
    const level = opened(rest, side, share);
    const limit = (FAINT / 2) * percentile(inOrder(rest), 99.5);
    const parts = partsOf(Uint8Array.from(level, (v) => (v > limit ? 1 : 0)), side)
      .filter((part) => part.some((i) => atEdge(i, side)) && (!holding || part.some((i) => holding[i])));
    let near = new Uint8Array(rest.length);
    for (const i of parts.flat()) near[i] = 1;
    const reach = Math.max(1, Math.floor(round(share * side) / 2));
    for (let i = 0; i < reach; i++) near = grown(near, side);
    return level.map((v, i) => (near[i] ? Math.max(0, v) : 0));
  }

  const atEdge = (i, side) =>
    i < side || i >= side * (side - 1) || i % side === 0 || i % side === side - 1;

  const less = (rest, out) => rest.map((v, i) => (out[i] > 0 ? Math.max(0, v - out[i]) : v));

  // Of the parts of a mask, those that are no specks.
  function withoutSpecks(parts, above, side) {
    if (parts.length < 2) return parts;
    const amounts = parts.map((part) => part.reduce((sum, i) => sum + above[i], 0));
    const least = SPECK * amounts.reduce((a, b) => a + b);
    const strokes = parts.filter((_, number) => amounts[number] >= least).flat();
    if (!strokes.length) return [];
    const inside = new Set(strokes);
    const outline = strokes.filter((i) =>
      atEdge(i, side) || ![i - 1, i + 1, i - side, i + side].every((j) => inside.has(j)));
    const width = (2 * strokes.length) / outline.length;
    const dot = DOT * width ** 2 * (strokes.reduce((sum, i) => sum + above[i], 0) / strokes.length);
    const few = amounts.filter((amount) => amount < least && amount >= dot).length <= DOTS;
    return parts.filter((_, number) => amounts[number] >= least || (few && amounts[number] >= dot));
  }

  function maskOf(places, side, value = 1) {
    const mask = new Uint8Array(side * side);
    for (const i of places) mask[i] = value;
    return mask;
  }

  // `mask` and what is next to it.
  function grown(mask, side) {
    return mask.map((own, i) => {
      const x = i % side;
      return own || mask[i - side] || mask[i + side] || (x && mask[i - 1]) || (x < side - 1 && mask[i + 1]) ? 1 : 0;
    });
  }

  // The drawing in grey bytes of `side` x `side`: { strokes, height, width } from 0 to 1, the
  // `pixels` of the picture's side, the drawing's longer `share` of it, its `places`, the cells of
  // its `frame`, its `enclosure`, whether it `reaches` an edge of the picture and is `edged`; null
  // where there is none.
  function findInk(bytes, side, frame = null, but = null, edges = false, ring = null) {
    const x = Float64Array.from(bytes, (v) => 1 - v / 255);
    let { rest, deviation } = withoutPaper(x, side);
    if (side < SMALL) return drawingIn(rest, side, deviation, frame, but, ring);
    if (deviation > UNEVEN && inner(x, side, percentile(inOrder(x), 30)).some(Boolean)) {
      const base = opened(x, side, SHADOW);
      const other = withoutPaper(x.map((v, i) => v - base[i]), side);
      if (2 * other.deviation < deviation) ({ rest, deviation } = other);
    }
    const shadow = wide(rest, side, SHADOW, inner(rest, side, 0));
    const found = drawingIn(less(rest, shadow), side, deviation, frame, but, ring);
    if (!found?.reaches) return found;
    const table = wide(rest, side, TABLE);
    const out = shadow.map((v, i) => Math.max(v, table[i]));
    const within = drawingIn(less(rest, out), side, deviation, frame, but, ring);
    if (!within) return found;
    const kept = new Set(within.places);
    const beside = (i) => [-1, 0, 1].some((v) => [-1, 0, 1].some((u) =>
      kept.has(i + v * side + u) && Math.abs((i % side) - ((i + v * side + u + side) % side)) <= 1));
    const allRound = found.frame !== null && isAllRound(found.frame);
    const edged = !allRound && !within.reaches && !found.places.some((i) => !kept.has(i) && beside(i));
    return { ...((edges === "apart" ? edged : edges) ? within : found), edged };
  }

  // The drawing in what stands out from the paper; see `findInk`.
  function drawingIn(ink, side, noise, frame, but, ring) {
    let above = smooth(ink, side, SHARP);
    let sorted = inOrder(above);
    if (noise > LOUD * percentile(sorted, 99)) {
      above = smooth(ink, side, NOISY);
      sorted = inOrder(above);
    }
    let strength = percentile(sorted, ink.length > 600 ? 99.5 : 98);
    const deviation = spread(above, (v) => v < 0);
    const darkest = sorted.at(-1);
    if (strength < CLEAR && darkest > Math.max(CLEAR, CLEAN * deviation)) strength = darkest;
    const limit = Math.max(FAINT * strength, NOISE * deviation);
    if (strength < Math.max(0.06, limit)) return null;
    const parts = withoutSpecks(partsOf(Uint8Array.from(above, (v) => (v > limit ? 1 : 0)), side), above, side);
    const all = parts.flat();
    const frames = framesOf(parts, side);
    let own = frames.flat();
    const ownCells = cellsOfBox(own, side);
    const others = () => parts.filter((part) => !frames.includes(part)).flat();
    const roundRest = own.length ? enclosure(own, others(), side) : enclosureOf(parts, side);
    if (frame && !(ownCells && alike(ownCells, frame))) own = frameTouched(parts, side, frame);
    const stays = !but || but.some((learnt) => roundRest && mayBeDrawn(roundRest, learnt));
    const out = new Set(frame || !stays ? own : []);
    const drawn = all.filter((i) => !out.has(i));
    let places = drawn.length ? drawn : all;
    const circle = ring === null ? null : circleLike(places, side, ring);
    if (circle) {
      const rest = maskOf(places.filter((i) => !onLine(i, side, circle)), side);
      places = withoutSpecks(partsOf(rest, side), above, side).flat();
    }
    if (!places.length) return null;
    places.sort((a, b) => a - b);
    const mask = maskOf(places, side);
    const columns = places.map((i) => i % side);
    const [left, right] = [Math.min(...columns), Math.max(...columns) + 1];
    const [top, bottom] = [Math.floor(places[0] / side), Math.floor(places.at(-1) / side) + 1];
    let near = mask;
    for (let i = 0; i < 1 + Math.floor(side / 56); i++) near = grown(near, side);
    const inked = inOrder(places.map((i) => ink[i]));
    // Of a dot less than a third of the mask is ink, the rest what blurring made of it.
    const full = Math.max(percentile(inked, 70), FAINT * inked.at(-1));
    const [height, width] = [bottom - top, right - left];
    const strokes = Float32Array.from({ length: height * width }, (_, i) => {
      const at = (top + Math.floor(i / width)) * side + left + (i % width);
      return near[at] ? Math.min(1, Math.max(0, ink[at] / full)) : 0;
    });
    const share = Math.max(height, width) / side;
    const reaches = places.some((i) => atEdge(i, side));
    return {
      strokes, height, width, pixels: side, share, places, frame: ownCells, enclosure: roundRest, reaches, edged: false,
    };
  }

  // What was found on blank paper of `size` x `size`, in the middle, its longer side 18 of 28.
  function onBlankPaper({ strokes, height, width }, size) {
    const scale = (LONGER_SIDE * size) / Math.max(height, width);
    const [h, w] = [height, width].map((n) => Math.max(1, round(n * scale)));
    const made = resizeNumbers(strokes, height, width, h, w);
    const bytes = new Uint8Array(size * size).fill(255);
    const [top, left] = [Math.floor((size - h) / 2), Math.floor((size - w) / 2)];
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const value = Math.min(1, Math.max(0, made[y * w + x]));
        bytes[(top + y) * size + left + x] = round(255 * (1 - value));
      }
    }
    return bytes;
  }

  // Whether it helps, by what was found in each picture of the support set.
  function worthFinding(inks) {
    const found = inks.filter((ink) => ink !== null);
    if (2 * found.length <= inks.length) return false;
    if (2 * found.filter((ink) => ink.reaches).length > found.length) return false;
    const [share, pixels] = ["share", "pixels"].map((name) =>
      percentile(inOrder(found.map((ink) => ink[name])), 50));
    return pixels > FEW || (share < FILLED && pixels > FEWEST);
  }

  // The blurred mean of some pictures, less its own mean, of length 1; of one brightness, 0.
  function meanOf(pictures, side) {
    const sum = Float64Array.from({ length: side * side }, (_, i) =>
      pictures.reduce((all, pixels) => all + pixels[i], 0) / pictures.length);
    const blurred = smooth(sum, side, BLUR * side);
    const middle = blurred.reduce((a, b) => a + b) / blurred.length;
    const rest = blurred.map((v) => v - middle);
    const length = Math.max(1, Math.hypot(...rest));
    return rest.map((v) => v / length);
  }

  // Whether preparation makes most classes alike that differ as they are; see
  // innerloop.data.likeness of Python.  Both are lists of pictures by class.
  function mostAreAlike(given, prepared, side, different = DIFFERENT, alike = ALIKE) {
    const [before, after] = [given, prepared].map((classes) => classes.map((own) => meanOf(own, side)));
    const along = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
    const found = given.filter((_, i) => given.some((_own, j) =>
      i !== j && along(before[i], before[j]) < different && along(after[i], after[j]) > alike));
    return 2 * found.length > given.length;
  }

  // Whether most classes differ in the place of what is inside a frame; see
  // innerloop.data.surroundings of Python.  `inks` by class, as `within`, the circle of each in which
  // place counts; null for all of the picture.
  function placeTells(inks, side, different = IN_A_FRAME[0], within = null) {
    if (inks.flat().includes(null)) return false;
    const placed = inks.map((own, c) => own.map(({ places, pixels }, i) => {
      const mask = maskOf(places, pixels, 255);
      const part = within ? cut(mask, pixels, within[c][i]) : { pixels: mask, side: pixels };
      return resize(part.pixels, part.side, side);
    }));
    const prepared = inks.map((own) => own.map((ink) => onBlankPaper(ink, side)));
    return mostAreAlike(placed, prepared, side, different, IN_A_FRAME[1]);
  }

  Object.assign(innerloop, { findInk, mostAreAlike, onBlankPaper, placeTells, worthFinding });
})();
