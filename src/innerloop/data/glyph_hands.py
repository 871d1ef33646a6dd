"""Hands: how different writers draw the same character, and the ink on the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from innerloop.data.glyph_alphabets import Character
from innerloop.data.glyph_strokes import attach, walk

PAPER, PEN = 105, 5  # side of the paper and width of the pen in pixels, as in Omniglot
HABITS = 16  # normal numbers that make up a writer


def by_hand(design: Character, writers: np.ndarray, moods: np.ndarray) -> list[np.ndarray]:
    """Points of every stroke as different hands draw them.

    Args:
        design: the character.
        writers: `[D, 16]` normal numbers, a row for each writer.
        moods: `[D, any]` normal numbers, a row for each drawing.

    Returns:
        For each stroke complex `[D, P]` in pixels of the paper.
    """
    habits = 0.75 * writers + 0.65 * moods[:, :HABITS]
    taken = HABITS

    def numbers(count: int) -> np.ndarray:
        nonlocal taken
        taken += count
        return moods[:, taken - count : taken]

    messy = np.exp(0.35 * habits[:, 0:1])
    rounding = np.clip(0.2 + 0.5 * habits[:, 1:2], 0, 1)
    drawn: list[np.ndarray] = []
    for stroke in design.strokes:
        segments, steps = len(stroke.lengths), int(stroke.steps.sum())
        lengths = stroke.lengths * np.exp(0.11 * messy * numbers(segments))
        straight = stroke.turns == 0
        bend = np.where(straight, 0.07, 0.08 + 0.06 * np.abs(stroke.turns))
        turns = stroke.turns + bend * messy * numbers(segments)
        corners = stroke.corners + 0.075 * messy * numbers(segments)
        gap = numbers(4)
        wobble = 0.07 * messy * numbers(steps)
        points = walk(stroke, lengths, turns, corners, wobble)
        points = _rounded(points, rounding)
        off = 0.035 * messy * (gap[:, 0:1] + 1j * gap[:, 1:2])
        space = stroke.gap * np.exp(0.15 * messy * gap[:, 2:3]) + off
        drawn.append(attach(stroke, points, drawn, space, 0.07 * messy * gap[:, 3:4]))
    return _on_paper(design, drawn, habits, messy)


def _rounded(points: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Cut corners: move each point `[D, P]` towards its neighbours by `amount` `[D, 1]`, 0 to 1."""
    if points.shape[1] < 4:
        return points
    smooth = points.copy()
    middle = (points[:, :-2] + points[:, 2:]) / 2
    smooth[:, 1:-1] += 0.7 * amount * (middle - points[:, 1:-1])
    return smooth


def _on_paper(
    design: Character, drawn: list[np.ndarray], habits: np.ndarray, messy: np.ndarray
) -> list[np.ndarray]:
    """Warp, slant, stretch and place whole drawings; units of length 1 become pixels."""
    h = [habits[:, i : i + 1] for i in range(HABITS)]
    scale = design.unit * np.exp(0.06 * h[2])
    wide, slant, tilt = np.exp(0.06 * h[3]), 0.09 * h[4], 0.04 * h[5]
    place = design.place + PAPER / 2 * (1 + 1j) + 3.2 * (h[6] + 1j * h[7])
    placed = []
    for points in drawn:
        points = points - design.centre
        x, y = points.real, points.imag
        # Two slow waves bend the paper; which part they hit differs between drawings.
        x, y = (
            x + 0.025 * messy * (h[8] * np.sin(3 * y + h[9]) + h[10] * np.sin(3 * x)),
            y + 0.025 * messy * (h[11] * np.sin(3 * x + h[12]) + h[13] * np.sin(3 * y)),
        )
        x = wide * x - slant * y
        placed.append((x + 1j * y / wide) * np.exp(1j * tilt) * scale + place)
    return _inside(placed)


def _inside(strokes: list[np.ndarray]) -> list[np.ndarray]:
    """Shrink and push drawings that would leave the paper; the others stay as they are."""
    points = np.concatenate(strokes, axis=1)
    margin, room = 4.0, PAPER - 8.0
    low = points.real.min(1) + 1j * points.imag.min(1)
    high = points.real.max(1) + 1j * points.imag.max(1)
    extent = np.maximum((high - low).real, (high - low).imag)
    shrink = np.minimum(1, room / np.maximum(extent, 1e-3))
    middle = (low + high) / 2
    half = (high - low) / 2 * shrink

    def within(centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
        low, high = margin + radius, PAPER - margin - radius
        inside: np.ndarray = np.clip(centre, low, np.maximum(high, low))
        return inside

    target = within(middle.real, half.real) + 1j * within(middle.imag, half.imag)
    return [(p - middle[:, None]) * shrink[:, None] + target[:, None] for p in strokes]


def pen_and_ink(strokes: Sequence[list[float]], size: int) -> np.ndarray:
    """Draw one character with a round pen.

    Args:
        strokes: points of each stroke as x, y, x, y in pixels of the paper.
        size: height and width of the picture.

    Returns:
        `uint8` `[size, size]`, ink 0 on paper 255.
    """
    paper = Image.new("L", (PAPER, PAPER), 255)
    pen = ImageDraw.Draw(paper)
    for points in strokes:
        pen.line(points, fill=0, width=PEN)
        # Round ends; a stroke of two points is often a dot, which people make a bit fatter.
        (x, y), (end_x, end_y) = points[:2], points[-2:]
        dot = len(points) == 4 and abs(x - end_x) + abs(y - end_y) < 5
        radius = 3 if dot else 2
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
        pen.ellipse((end_x - radius, end_y - radius, end_x + radius, end_y + radius), fill=0)
    return np.asarray(paper.resize((size, size), Image.Resampling.LANCZOS))
