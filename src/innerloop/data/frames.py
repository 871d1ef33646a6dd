"""What runs round drawings and is no part of them: printed boxes, the table beneath a sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

# A frame spans so large a share of a picture, in height and width, and nothing of its middle half.
ROUND = 0.8
# Frames are compared by the cells of a grid that they have; alike are two of which each has this
# share of its cells in those of the other or next to them.
GRID, ALIKE = 14, 0.9
TOUCHING = np.ones((3, 3), bool)


def frame_of(ink: np.ndarray) -> np.ndarray:
    """The parts that run round the rest near all four edges of a picture; none if nothing else.

    Args:
        ink: booleans `[H, W]`.
    """
    height, width = ink.shape
    frame = np.zeros_like(ink)
    for own, (rows, columns) in _parts(ink):
        across = min((rows.stop - rows.start) / height, (columns.stop - columns.start) / width)
        if across >= ROUND and not _middle(own).any():
            frame |= own
    return frame if (ink & ~frame).any() else np.zeros_like(ink)


def is_enclosed(ink: np.ndarray) -> bool:
    """Whether one part runs round all others, as in 回, wherever in the picture.

    Args:
        ink: booleans `[H, W]`.
    """
    parts = _parts(ink)
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return len(parts) > 1 and any(
        (box[0].start, box[0].stop, box[1].start, box[1].stop)
        == (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
        and not _middle(own[box]).any()
        for own, box in parts
    )


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


def pixels_of(of_cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels of a picture that lie in cells, booleans `[height, width]`."""
    rows, columns = (np.arange(n) * GRID // n for n in (height, width))
    found: np.ndarray = of_cells[rows][:, columns]
    return found


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


def _parts(ink: np.ndarray) -> list[tuple[np.ndarray, tuple[slice, ...]]]:
    """Each part that hangs together, booleans `[H, W]`, with its box."""
    labels, _ = ndimage.label(ink, structure=TOUCHING)
    return [(labels == n, box) for n, box in enumerate(ndimage.find_objects(labels), 1)]


def _middle(part: np.ndarray) -> np.ndarray:
    """The middle half of a picture, in height and width."""
    down, right = (n // 4 for n in part.shape)
    return part[down : part.shape[0] - down, right : part.shape[1] - right]
