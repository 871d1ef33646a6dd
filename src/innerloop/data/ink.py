"""The ink of a picture: found on whatever paper, cropped, centred, at the size of Omniglot's.

A network that learnt from Omniglot knows black strokes on white paper, in the middle and of one
size.  A photographed page is grey and lit from one side, the drawing small and off the centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from innerloop.data.frames import (
    TOUCHING,
    Enclosure,
    alike,
    box_of,
    cells_of_box,
    enclosure,
    enclosure_of,
    frame_of,
    frame_touched,
    is_all_round,
    may_be_drawn,
)
from innerloop.data.polarity import outermost
from innerloop.data.rings import circle_like

# The longer side of a drawing, as a share of the picture's: Omniglot's mean.
LONGER_SIDE = 18 / 28
# Pictures are looked at with at most so many pixels on the longer side.
LOOKED_AT = 112
# Ink is what is darker than the paper by this share of the darkest ink, and by so many standard
# deviations of the paper; a part is a speck if it has less of this share of the ink.
FAINT, NOISE, SPECK = 0.35, 3.0, 0.02
# But no more than so many parts are dots, if each has as much ink as this share of a square as wide
# as the pen; a round dot has pi / 4.
DOT, DOTS = 0.5, 3
# Ink so little that its percentile shows none has a pixel darker than paper by more than this, and
# by so many of its standard deviations.
CLEAR, CLEAN = 0.1, 10
# Standard deviations, in pixels, of the filters against noise; the second where the paper's noise
# has this share of the ink.
SHARP, NOISY, LOUD = 0.5, 0.8, 0.14
# Times that the paper is fitted to what is not ink, and how many deviations belong to it.
ROUNDS, PAPER = 6, 2.5
# Unless it leaves so many of a hundred pixels along the picture's edges free, and is so dark, as a
# share of the picture's range: solid ink.  Shadows are not.
FREE, SOLID = 75, 0.6
# What is as wide as this share of a picture's longer side both ways is no stroke but a shadow; at
# the picture's edges so is what reaches inwards at all and along them as far as the second share.
SHADOW, TABLE = 0.3, 0.12
# From so many pixels on, one is the standard deviation of the filter before these are looked for;
# in pictures of fewer than the second, strokes are as wide as these.
SMOOTHED, SMALL = 84, 32
# A shadow is lighter than this share of the darkest ink; wide ink is not.
DIM = 0.75
# Paper whose pixels deviate so much from a smooth surface may have the edge of a shadow.
UNEVEN = 0.02
# Pictures without ink are blank if their pixels' standard deviation is no more than this; and any
# picture is, if it is no more than the second.
BLANK, EMPTY = 16, 1.5
# A drawing with so large a share of a picture's side fills it; so few pixels are few, and so few
# hold no more than the drawing has lost already.
FILLED, FEW, FEWEST = 0.85, 16, 12


class Ink(NamedTuple):
    """What was found in one picture.

    Attributes:
        strokes: `[h, w]`, 1 for full ink and 0 for paper, cropped to the drawing.
        pixels: the picture's longer side.
        side: that of the drawing, as a share of it.
        mask: `[H, W]`, where in the picture it is.
        frame: the cells of the box that runs round the drawing near the picture's edges, see
            `innerloop.data.frames`; None where none does.
        enclosure: the part that runs round the others, perhaps not near the edges; None without.
        reaches: it reaches an edge of the picture.
        edged: it does so because of something that lies along the edges, and apart from the rest.
    """

    strokes: np.ndarray
    pixels: int
    side: float
    mask: np.ndarray
    frame: np.ndarray | None = None
    enclosure: Enclosure | None = None
    reaches: bool = False
    edged: bool = False


def find_ink(
    picture: np.ndarray,
    dark: bool,
    frame: np.ndarray | None = None,
    but: Sequence[Enclosure] | None = None,
    edges: bool | Literal["apart"] | None = None,
    ring: float | None = None,
) -> Ink | None:
    """The drawing in a grey picture.

    The paper's brightness is fitted by a surface of second order to the pixels without ink.  What
    differs from it, is wider than strokes and reaches the picture's edges is a shadow.

    Args:
        picture: `uint8` `[H, W]`.
        dark: strokes are darker than the paper.
        frame: leave out what runs round the rest like this, see `shared_frame`, also where it
            touches what is inside.
        but: leave out whatever runs round the rest near all four edges of the picture, unless it
            is like one of these; None leaves out nothing of that kind.
        edges: leave out what lies along an edge of the picture, such as the table beside a sheet.
            `"apart"` does where that is apart from the rest: `edged`; None does not, and finds out
            whether it is.
        ring: leave out a circle round the rest whose line has this share of its radius, see
            `innerloop.data.rings`, also where it touches what is inside.

    Returns:
        None where nothing stands out from the paper.
    """
    x = looked_at(picture).astype(np.float64) / 255
    x = 1 - x if dark else x
    paper, deviation = _paper(x)
    if max(x.shape) < SMALL:
        return _drawing(x - paper, deviation, frame, but, ring)
    if deviation > UNEVEN and _inner(x, float(np.percentile(x, 30))).any():
        # The edge of a shadow bends the surface; without what is wide it is another one.
        base = _opened(x, SHADOW, "edge")
        other, less = _paper(x - base)
        if 2 * less < deviation:
            paper, deviation = base + other, less
    rest = x - paper
    shadow = _wide(rest, SHADOW, _inner(rest, 0.0))
    found = _drawing(_less(rest, shadow), deviation, frame, but, ring)
    if found is None or not found.reaches or edges is False:
        return found
    # What runs all round may be the character, if it does not round most of the drawings.
    all_round = found.frame is not None and is_all_round(found.frame)
    table = _wide(rest, TABLE)
    within = _drawing(_less(rest, np.maximum(shadow, table)), deviation, frame, but, ring)
    if within is None:
        return found
    left_out = ndimage.binary_dilation(found.mask & ~within.mask, TOUCHING)
    apart = not within.reaches and not (left_out & within.mask).any() and not all_round
    chosen = within if (apart if edges == "apart" else edges) else found
    return chosen._replace(edged=apart)


def _opened(x: np.ndarray, share: float, goes_on: Literal["edge", "constant"]) -> np.ndarray:
    """What is left of a picture without all that is narrow and lighter than its surroundings.

    Args:
        x: `[H, W]`.
        share: a square of so much of the picture's longer side fits into what is left.
        goes_on: how the picture does beyond its edges, see `numpy.pad`.
    """
    size = max(3, round(share * max(x.shape))) | 1
    smoothed = ndimage.gaussian_filter(x, min(1.0, max(x.shape) / SMOOTHED))
    padded = np.pad(smoothed, size, goes_on)
    found: np.ndarray = ndimage.grey_opening(padded, size=size)[size:-size, size:-size]
    return found


def _inner(x: np.ndarray, paper: float) -> np.ndarray:
    """Where a square as wide as shadows, all in the picture, is as dark as these; `[H, W]`."""
    strength = float(np.percentile(x, 99.5)) - paper
    level = _opened(x - paper, SHADOW, "constant")
    return (level > FAINT / 2 * strength) & (level < DIM * strength)


def _wide(rest: np.ndarray, share: float, holding: np.ndarray | None = None) -> np.ndarray:
    """How far what is wide, and reaches the picture's edges, stands out from the paper, `[H, W]`.

    As if the picture went on beyond its edges, so that what lies along these is wide, and nothing
    is missing where a shadow leaves the picture askew.

    Args:
        rest: how far every pixel stands out.
        share: a square of so much of the picture's longer side fits into what is wide.
        holding: parts count that hold some of this, booleans `[H, W]`; None for all.
    """
    if holding is not None and not holding.any():
        return np.zeros_like(rest)
    level = _opened(rest, share, "edge")
    labels, count = ndimage.label(level > FAINT / 2 * float(np.percentile(rest, 99.5)), TOUCHING)
    kept = np.isin(np.arange(count + 1), outermost(labels[None]))
    kept[0] = False
    if holding is not None:
        kept &= np.isin(np.arange(count + 1), labels[holding])
    reach = max(1, round(share * max(rest.shape)) // 2)
    near = ndimage.binary_dilation(kept[labels], iterations=reach)
    return np.where(near, level.clip(min=0), 0)


def _less(rest: np.ndarray, wide: np.ndarray) -> np.ndarray:
    return np.where(wide > 0, (rest - wide).clip(min=0), rest)


def _drawing(
    rest: np.ndarray,
    deviation: float,
    frame: np.ndarray | None,
    but: Sequence[Enclosure] | None,
    ring: float | None,
) -> Ink | None:
    """The drawing in what stands out from the paper; see `find_ink`."""
    # Ink lies on one side of the paper alone, so the other side tells what noise is left.
    above = ndimage.gaussian_filter(rest, SHARP)
    if deviation > LOUD * float(np.percentile(above, 99)):
        above = ndimage.gaussian_filter(rest, NOISY)
    below = above[above < 0]
    deviation = float(np.sqrt(np.mean(below**2))) if len(below) else 0.0
    strength = float(np.percentile(above, 99.5 if rest.size > 600 else 98))
    darkest = float(above.max())
    if strength < CLEAR and darkest > max(CLEAR, CLEAN * deviation):
        strength = darkest
    limit = max(FAINT * strength, NOISE * deviation)
    if strength < max(0.06, limit):
        return None
    mask = _without_specks(above > limit, above)
    own = frame_of(mask)
    own_cells = cells_of_box(own)
    round_rest = enclosure(own, mask & ~own) if own.any() else enclosure_of(mask)
    if frame is not None and not (own_cells is not None and alike(own_cells, frame)):
        own = frame_touched(mask, frame)
    stays = but is None or any(
        round_rest is not None and may_be_drawn(round_rest, learnt) for learnt in but
    )
    if (frame is not None or not stays) and (mask & ~own).any():
        mask &= ~own
    if ring is not None and (circle := circle_like(mask, ring)) is not None:
        mask = _without_specks(mask & ~circle.line(mask.shape), above)
    if not mask.any():
        return None
    box = box_of(mask)
    # The soft edges of strokes belong to them.
    near = ndimage.binary_dilation(mask, iterations=1 + max(rest.shape) // 56)
    inked = rest[mask]
    # Of a dot less than a third of the mask is ink, the rest what blurring made of it.
    full = max(float(np.percentile(inked, 70)), FAINT * float(inked.max()))
    strokes = np.where(near, np.clip(rest / full, 0, 1), 0)[box]
    longest = max(rest.shape)
    return Ink(
        strokes,
        pixels=longest,
        side=max(strokes.shape) / longest,
        mask=mask,
        frame=own_cells,
        enclosure=round_rest,
        reaches=any(s.start == 0 or s.stop == n for s, n in zip(box, rest.shape, strict=True)),
    )


def on_blank_paper(ink: Ink, dark: bool, size: tuple[int, int]) -> np.ndarray:
    """A drawing on blank paper, in the middle, its longer side 18 of 28 pixels.

    Args:
        ink: what was found.
        dark: strokes are dark on white; else they are white on black.
        size: height and width of the result.

    Returns:
        `uint8` of that size.
    """
    height, width = size
    h, w = ink.strokes.shape
    scale = LONGER_SIDE * min(size) / max(h, w)
    h, w = max(1, round(h * scale)), max(1, round(w * scale))
    strokes = Image.fromarray(ink.strokes.astype(np.float32))
    strokes = strokes.resize((w, h), Image.Resampling.LANCZOS)
    page = np.zeros(size)
    top, left = (height - h) // 2, (width - w) // 2
    page[top : top + h, left : left + w] = np.asarray(strokes).clip(0, 1)
    found: np.ndarray = np.round(255 * (1 - page if dark else page)).astype(np.uint8)
    return found


def worth_finding(inks: Sequence[Ink | None]) -> bool:
    """Whether finding the ink helps a network that learnt from drawings, by the support set alone.

    It does on all kinds of drawings that it was measured on, but for two.  Pictures of few pixels
    that the drawing fills, such as digits of 8 x 8, and those of fewest, lose what they have where
    their strokes are cut out.  And where what was found reaches the edges of most pictures, it is a
    drawing that fills them, or strokes and shadows together.  Nor is it done where most pictures
    show no ink.

    Args:
        inks: what was found in each picture of the support set.
    """
    found = [ink for ink in inks if ink is not None]
    if 2 * len(found) <= len(inks):
        return False
    if 2 * sum(ink.reaches for ink in found) > len(found):
        return False
    side, pixels = (
        float(np.median(x)) for x in ([i.side for i in found], [i.pixels for i in found])
    )
    return pixels > FEW or (side < FILLED and pixels > FEWEST)


def looked_at(picture: np.ndarray, most: int = LOOKED_AT) -> np.ndarray:
    """A grey picture `uint8` `[H, W]`, made smaller where its longer side is above `most`."""
    longest = max(picture.shape)
    if longest <= most:
        return picture
    height, width = (max(1, round(n * most / longest)) for n in picture.shape)
    made = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(made)


def _paper(x: np.ndarray) -> tuple[np.ndarray, float]:
    """The surface `[H, W]` of the paper, and the standard deviation of its pixels around it."""
    v, u = np.meshgrid(*(np.linspace(-1, 1, n) for n in x.shape), indexing="ij")
    basis = np.stack([np.ones_like(u), u, v, u * v, u * u, v * v], axis=-1).reshape(-1, 6)
    values = x.ravel()
    # Ink covers less than half of a picture, or its darker half at the first look.
    usual = float(np.median(values))
    around = float(np.percentile(outermost(x[None]), FREE))
    low, high = np.percentile(values, (1, 99))
    if usual - around > SOLID * (high - low):
        usual = around
    chosen = values <= usual + 1e-9
    surface, deviation = np.full_like(values, usual), 0.0
    for number in range(ROUNDS):
        if chosen.sum() < 12:
            break
        # A plane first: the surface of a few pixels bends as it likes.
        terms = basis[:, :3] if number < 2 else basis
        some = terms[chosen]
        # The normal equations: few and well scaled.
        weights = np.linalg.lstsq(some.T @ some, some.T @ values[chosen], rcond=None)[0]
        surface = terms @ weights
        rest = values - surface
        below = rest[rest <= 0]
        # See `find_ink`.
        deviation = float(np.sqrt(np.mean(below**2))) if len(below) else 0.0
        chosen = np.abs(rest) <= PAPER * max(deviation, 1 / 255)
    return surface.reshape(x.shape), deviation


def _without_specks(mask: np.ndarray, above: np.ndarray) -> np.ndarray:
    """The parts of the mask that are no specks."""
    labels, count = ndimage.label(mask, TOUCHING)
    if count < 2:
        return mask
    amounts = ndimage.sum_labels(np.where(mask, above, 0), labels, np.arange(1, count + 1))
    kept = amounts >= SPECK * amounts.sum()
    strokes = np.concatenate([[False], kept])[labels]
    if strokes.any() and not kept.all():
        # Strokes have two sides.
        outline = strokes & ~ndimage.binary_erosion(strokes)
        width = 2 * int(strokes.sum()) / int(outline.sum())
        dots = ~kept & (amounts >= DOT * width**2 * above[strokes].mean())
        if dots.sum() <= DOTS:
            kept |= dots
    found: np.ndarray = np.concatenate([[False], kept])[labels]
    return found
