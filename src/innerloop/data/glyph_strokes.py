"""Strokes: the pen movements that invented characters are made of.

A stroke is a turtle walk: a few segments, each with a length, a turn spread
evenly along it (an arc; 0 is a straight line) and a corner turned on the spot
before it.  Jittering these numbers, instead of points, changes a drawing the
way a hand does: lines stay lines and loops stay loops.

Points are complex numbers, x + iy with y downwards; a character is about 1 tall.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

PI = np.pi


@dataclass(frozen=True)
class Stroke:
    """One pen movement and what it is attached to.

    Attributes:
        lengths: `[S]` length of each of its S segments.
        turns: `[S]` radians turned evenly along each segment.
        corners: `[S]` radians turned before each segment; the first is the heading.
        closed: the end is drawn back to the start.
        aspect: factor on x, for ellipses and oblongs.
        parent: index of the earlier stroke that it hangs on; -1 for the paper.
        at: where on the parent, 0 (its start) to 1 (its end).
        own: where on itself, 0 to 1, the point lies that is put there.
        gap: from the point on the parent to the own point.
        bridge: `(stroke, where)` that the end must reach, or None.
    """

    lengths: np.ndarray
    turns: np.ndarray
    corners: np.ndarray
    closed: bool = False
    aspect: float = 1.0
    parent: int = -1
    at: float = 0.0
    own: float = 0.0
    gap: complex = 0j
    bridge: tuple[int, float] | None = None

    @cached_property
    def steps(self) -> np.ndarray:
        """`[S]` number of straight steps that each segment is drawn with."""
        by_turn = np.abs(self.turns) / 0.4
        by_length = self.lengths / 0.15
        steps: np.ndarray = np.ceil(np.maximum(np.maximum(by_turn, by_length), 1)).astype(np.int64)
        return steps


def walk(
    stroke: Stroke, lengths: np.ndarray, turns: np.ndarray, corners: np.ndarray, wobble: np.ndarray
) -> np.ndarray:
    """Points of D drawings of a stroke, each from its own numbers.

    Args:
        stroke: says how many steps, whether closed, and the aspect.
        lengths: `[D, S]`, as are `turns` and `corners`.
        wobble: `[D, P - 1]` radians added to the heading of each step.

    Returns:
        complex `[D, P]`, the first point 0.
    """
    steps = stroke.steps
    segment = np.repeat(np.arange(len(steps)), steps)
    first = np.cumsum(steps) - steps
    along = (np.arange(len(segment)) - first[segment] + 0.5) / steps[segment]
    before = np.cumsum(corners + turns, axis=1) - turns
    heading = before[:, segment] + along * turns[:, segment] + wobble
    moves = (lengths / steps)[:, segment] * np.exp(1j * heading)
    points = np.zeros((len(lengths), len(segment) + 1), dtype=np.complex128)
    np.cumsum(moves, axis=1, out=points[:, 1:])
    if stroke.closed:
        points -= points[:, -1:] * np.linspace(0, 1, points.shape[1])
    if stroke.aspect != 1.0:
        points = points.real * stroke.aspect + 1j * points.imag
    return points


def point_at(points: np.ndarray, where: float, slip: float | np.ndarray = 0.0) -> np.ndarray:
    """The point of each drawing `[D, P]` at `where`, 0 (start) to 1 (end): complex `[D, 1]`.

    Ends are hit; a place between them is missed by `slip`, a number or `[D, 1]`.
    """
    if where in (0.0, 1.0):
        return points[:, :1] if where == 0.0 else points[:, -1:]
    exact = np.clip(where + slip, 0.05, 0.95) * (points.shape[1] - 1)
    index = np.broadcast_to(np.rint(exact).astype(np.int64), (len(points), 1))
    return np.take_along_axis(points, index, axis=1)


def attach(
    stroke: Stroke,
    points: np.ndarray,
    drawn: list[np.ndarray],
    gap: complex | np.ndarray,
    slip: float | np.ndarray = 0.0,
) -> np.ndarray:
    """Move the points of a stroke to where it hangs on the strokes already drawn.

    Args:
        stroke: says where.
        points: complex `[D, P]`.
        drawn: the earlier strokes' points, complex `[D, any]`.
        gap: complex, or `[D, 1]`: distance from the parent's point.
        slip: number, or `[D, 1]`: how far along the parent its middle is missed.

    Returns:
        complex `[D, P]`.
    """
    moved: np.ndarray
    if stroke.parent < 0:
        moved = points - point_at(points, stroke.own) + gap
        return moved
    target = point_at(drawn[stroke.parent], stroke.at, slip) + gap
    if stroke.bridge is not None:
        other, where = stroke.bridge
        chord = points[:, -1:] - points[:, :1]
        chord = np.where(np.abs(chord) < 1e-3, 1e-3, chord)
        reach = point_at(drawn[other], where, slip) - target
        moved = target + (points - points[:, :1]) * reach / chord
    else:
        moved = points - point_at(points, stroke.own) + target
    return moved


def plain(stroke: Stroke, drawn: list[np.ndarray]) -> np.ndarray:
    """The points of a stroke as designed, without any hand's jitter: complex `[1, P]`."""
    wobble = np.zeros((1, int(stroke.steps.sum())))
    numbers = (stroke.lengths[None], stroke.turns[None], stroke.corners[None])
    return attach(stroke, walk(stroke, *numbers, wobble), drawn, stroke.gap)


