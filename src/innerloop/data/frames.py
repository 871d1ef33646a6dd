"""What runs round drawings and is no part of them: printed boxes, the table beneath a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

# A frame spans so large a share of a picture, in height and width, and nothing of its middle half.
ROUND = 0.8
# Of each side of a box, so much at both ends may be rounded.  Of the rest, so large a share is no
# further from a straight line than the third, of the side's length, or half a pixel; nor from the
# box's own edge than the fourth, of the length of the sides across.
CORNER, MOST, STRAIGHT, SLANT = 0.15, 0.8, 0.02, 0.12
# Frames are compared by the cells of a grid that they have; alike are two of which each has this
# share of its cells in those of the other or next to them.
GRID, ALIKE = 14, 0.9
# In enclosures that are alike the shares that the ink within spans differ by no more than the
# first, their other proportions by no more than the second as a factor: so much do hands differ.
SPAN, FACTOR = 0.15, 1.4
TOUCHING = np.ones((3, 3), bool)
# A ring is printed if the sides of its box, in pictures of the support set, differ by no more than
# this share of a picture's side, and if there are so many; drawn by hand they differ by more.
SAME_PLACE, RINGS = 0.02, 3
# Less than any two distances differ by.
TINY = 1e-9


class Enclosure(NamedTuple):
    """What runs round other ink, wherever in a picture.

    Attributes:
        cells: those of a grid over its own box, `[GRID, GRID]`.
        span: the larger of the shares of its height and width that the ink within spans.
        aspect: its height by its width.
        pen: the width of its strokes by that of those within.
        straight: it is a box.
    """

    cells: np.ndarray
    span: float
    aspect: float
    pen: float
    straight: bool


def frame_of(ink: np.ndarray) -> np.ndarray:
    """The parts that run round the rest near all four edges of a picture; none if nothing else.

    Args:
        ink: booleans `[H, W]`.
    """
    frame = np.zeros_like(ink)
    for own, box in _parts(ink):
        if _spans(box, ink) and not _middle(own).any():
            frame |= own
    return frame if (ink & ~frame).any() else np.zeros_like(ink)


def cells_of_box(frame: np.ndarray) -> np.ndarray | None:
    """The cells of a frame, `[GRID, GRID]`; None where there is none, or it is no box.

    Rings and what is not straight are drawn round drawings rather than printed.

    Args:
        frame: booleans `[H, W]`.
    """
    return cells(frame) if frame.any() and lines_of(frame[box_of(frame)]) is not None else None


def frame_touched(ink: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The lines of a box that hangs together with what is inside it, or is in pieces; else none.

    Args:
        ink: booleans `[H, W]`.
        frame: the cells of the box, `[GRID, GRID]`.
    """
    lines = np.zeros_like(ink)
    for own, box in _parts(ink):
        found = lines_of(own[box]) if _spans(box, ink) else None
        if found is not None:
            lines[box] |= found
        elif covers(frame, cells(own)):
            lines |= own
    return lines if alike(cells(lines), frame) else np.zeros_like(ink)


def lines_of(part: np.ndarray) -> np.ndarray | None:
    """What of a part are the lines of a box: along its outline, which is straight on each side.

    Args:
        part: booleans `[h, w]`, all that it spans.

    Returns:
        Booleans `[h, w]`; None where the outline is none of a box.
    """
    lines = np.zeros_like(part)
    for turns in range(4):
        line = _left_line(np.rot90(part, turns))
        if line is None:
            return None
        lines |= np.rot90(line, -turns)
    return lines


def enclosure_of(ink: np.ndarray) -> Enclosure | None:
    """The part that runs round all others, as in 回, wherever in the picture; None without one.

    Args:
        ink: booleans `[H, W]`.
    """
    parts = _parts(ink)
    every = box_of(ink)
    for own, box in parts if len(parts) > 1 else []:
        if box == every and not _middle(own[box]).any():
            return enclosure(own, ink & ~own)
    return None


def enclosure(part: np.ndarray, within: np.ndarray) -> Enclosure:
    """Of a part and the ink within, booleans `[H, W]` that both have some."""
    box = box_of(part)
    (height, width), (h, w) = part[box].shape, within[box_of(within)].shape
    span = max(h / height, w / width)
    straight = lines_of(part[box]) is not None
    pen = _pen(part) / _pen(within)
    return Enclosure(cells(part[box]), span, height / width, pen, straight)


def may_be_drawn(found: Enclosure, learnt: Enclosure) -> bool:
    """Whether an enclosure could be part of a character that was learnt with another.

    A box may be printed as well, so it has to have the same proportions.
    """
    factors = found.aspect / learnt.aspect, found.pen / learnt.pen
    near = abs(found.span - learnt.span) <= SPAN
    same = near and all(1 / FACTOR <= factor <= FACTOR for factor in factors)
    return (same or not found.straight) and alike(found.cells, learnt.cells)


