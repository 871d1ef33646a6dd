"""How much generated glyphs look like Omniglot: numbers side by side, and a picture.

    python -m research.glyph_realism --omniglot FOLDER

FOLDER holds `images_background.zip` and `images_evaluation.zip`.  Writes a JSON
with the numbers and a contact sheet, Omniglot on the left, glyphs on the right.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from innerloop.data import glyphs, omniglot
from innerloop.data.glyphs import GENERATOR_VERSION
from innerloop.files import write_whole

EPISODES = 600


def measure(images: np.ndarray) -> dict[str, float]:
    """Statistics of `uint8` `[classes, drawings, 28, 28]`, dark ink on light paper."""
    ink = 1 - images.astype(np.float32) / 255
    dark = ink > 0.4
    count = dark.sum((2, 3))
    side = np.arange(ink.shape[-1])
    total = np.maximum(ink.sum((2, 3)), 1e-3)
    centre_x, centre_y = (ink.sum(2) * side).sum(-1) / total, (ink.sum(3) * side).sum(-1) / total
    width, height = _extent(dark.any(2)), _extent(dark.any(3))
    parts = [_components(d) for d in dark[:, ::5].reshape(-1, *dark.shape[2:])]
    directions = _edge_directions(ink)
    return {
        "mean ink": ink.mean(),
        "ink: spread between classes": ink.mean((1, 2, 3)).std(),
        "ink: spread within a class": ink.mean((2, 3)).std(1).mean(),
        "darkest pixel": ink.max((2, 3)).mean(),
        "stroke width, pixels": _stroke_width(ink),
        "width, pixels": width.mean(),
        "height, pixels": height.mean(),
        "width: spread between classes": width.mean(1).std(),
        "width: spread within a class": width.std(1).mean(),
        "height: spread between classes": height.mean(1).std(),
        "height: spread within a class": height.std(1).mean(),
        "centre x": centre_x.mean(),
        "centre y": centre_y.mean(),
        "centre: spread within a class": (centre_x.std(1) + centre_y.std(1)).mean() / 2,
        "connected parts": float(np.mean(parts)),
        "dark pixels": count.mean(),
        **directions,
        "distance within a class": _distance(ink, True),
        "distance between classes": _distance(ink, False),
        "nearest neighbour, pixels": nearest_neighbour(ink),
        "nearest neighbour, blurred": nearest_neighbour(_blur(ink)),
        "nearest neighbour, blurred and centred": nearest_neighbour(_blur(_centred(ink))),
    }


def _extent(lines: np.ndarray) -> np.ndarray:
    """Distance from the first to the last True along the last axis, both included."""
    last = lines.shape[-1] - np.argmax(lines[..., ::-1], -1)
    return np.where(lines.any(-1), last - np.argmax(lines, -1), 0)


def _stroke_width(ink: np.ndarray) -> float:
    """Area of the ink over half its outline: the width of a long thin stroke."""
    outline = np.abs(np.diff(ink, axis=2)).sum() + np.abs(np.diff(ink, axis=3)).sum()
    # A slanted edge is counted sqrt(2) too long, an upright one exactly: 4/pi on average.
    return float(ink.sum() / (outline / (4 / np.pi) / 2))


def _edge_directions(ink: np.ndarray) -> dict[str, float]:
    """How upright, level or slanted the edges are, as shares of their strength."""
    gx, gy = np.gradient(ink, axis=3), np.gradient(ink, axis=2)
    strength, angle = np.hypot(gx, gy), np.mod(np.arctan2(gy, gx), np.pi)
    bins = np.mod(np.round(angle / (np.pi / 4)), 4).astype(int)
    shares = [float(strength[bins == b].sum() / strength.sum()) for b in range(4)]
    names = ("upright", "falling", "level", "rising")
    return {f"edges {name}": share for name, share in zip(names, shares, strict=True)}


def _components(dark: np.ndarray) -> int:
    """Number of connected parts (8 neighbours) of a picture `[H, W]` of True and False."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(dark)}, 0
    while left:
        found += 1
        stack = [left.pop()]
        while stack:
            y, x = stack.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack.extend(near)
    return found


def _distance(ink: np.ndarray, same: bool) -> float:
    """Mean Euclidean distance of pairs of drawings of the same or of different classes."""
    rng = np.random.default_rng(0)
    first = rng.integers(len(ink), size=5000)
    other = first if same else (first + rng.integers(1, len(ink), size=5000)) % len(ink)
    a = rng.integers(ink.shape[1], size=5000)
    b = (a + rng.integers(1, ink.shape[1], size=5000)) % ink.shape[1]
    return float(np.sqrt(((ink[first, a] - ink[other, b]) ** 2).sum((1, 2))).mean())


