"""Invent alphabets: their style, and characters that put strokes together in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from innerloop.data.glyph_strokes import KINDS, PI, Stroke, dot, make_stroke, plain

_RELATIONS = ("end", "middle", "cross", "bridge", "beside", "repeat", "mirror")


@dataclass(frozen=True)
class Style:
    """What the characters of one alphabet have in common.

    Attributes:
        pool: strokes that its characters are put together from.
        headings: radians by which a pool stroke may be turned.
        strokes: mean number of strokes of a character, 1 to 4.
        cursive: probability that a stroke goes on into another one.
        flips: probability that a stroke is a mirror image.
        relations: probabilities of `_RELATIONS`, summed up, without the last sum, 1.
        headline: probability of a bar on top that the rest hangs from.
        dots: probability of a dot or small mark beside a character.
        cell: True where characters are dots on a grid.
        unit: pixels of length 1 on paper of 105 x 105.
        variety: standard deviation of the change of a pool stroke between characters.
    """

    pool: tuple[Stroke, ...]
    headings: np.ndarray
    strokes: float
    cursive: float
    flips: float
    relations: np.ndarray
    headline: float
    dots: float
    cell: bool
    unit: float
    variety: float


@dataclass(frozen=True)
class Character:
    """Strokes in the order of drawing, their size and place on the paper.

    Attributes:
        strokes: at least one.
        unit: pixels of length 1 on paper of 105 x 105.
        centre: the middle of its bounding box, in units of length 1.
        place: where that middle belongs, in pixels from the middle of the paper.
    """

    strokes: tuple[Stroke, ...]
    unit: float = 60.0
    centre: complex = 0j
    place: complex = 0j


def invent_style(rng: np.random.Generator) -> Style:
    """Draw the style of an alphabet: its strokes and how it joins them."""
    roundness = rng.beta(0.9, 0.8)
    weights = np.array([(1 - roundness) * a + roundness * b for _, a, b in KINDS])
    kinds = rng.choice(len(KINDS), size=rng.integers(4, 13), p=weights / weights.sum())
    pool = []
    for kind in kinds:
        stroke = KINDS[kind][0](rng)
        pool.append(_turned(stroke, rng.integers(4) * PI / 2, rng.random() < 0.5))
    grid = rng.choice([1, 1, 2, 4, 4, 8])
    return Style(
        pool=tuple(pool),
        headings=np.arange(grid) * 2 * PI / grid,
        strokes=rng.uniform(1.4, 3.7),
        cursive=rng.beta(0.7, 2.0),
        flips=rng.choice([0.0, 0.2, 0.5]),
        relations=np.cumsum(rng.dirichlet([1.6, 1.4, 0.8, 1.0, 0.35, 0.3, 0.3]))[:-1],
        headline=rng.choice([0, 0, 0, 0, 0.9]) * rng.random(),
        dots=rng.choice([0, 0, 0, 0.1, 0.4]),
        cell=rng.random() < 0.02,
        unit=rng.uniform(48, 66),
        variety=rng.uniform(0.1, 0.4),
    )


def invent_character(style: Style, rng: np.random.Generator) -> Character:
    """Draw a character of an alphabet: which strokes, and how they hang together."""
    for _ in range(8):
        strokes, drawn = _cell(rng) if style.cell else _composed(style, rng)
        points = np.concatenate([p[0] for p in drawn])
        # Real characters are rarely a single short line, and never a tangle.
        path = float(np.sum([np.abs(np.diff(p)).sum() for p in drawn]))
        busy = path / max(np.ptp(points.real), np.ptp(points.imag), 0.3)
        if style.cell or (busy < 6 and (busy > 1.45 or rng.random() < 0.15)):
            break
    low = points.real.min() + 1j * points.imag.min()
    high = points.real.max() + 1j * points.imag.max()
    extent = max((high - low).real, (high - low).imag, 1e-3)
    # Large designs are written smaller, though not until all are of one size.
    unit = style.unit * np.exp(0.08 * rng.standard_normal()) / extent**0.6
    unit = min(unit, 78 / extent)
    # Small strokes alone would be specks: people draw them larger.
    unit = max(unit, min(1.8 * style.unit, 32 / extent)) if extent > 0.06 else unit
    # People write a little to the left of the middle, and above it.
    place = complex(rng.normal(-1.2, 2.5), rng.normal(-2.8, 2.5))
    return Character(tuple(strokes), float(unit), complex(low + high) / 2, place)


def _composed(style: Style, rng: np.random.Generator) -> tuple[list[Stroke], list[np.ndarray]]:
    """The strokes of a character, each attached to those before it, and their points."""
    count = 1 + min(rng.poisson(style.strokes - 1), 5)
    strokes: list[Stroke] = []
    drawn: list[np.ndarray] = []
    if rng.random() < style.headline:
        strokes.append(make_stroke([rng.uniform(0.6, 1.1)], [0]))
        drawn.append(plain(strokes[0], drawn))
    for _ in range(count):
        # Of a few ways to go on, take the one that is easiest to read.
        tries = [_next_stroke(style, strokes, rng) for _ in range(3 if strokes else 1)]
        points = [plain(stroke, drawn) for stroke in tries]
        costs = [_clutter(p, drawn) if drawn else 0.0 for p in points]
        best = costs.index(min(costs))
        strokes.append(tries[best])
        drawn.append(points[best])
    if rng.random() < style.dots:
        for mark in _marks(drawn, rng):
            strokes.append(mark)
            drawn.append(plain(mark, drawn))
    return strokes, drawn


def _next_stroke(style: Style, strokes: list[Stroke], rng: np.random.Generator) -> Stroke:
    """One way to go on from the strokes so far: a new stroke, attached to one of them."""
    stroke = _from_pool(style, rng)
    while rng.random() < style.cursive and len(stroke.lengths) < 6:
        stroke = _continued(stroke, _from_pool(style, rng), rng)
    if not strokes:
        return stroke
    parent = int(rng.integers(len(strokes)))
    relation = _RELATIONS[int(np.searchsorted(style.relations, rng.random()))]
    at = _pick(rng, [0.0, 1.0])
    middle = _pick(rng, [0.5, rng.uniform(0.2, 0.8)])
    if relation == "end":
        return replace(stroke, parent=parent, at=at)
    if relation == "middle":
        return replace(stroke, parent=parent, at=middle, own=_pick(rng, [0.0, 0.0, 1.0]))
    if relation == "cross":
        return replace(stroke, parent=parent, at=middle, own=float(rng.uniform(0.3, 0.7)))
    if relation == "bridge":
        other = int(rng.integers(len(strokes)))
        where = _pick(rng, [0.0, 0.5, 1.0, rng.random()])
        gently = make_stroke([0.6], [_pick(rng, [0.0, 0.0, rng.normal(0, 1.2)])])
        if other != parent or abs(where - at) > 0.3:
            return replace(gently, parent=parent, at=at, bridge=(other, where))
        return replace(stroke, parent=parent, at=at)
    if relation == "beside":
        way = _pick(rng, [1, -1, 1j, -1j])
        return replace(stroke, parent=parent, at=0.5, own=0.5, gap=way * rng.uniform(0.25, 0.6))
    if relation == "repeat":
        gap = _pick(rng, [1, 1j]) * _pick(rng, [-1, 1]) * rng.uniform(0.15, 0.45)
        return replace(strokes[parent], parent=parent, at=0.0, own=0.0, gap=gap, bridge=None)
    mirrored = _turned(strokes[parent], PI * rng.integers(2), True)
    return replace(mirrored, parent=parent, at=at, own=at, gap=0j, bridge=None)


def _from_pool(style: Style, rng: np.random.Generator) -> Stroke:
    """A stroke of the alphabet: turned, perhaps mirrored, and a bit different every time."""
    stroke = style.pool[rng.integers(len(style.pool))]
    stroke = _turned(stroke, _pick(rng, style.headings), bool(rng.random() < style.flips))
    change = np.exp(style.variety * rng.standard_normal(len(stroke.lengths)))
    size = np.exp(0.2 * rng.standard_normal())
    if stroke.closed:
        change = np.ones_like(change)
    return replace(stroke, lengths=stroke.lengths * change * size)


def _turned(stroke: Stroke, angle: float, flip: bool) -> Stroke:
    """The stroke, or its mirror image, turned by an angle in radians."""
    corners, turns = stroke.corners.copy(), stroke.turns
    if flip:
        corners, turns = -corners, -turns
    corners[0] += angle
    return replace(stroke, turns=turns, corners=corners)


def _continued(stroke: Stroke, other: Stroke, rng: np.random.Generator) -> Stroke:
    """One stroke that goes on into another: smoothly or round a corner."""
    corners = other.corners.copy()
    if rng.random() < 0.5:
        corners[0] = 0.0
    else:
        corners[0] -= np.sum(stroke.corners + stroke.turns)
    return make_stroke(
        np.r_[stroke.lengths, other.lengths] * 0.85,
        np.r_[stroke.turns, other.turns],
        np.r_[stroke.corners, corners],
    )


def _clutter(points: np.ndarray, drawn: list[np.ndarray]) -> float:
    """How badly new points `[1, P]` fit: share that lies on old ones, and the size of the whole."""
    old = np.concatenate([p[0] for p in drawn])
    near = np.abs(points[0][:, None] - old).min(axis=1) < 0.09
    both = np.r_[points[0], old]
    wide, high = np.ptp(both.real) + 0.1, np.ptp(both.imag) + 0.1
    oblong = abs(float(np.log(wide / high)))
    extent = float(max(wide, high))
    return float(near.mean()) + max(extent - 1.2, 0) + 0.25 * oblong + 0.02 * float(near.sum())


def _marks(drawn: list[np.ndarray], rng: np.random.Generator) -> list[Stroke]:
    """One to three dots or small strokes in a row, above, below or beside the rest."""
    points = np.concatenate([p[0] for p in drawn])
    way = _pick(rng, [-1j, 1j, 1])
    spread = points.real if way == 1 else points.imag * (1 if way == 1j else -1)
    edge = points[np.argmax(spread)]
    start = edge + way * rng.uniform(0.15, 0.3) - drawn[0][0, 0]
    mark = dot(rng) if rng.random() < 0.7 else make_stroke([0.25], [_pick(rng, [0, 2.5])])
    gaps = [start + i * 0.22 * (1j if way == 1 else 1) for i in range(rng.integers(1, 4))]
    return [replace(mark, parent=0, at=0.0, own=0.5, gap=complex(gap)) for gap in gaps]


def _cell(rng: np.random.Generator) -> tuple[list[Stroke], list[np.ndarray]]:
    """Dots on a grid of 2 x 3, and their points."""
    chosen = np.flatnonzero(rng.random(6) < 0.5)
    chosen = chosen if len(chosen) else np.array([rng.integers(6)])
    dots = [replace(dot(rng), gap=complex(i % 2, i // 2) * 0.4) for i in chosen]
    return dots, [plain(stroke, []) for stroke in dots]


def _pick(rng: np.random.Generator, things: Sequence[Any] | np.ndarray) -> Any:
    """One of a list: `rng.choice` without its checks, which took most of the time here."""
    return things[int(rng.integers(len(things)))]
