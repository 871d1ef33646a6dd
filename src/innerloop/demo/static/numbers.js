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

  Object.assign(innerloop, { inOrder, percentile, round });
})();
