"""Tell data sets of ink on paper, of which every picture shows which of the two is dark."""

from __future__ import annotations

import numpy as np

from innerloop.data.base import ClassIndexed
from innerloop.data.examples import evenly_spread
from innerloop.data.polarity import darkness_of_ink

# Pictures to look at, evenly spread, and the share of them that may look otherwise.
SAMPLE, OTHERS = 200, 0.05


def is_on_paper(data: ClassIndexed) -> bool:
    """True if nearly every picture looks as `data.dark_ink` says.

    So it is with drawings, and another drawing then shows by itself whether its ink is dark or
    light.  Photographs look now like the one, now like the other.

    Args:
        data: any data set; only grey pictures can be on paper.
    """
    if not data.pixels or data.example_shape[0] != 1:
        return False
    images = data.examples.read(evenly_spread(data.examples.shape[0], SAMPLE))
    darkness = darkness_of_ink(images)
    return bool(np.mean((darkness > 0) == data.dark_ink) >= 1 - OTHERS)