def cells(part: np.ndarray) -> np.ndarray:
    """The cells of a grid in which a picture has a part, booleans `[GRID, GRID]`."""
    height, width = part.shape
    found = np.zeros((GRID, GRID), bool)
    rows, columns = np.nonzero(part)
    found[rows * GRID // height, columns * GRID // width] = True
    return found


def is_all_round(of_cells: np.ndarray) -> bool:
    """Whether cells lie along most of each of the four edges."""
    edges = (of_cells[0], of_cells[-1], of_cells[:, 0], of_cells[:, -1])
    return all(2 * int(edge.sum()) > GRID for edge in edges)


def covers(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether cells `a` or those next to them have nearly all of `b`."""
    near = ndimage.binary_dilation(a, TOUCHING)
    return bool((near & b).sum() >= ALIKE * b.sum())


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two frames could be the same thing."""
    return covers(a, b) and covers(b, a)


def shared_frame(frames: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The frame that runs round most of the drawings; None where none does.

    Frames that differ, such as rings and squares, are parts of the characters.

    Args:
        frames: the cells of each picture's frame; None where it has none.
    """
    found = [frame for frame in frames if frame is not None]
    numbers = [sum(alike(frame, other) for other in found) for frame in found]
    if not found or 2 * max(numbers) <= len(frames):
        return None
    return found[numbers.index(max(numbers))]


def printed_ring(inks: Sequence[np.ndarray]) -> np.ndarray | None:
    """The cells of the ring that runs round all drawings, `[GRID, GRID]`; None where none does.

    Boxes are for `shared_frame`.

    Args:
        inks: of each picture, booleans `[H, W]`.
    """
    rings = [frame_of(ink) for ink in inks]
    if len(rings) < RINGS or not all(ring.any() for ring in rings):
        return None
    if any(lines_of(ring[box_of(ring)]) is not None for ring in rings):
        return None
    sides = np.array([_sides(ring) for ring in rings])
    found = cells(rings[0])
    # The edge between two pixels is known to half of one.
    near = SAME_PLACE + 0.5 / min(min(ring.shape) for ring in rings) + TINY
    same = np.ptp(sides, axis=0).max() <= near
    return found if same and all(alike(found, cells(ring)) for ring in rings) else None


def _sides(part: np.ndarray) -> list[float]:
    """Where the box of a part begins and ends, down and to the right, as shares of a picture."""
    return [
        end / n
        for one, n in zip(box_of(part), part.shape, strict=True)
        for end in (one.start, one.stop)
    ]


def _parts(ink: np.ndarray) -> list[tuple[np.ndarray, tuple[slice, ...]]]:
    """Each part that hangs together, booleans `[H, W]`, with its box."""
    labels, _ = ndimage.label(ink, structure=TOUCHING)
    return [(labels == n, box) for n, box in enumerate(ndimage.find_objects(labels), 1)]


def box_of(ink: np.ndarray) -> tuple[slice, slice]:
    """All that some ink spans."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _spans(box: tuple[slice, ...], ink: np.ndarray) -> bool:
    """Whether a box spans as much of a picture as frames do."""
    across = ((one.stop - one.start) / n for one, n in zip(box, ink.shape, strict=True))
    return bool(min(across) >= ROUND)


def _left_line(part: np.ndarray) -> np.ndarray | None:
    """The line along the left of a part, booleans `[h, w]`; None where that is not straight."""
    height, width = part.shape
    corner = round(CORNER * height)
    along = slice(corner, height - corner)
    first = part.argmax(axis=1)
    outline = first[along]
    third = len(outline) // 3
    if not third:
        return None
    ends = np.median(outline[-third:]) - np.median(outline[:third])
    rest = outline - ends / (len(outline) - third) * np.arange(len(outline))
    away = np.sort(np.abs(rest - np.median(rest)))
    number = int(MOST * (len(outline) - 1))
    bent = away[number] > max(STRAIGHT * height, 0.5) + TINY
    if bent or np.sort(outline)[number] > SLANT * width:
        return None
    columns = np.arange(width)
    beyond = ~part & (columns > first[:, None])
    runs = np.where(beyond.any(axis=1), beyond.argmax(axis=1), width) - first
    usual = np.median(runs[along])
    # Where it is twice as wide, a stroke touches it.
    runs = np.where(runs > 2 * usual, usual, runs)
    found: np.ndarray = part & (columns < (first + runs)[:, None])
    return found


def _pen(ink: np.ndarray) -> float:
    """The width of strokes in pixels: they have two sides."""
    padded = np.pad(ink, 1).astype(np.int8)
    sides = sum(int(np.abs(np.diff(padded, axis=axis)).sum()) for axis in (0, 1))
    return 2 * int(ink.sum()) / sides


def _middle(part: np.ndarray) -> np.ndarray:
    """The middle half of a picture, in height and width."""
    down, right = (n // 4 for n in part.shape)
    return part[down : part.shape[0] - down, right : part.shape[1] - right]
