"""Tell data sets of ink on paper, whose edges show which of the two is dark."""

from __future__ import annotations

from innerloop.data.base import ClassIndexed
from innerloop.data.examples import evenly_spread
from innerloop.data.pictures import MIDDLE, border_brightness

# Pictures to look at, evenly spread.
SAMPLE = 200


def is_on_paper(data: ClassIndexed) -> bool:
    """True if every picture has the edges that `data.dark_ink` says: all light, or all dark.

    So it is with drawings, and the edges of another drawing then tell whether its ink is dark or
    light.  Of photographs they tell nothing: some have light edges, others dark ones.

    Args:
        data: any data set; only grey pictures can be on paper.
    """
    if not data.pixels or data.example_shape[0] != 1:
        return False
    images = data.examples.read(evenly_spread(data.examples.shape[0], SAMPLE))
    return all((border_brightness(image) > MIDDLE) == data.dark_ink for image in images)
