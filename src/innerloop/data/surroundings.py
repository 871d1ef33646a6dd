"""What is left out round drawings, found out by those of the support set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from innerloop.data.frames import Enclosure, may_be_drawn, printed_ring, shared_frame
from innerloop.data.given import scaled_image
from innerloop.data.ink import Ink, find_ink, on_blank_paper
from innerloop.data.likeness import likeness, most_are_alike
from innerloop.data.rings import Circle, printed_circles, usual_pen

# As `innerloop.data.likeness` has them, of classes in a frame that all share: their drawings may
# begin at the same place in it, as the hands of clocks do, and drawing the frame moves them.
DIFFERENT, ALIKE = 0.5, 0.85


class Surroundings(NamedTuple):
    """Arguments of `find_ink`, see there."""

    frame: np.ndarray | None = None
    but: Sequence[Enclosure] | None = None
    edges: bool | Literal["apart"] | None = None
    ring: float | None = None


def surroundings(
    pictures: Sequence[np.ndarray], dark: bool, labels: np.ndarray, size: tuple[int, int]
) -> tuple[Surroundings, list[Ink | None]]:
    """What to leave out round drawings, and what was found in those learnt.

    Args:
        pictures: the support set, `uint8` `[h, w]` each.
        dark: strokes are darker than the paper.
        labels: `[n]`, from 0.
        size: height and width of what the network sees.
    """

    def found(how: Surroundings) -> list[Ink | None]:
        return [find_ink(picture, dark, *how) for picture in pictures]

    how = Surroundings()
    inks = found(how)
    at_edges = [ink for ink in inks if ink is not None and ink.reaches]
    how = how._replace(edges=2 * sum(ink.edged for ink in at_edges) > len(at_edges))
    # Where nothing lies along the edges of those learnt, it is no part of others either.
    if not any(ink.edged or ink.frame is not None for ink in at_edges):
        how = how._replace(edges="apart")
    if how.edges is True:
        inks = found(how)
    frame = shared_frame([ink and ink.frame for ink in inks])
    if frame is not None:
        without = found(how._replace(frame=frame))
        if _also_within(inks) or _place_tells(without, labels, size):
            return how, inks
        how, inks = how._replace(frame=frame), without
    else:
        masks = [ink.mask for ink in inks if ink is not None]
        ring = printed_ring(masks) if len(masks) == len(inks) else None
        circles = printed_circles(masks) if len(masks) == len(inks) else None
        if ring is not None or circles is not None:
            pen = None if circles is None else usual_pen(circles)
            other = how._replace(frame=ring, ring=pen)
            without = found(other)
            # Where it is not the same in all pictures, a place is one in the circle.
            within = None if ring is not None else circles
            # Size in a ring may tell classes as well as place.
            if all(without) and not _place_tells(without, labels, size, 0.99, within):
                how, inks = other, without
    # What runs round others and round none of those learnt is no part of them either.
    enclosures = [ink.enclosure for ink in inks if ink is not None and ink.enclosure is not None]
    return how._replace(but=enclosures), inks


def _also_within(inks: Sequence[Ink | None]) -> bool:
    """Whether the frames of some could be what others have far from the edges: drawn by hand."""
    found = [(ink.enclosure, ink.frame) for ink in inks if ink is not None]
    framed, others = (
        [enclosure for enclosure, frame in found if enclosure and (frame is not None) == has_frame]
        for has_frame in (True, False)
    )
    return any(may_be_drawn(one, other) for one in framed for other in others)


def _place_tells(
    inks: Sequence[Ink | None],
    labels: np.ndarray,
    size: tuple[int, int],
    different: float = DIFFERENT,
    within: Sequence[Circle | None] | None = None,
) -> bool:
    """Whether most classes differ in the place of what is inside a frame, as clocks do.

    Args:
        inks: what is inside.
        labels: as for `surroundings`, as is `size`.
        different: see `likeness`; near 1, classes will do that are alike once they are cropped.
        within: the circle in each picture in which place counts; None for all of the picture.
    """
    drawings = [ink for ink in inks if ink is not None]
    if len(drawings) < len(inks):
        return False
    masks = [255 * ink.mask.astype(np.uint8) for ink in drawings]
    if within is not None:
        masks = [mask if c is None else c.cut(mask) for mask, c in zip(masks, within, strict=True)]
    given = [scaled_image(mask[None], size) for mask in masks]
    seen = [on_blank_paper(ink, True, size)[None] for ink in drawings]
    return most_are_alike(likeness(np.stack(given), np.stack(seen), labels, different), ALIKE)
