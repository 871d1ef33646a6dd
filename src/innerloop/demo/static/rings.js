// Circles that are printed round drawings, wherever in a picture: innerloop.data.rings of Python, and
// printed_ring of innerloop.data.frames, for square pictures.  There stands why each number is what
// it is.
"use strict";

(() => {
  const { alike, boxOf, cells, framesOf, inOrder, linesOf, partsOf, percentile, round, solve } = innerloop;

  const [DIRECTIONS, FITS, LEFT_OUT] = [72, 6, 0.25];
  const [TRUE, EDGE] = [0.02, 0.75];
  const [WHOLE, MOST] = [0.95, 0.8];
  const [RADIUS, SIZE] = [16, 0.2];
  const [PEN, FACTOR] = [0.3, 1.7];
  const [SAME_PLACE, RINGS, TINY] = [0.02, 3, 1e-9];

  const median = (values) => percentile(inOrder(values), 50);
  const away = (i, side, { row, column }) => Math.hypot(Math.floor(i / side) - row, (i % side) - column);

  // Where the line of a circle may be.
  const onLine = (i, side, circle) => {
    const far = away(i, side, circle);
    return far > circle.radius - circle.pen - 1.5 && far < circle.radius + 1.5;
  };

  // The square that a circle fills, of bytes that go on in black; { pixels, side }.
  function cut(bytes, side, { row, column, radius }) {
    const half = round(radius);
    const [top, left, size] = [round(row) - half, round(column) - half, 2 * half + 1];
    const inside = (v) => v >= 0 && v < side;
    const pixels = Uint8Array.from({ length: size * size }, (_, i) => {
      const [y, x] = [top + Math.floor(i / size), left + (i % size)];
      return inside(y) && inside(x) ? bytes[y * side + x] : 0;
    });
    return { pixels, side: size };
  }

  // The circle in each picture, if they are printed round all drawings; else null.
  function printedCircles(inks) {
    if (inks.length < RINGS) return null;
    const found = [];
    for (const { places, pixels } of inks) {
      const circle = circleOf(places, pixels, WHOLE);
      if (!circle) return null;
      found.push(circle);
    }
    const usual = usualPen(found);
    return found.every((circle) => isLike(circle, usual)) ? found : null;
  }

  // The width of the line by the radius.
  const usualPen = (circles) => median(circles.map((circle) => circle.pen / circle.radius));
  const isLike = ({ pen, radius }, usual) => usual / FACTOR <= pen / radius && pen / radius <= FACTOR * usual;

  // The circle round what is in a picture, if it is like those learnt.
  function circleLike(places, side, pen) {
    const found = circleOf(places, side, MOST);
    return found && isLike(found, pen) ? found : null;
  }

  // The true circle round all else in a picture; null without one.
  function circleOf(places, side, share) {
    const mask = new Uint8Array(side * side);
    for (const i of places) mask[i] = 1;
    const parts = partsOf(mask, side).sort((a, b) => b.length - a.length).slice(0, 3);
    for (const part of parts) {
      const found = fitted(part, side, share);
      if (!found) continue;
      const within = places.filter((i) => away(i, side, found) < found.radius - found.pen - 1.5).length;
      const beyond = places.filter((i) => away(i, side, found) > found.radius + 1.5).length;
      if (within && beyond < within / 4) return found;
    }
    return null;
  }

  // The circle that is the outline of a part.
  function fitted(part, side, share) {
    const least = Math.max(RADIUS, SIZE * side);
    const [top, bottom, left, right] = boxOf(part, side);
    if (Math.min(bottom - 1 - top, right - 1 - left) < 2 * least - 1) return null;
    const inside = new Uint8Array(side * side);
    for (const i of part) inside[i] = 1;
    const sorted = [...part].sort((a, b) => a - b);
    let [row, column, radius, off] = [(top + bottom - 1) / 2, (left + right - 1) / 2, 0, []];
    for (let again = 0; again < 2; again++) { // once more from where its centre is
      const points = outline(sorted, side, row, column);
      let kept = points;
      for (let fit = 0; fit < FITS; fit++) {
        [row, column, radius] = circleThrough(kept);
        off = points.map(([y, x]) => Math.abs(Math.hypot(y - row, x - column) - radius));
        const most = Math.max(percentile(inOrder(off), 100 * (1 - LEFT_OUT)), EDGE);
        kept = points.filter((_, i) => off[i] <= most);
      }
    }
    const seen = off.filter((v) => v <= Math.max(TRUE * radius, EDGE)).length / off.length;
    if (!(radius >= least) || seen < share) return null;
    const pen = penOf(inside, side, row, column, radius);
    return pen <= PEN * radius ? { row, column, radius, pen } : null;
  }

  // The outermost place in each direction in which there is one, [y, x].
  function outline(sorted, side, row, column) {
    const found = new Map();
    for (const i of sorted) {
      const [y, x] = [Math.floor(i / side), i % side];
      const direction = Math.trunc((Math.atan2(y - row, x - column) / (2 * Math.PI) + 0.5) * DIRECTIONS);
      const far = Math.hypot(y - row, x - column);
      if (!(found.get(direction)?.far > far)) found.set(direction, { far, at: [y, x] });
    }
    return [...found.values()].map(({ at }) => at);
  }

  // Row, column and radius of the circle that is nearest to points, by least squares.
  function circleThrough(points) {
    const mean = (axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length;
    const [my, mx] = [mean(0), mean(1)];
    const a = Array.from({ length: 3 }, () => new Float64Array(3));
    const b = new Float64Array(3);
    for (const [py, px] of points) {
      const [y, x] = [py - my, px - mx];
      const terms = [2 * y, 2 * x, 1];
      terms.forEach((one, j) => {
        b[j] += one * (y * y + x * x);
        terms.forEach((other, k) => (a[j][k] += one * other));
      });
    }
    const [y, x, c] = solve(a, b);
    return [y + my, x + mx, Math.sqrt(Math.max(c + y * y + x * x, 0))];
  }

  // How far inwards the line reaches, in most directions.
  function penOf(inside, side, row, column, radius) {
    const within = (v) => v >= 0 && v < side;
    const depths = Array.from({ length: DIRECTIONS }, (_, direction) => {
      const angle = (2 * Math.PI * (direction + 0.5)) / DIRECTIONS;
      let first = null;
      for (let step = 0; step < radius; step += 0.5) {
        const y = round(row + (radius - step) * Math.sin(angle));
        const x = round(column + (radius - step) * Math.cos(angle));
        const inked = within(y) && within(x) && inside[y * side + x];
        if (inked && first === null) first = step;
        else if (!inked && first !== null) return step - first;
      }
      // Without any ink, from the outline to the first step inwards.
      return first === null ? 0.5 : radius - first;
    });
    return median(depths);
  }

  // The cells of the ring that runs round all drawings at one place; null where none does.
  function printedRing(inks) {
    if (inks.length < RINGS) return null;
    const rings = inks.map(({ places, pixels }) => {
      const mask = new Uint8Array(pixels * pixels);
      for (const i of places) mask[i] = 1;
      return framesOf(partsOf(mask, pixels), pixels).flat();
    });
    const side = inks[0].pixels;
    if (rings.some((ring) => !ring.length || linesOf(ring, side))) return null;
    const boxes = rings.map((ring) => boxOf(ring, side).map((v) => v / side));
    const apart = [0, 1, 2, 3].map((end) => {
      const ends = boxes.map((box) => box[end]);
      return Math.max(...ends) - Math.min(...ends);
    });
    const found = cells(rings[0], side);
    const same = Math.max(...apart) <= SAME_PLACE + 0.5 / side + TINY;
    return same && rings.every((ring) => alike(found, cells(ring, side))) ? found : null;
  }

  Object.assign(innerloop, { circleLike, cut, onLine, printedCircles, printedRing, usualPen });
})();