# --- strokes -----------------------------------------------------------------------------------


def make_stroke(
    lengths: ArrayLike,
    turns: ArrayLike,
    corners: ArrayLike | None = None,
    closed: bool = False,
    aspect: float = 1.0,
) -> Stroke:
    segments = np.asarray(lengths, float)
    starts = np.zeros(len(segments)) if corners is None else np.asarray(corners, float)
    return Stroke(segments, np.asarray(turns, float), starts, closed, aspect)


def _line(r: np.random.Generator) -> Stroke:
    return make_stroke([r.uniform(0.35, 1.0)], [0])


def _bow(r: np.random.Generator) -> Stroke:
    return make_stroke([r.uniform(0.5, 1.0)], [r.uniform(0.3, 1.2)])


def _arc(r: np.random.Generator) -> Stroke:
    return make_stroke([r.uniform(0.6, 1.3)], [r.uniform(1.8, 4.2)])


def _ring(r: np.random.Generator) -> Stroke:
    return make_stroke([r.uniform(0.6, 2.2)], [2 * PI], closed=True, aspect=r.uniform(0.6, 1.3))


def _hook(r: np.random.Generator) -> Stroke:
    lengths = [r.uniform(0.4, 0.9), r.uniform(0.25, 0.6)]
    return make_stroke(lengths, [r.normal(0, 0.15), r.uniform(1.2, 3.6)])


def _ess(r: np.random.Generator) -> Stroke:
    turn = r.uniform(1.5, 3.5)
    return make_stroke(r.uniform(0.4, 0.8, 2), [turn, -turn * r.uniform(0.6, 1.3)])


def _wave(r: np.random.Generator) -> Stroke:
    count = r.integers(3, 6)
    turn = r.uniform(2.0, 3.6)
    return make_stroke(np.full(count, r.uniform(0.3, 0.5)), turn * (-1) ** np.arange(count))


def _bumps(r: np.random.Generator) -> Stroke:
    # Arcs that bulge to one side and meet in cusps: 3, m, a cloud.
    count = r.integers(2, 4)
    turn = r.uniform(2.4, 3.8)
    back = np.r_[0, np.full(count - 1, r.uniform(0.6, 1.0) * (PI - turn) - 1.3)]
    return make_stroke(np.full(count, r.uniform(0.45, 0.7)), np.full(count, turn), back)


def _corner(r: np.random.Generator) -> Stroke:
    return make_stroke(r.uniform(0.3, 0.9, 2), [0, 0], [0, r.choice([PI / 2, r.uniform(0.8, 2.5)])])