def _blur(ink: np.ndarray) -> np.ndarray:
    for axis in (2, 3):
        for _ in range(2):
            ink = (np.roll(ink, 1, axis) + 2 * ink + np.roll(ink, -1, axis)) / 4
    return ink


def _centred(ink: np.ndarray) -> np.ndarray:
    """Every drawing rolled until its centre of mass is in the middle."""
    side = np.arange(ink.shape[-1])
    moved = np.empty_like(ink)
    for index in np.ndindex(ink.shape[:2]):
        picture = ink[index]
        total = max(float(picture.sum()), 1e-3)
        y, x = (picture.sum(1) @ side) / total, (picture.sum(0) @ side) / total
        middle = (len(side) - 1) / 2
        moved[index] = np.roll(picture, (round(middle - y), round(middle - x)), (0, 1))
    return moved


def nearest_neighbour(ink: np.ndarray, ways: int = 5) -> float:
    """Accuracy of 1-shot tasks by the nearest support picture, over `EPISODES` tasks."""
    rng = np.random.default_rng(0)
    flat = ink.reshape(*ink.shape[:2], -1)
    hits = []
    for _ in range(EPISODES):
        chosen = rng.choice(len(flat), ways, replace=False)
        pairs = np.stack([rng.choice(flat.shape[1], 2, replace=False) for _ in chosen])
        support, query = flat[chosen, pairs[:, 0]], flat[chosen, pairs[:, 1]]
        nearest = ((query[:, None] - support) ** 2).sum(-1).argmin(1)
        hits.append((nearest == np.arange(ways)).mean())
    return float(np.mean(hits))


def contact_sheet(left: np.ndarray, right: np.ndarray, rows: int = 22) -> Image.Image:
    """Rows of alphabets: on each side 8 characters, and then 5 drawings of one of them."""
    rng = np.random.default_rng(3)
    halves = []
    for images in (left, right):
        lines = []
        for start in np.sort(rng.choice(len(images) - 8, rows, replace=False)):
            several = images[start : start + 8, rng.integers(images.shape[1])]
            one = images[rng.integers(len(images)), :5]
            tiles = [np.pad(p, 1, constant_values=200) for p in (*several, *one)]
            lines.append(np.concatenate([*tiles[:8], np.full((30, 6), 200), *tiles[8:]], axis=1))
        halves.append(np.concatenate(lines))
    gap = np.full((len(halves[0]), 24), 120)
    sheet = np.concatenate([halves[0], gap, halves[1]], axis=1).astype(np.uint8)
    picture = Image.fromarray(sheet)
    return picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--omniglot", type=Path, required=True, help="folder of the two archives")
    parser.add_argument("--classes", type=int, default=1623, help="glyphs to compare with")
    parser.add_argument("--seed", type=int, default=0, help="seed of the glyphs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/glyph_realism.json"))
    parser.add_argument("--sheet", type=Path, default=Path("docs/img/glyphs_vs_omniglot.png"))
    options = parser.parse_args()

    real = omniglot(options.omniglot).images.reshape(-1, 20, 28, 28)
    started = time.process_time()
    made = glyphs(options.classes, 20, seed=options.seed, cache=False)
    rate = len(made.images) / (time.process_time() - started)
    invented = made.images.reshape(options.classes, 20, 28, 28)
    ours, theirs = measure(invented), measure(real)
    print(f"{'':40}{'Omniglot':>10}{'glyphs':>10}")
    for name, value in theirs.items():
        print(f"{name:40}{value:10.3f}{ours[name]:10.3f}")
    print(f"{rate:.0f} drawings a second of processor time")
    results = {
        "generator_version": GENERATOR_VERSION,
        "seed": options.seed,
        "classes": {"omniglot": len(real), "glyphs": options.classes},
        "nearest_neighbour": f"5-way 1-shot, squared distance, {EPISODES} tasks of 5 queries",
        "drawings_per_processor_second": round(rate),
        "omniglot": {name: round(float(value), 4) for name, value in theirs.items()},
        "glyphs": {name: round(float(value), 4) for name, value in ours.items()},
    }
    with write_whole(options.out) as file:
        file.write((json.dumps(results, indent=2) + "\n").encode())
    with write_whole(options.sheet) as file:
        contact_sheet(real, invented).save(file, format="PNG")


if __name__ == "__main__":
    main()
