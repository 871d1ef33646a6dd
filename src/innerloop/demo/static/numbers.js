// Numbers in order, and rounding, as Python has them.
"use strict";

(() => {
  const inOrder = (values) => Float64Array.from(values).sort();

  // As numpy.percentile, of numbers in order.
  function percentile(sorted, percent) {
    const at = (percent / 100) * (sorted.length - 1);
    const low = Math.floor(at);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
  }

  // As Python's round: halves go to even numbers.
  function round(v) {
    const floor = Math.floor(v);
    const rest = v - floor;
    return rest === 0.5 ? floor + (floor % 2) : Math.round(v);
  }

  // A x = b for a small positive matrix; what cannot be told apart is 0.
  function solve(a, b) {
    const n = b.length;
    const rows = a.map((row, i) => [...row, b[i]]);
    const tiny = 1e-12 * Math.max(...a.map((row, i) => row[i]));
    for (let i = 0; i < n; i++) {
      if (Math.abs(rows[i][i]) <= tiny) rows[i].fill(0);
      for (let j = 0; j < n && rows[i][i]; j++) {
        const by = j === i ? 0 : rows[j][i] / rows[i][i];
        for (let k = i; k <= n; k++) rows[j][k] -= by * rows[i][k];
      }
    }
    return rows.map((row, i) => (row[i] ? row[n] / row[i] : 0));
  }

  Object.assign(innerloop, { inOrder, percentile, round, solve });
})();