def _zigzag(r: np.random.Generator) -> Stroke:
    count = r.integers(3, 6)
    angle = r.uniform(1.5, 2.5)
    return make_stroke(
        np.full(count, r.uniform(0.3, 0.6)), np.zeros(count), angle * (-1.0) ** np.arange(count)
    )


def _step(r: np.random.Generator) -> Stroke:
    return make_stroke(r.uniform(0.25, 0.6, 3), np.zeros(3), [0, PI / 2, -PI / 2])


def _cup(r: np.random.Generator) -> Stroke:
    side = r.uniform(0.3, 0.8)
    return make_stroke(
        [side, r.uniform(0.3, 0.7), side * r.uniform(0.5, 1)], np.zeros(3), [0, PI / 2, PI / 2]
    )


def _polygon(r: np.random.Generator) -> Stroke:
    sides = r.choice([3, 4, 4, 5])
    corners = np.full(sides, 2 * PI / sides)
    corners[0] = r.choice([0, PI / 4])
    size = r.uniform(0.8, 2.0) / sides
    return make_stroke(np.full(sides, size), np.zeros(sides), corners, True, r.uniform(0.6, 1.6))


def _leaf(r: np.random.Generator) -> Stroke:
    turn = r.uniform(1.2, 2.4)
    length = r.uniform(0.5, 0.8)
    return make_stroke([length, length], [turn, turn], [0, PI - turn], closed=True)


def _loop(r: np.random.Generator) -> Stroke:
    # A line or bow with a small loop in its middle or at its end.
    turn = r.choice([-1, 1]) * r.uniform(4.2, 6.0)
    ends = r.uniform(0.2, 0.6, 2)
    lengths = [ends[0], r.uniform(0.5, 0.9), ends[1]]
    count = r.choice([2, 3])
    return make_stroke(lengths[:count], [r.normal(0, 0.5), turn, r.normal(0, 0.5)][:count])


def _spiral(r: np.random.Generator) -> Stroke:
    count = r.integers(2, 4)
    turn = r.uniform(2.2, 3.4)
    return make_stroke(
        np.array([0.9, 0.6, 0.35])[:count] * r.uniform(0.8, 1.2), np.full(count, turn)
    )


def _tee(r: np.random.Generator) -> Stroke:
    # A line, then back along half of it and away: one stroke with a retraced part.
    first = r.uniform(0.5, 0.9)
    turns = [0, 0, r.choice([0, r.uniform(1, 3.5)])]
    return make_stroke(
        [first, first * r.uniform(0.3, 0.7), r.uniform(0.3, 0.7)], turns, [0, PI, -1.57]
    )


def _free(r: np.random.Generator) -> Stroke:
    count = r.integers(2, 5)
    turns = np.where(r.random(count) < 0.4, 0, r.normal(0, 1.6, count))
    corners = np.where(r.random(count) < 0.6, 0, r.normal(0, 1.5, count))
    return make_stroke(r.uniform(0.2, 0.6, count), turns, corners)


def dot(r: np.random.Generator) -> Stroke:
    return make_stroke([0.04], [0.0])


# How likely each stroke is in an angular and in a round alphabet.
KINDS = (
    (_line, 5.0, 1.7),
    (_bow, 0.5, 1.5),
    (_arc, 0.3, 2.5),
    (_ring, 0.4, 1.5),
    (_hook, 0.5, 2.0),
    (_ess, 0.1, 1.5),
    (_wave, 0.05, 0.5),
    (_bumps, 0.05, 1.8),
    (_corner, 2.5, 0.4),
    (_zigzag, 0.8, 0.15),
    (_step, 0.7, 0.1),
    (_cup, 0.9, 0.2),
    (_polygon, 1.0, 0.1),
    (_leaf, 0.1, 0.3),
    (_loop, 0.1, 2.2),
    (_spiral, 0.1, 1.2),
    (_tee, 0.5, 0.4),
    (_free, 0.6, 1.0),
)
