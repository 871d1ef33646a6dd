// The five symbols of the opening board, and one of them drawn again.
"use strict";

(() => {
  function arc(x, y, radius, from, to, points = 18) {
    const stroke = [];
    for (let i = 0; i <= points; i++) {
      const angle = ((from + ((to - from) * i) / points) * Math.PI) / 180;
      stroke.push(Math.round(x + radius * Math.cos(angle)), Math.round(y + radius * Math.sin(angle)));
    }
    return stroke;
  }

  const SUPPORT = [
    [[300, 190, 310, 500, 300, 800, 520, 810, 720, 790], [310, 480, 480, 470, 620, 480]],
    [arc(500, 380, 190, -90, 270, 28), [500, 570, 500, 720, 430, 830, 330, 840]],
    [[250, 250, 500, 240, 750, 250, 520, 500, 260, 760, 510, 750, 760, 760], [380, 500, 640, 500]],
    [arc(350, 500, 150, 170, 10), arc(650, 500, 150, 170, 10), [500, 480, 500, 250]],
    [[500, 190, 490, 500, 500, 820], [230, 420, 500, 410, 770, 420], arc(700, 680, 60, 0, 360, 12)],
  ];

  const QUERY = [
    [290, 220, 520, 230, 730, 210, 560, 440, 300, 730, 500, 740, 740, 720],
    [350, 470, 610, 490],
  ];

  Object.assign(innerloop, { LABELS: "ABCDEFGHIJ", SUPPORT, QUERY });
})();
