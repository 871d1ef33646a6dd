"""Dark strokes and light ones are told apart on any paper, by any light."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.data import from_arrays, glyphs, polarity
from innerloop.data.ink_warnings import SURE
from innerloop.data.paper import is_on_paper
from innerloop.data.polarity import darkness_of_ink, ink_is_dark

SIDE = 28
v, u = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE), indexing="ij")
noise = np.random.default_rng(0).normal(size=(40, 1, SIDE, SIDE))
LIGHTS = {
    "scanned": lambda x: x,
    "evening": lambda x: 0.4 * x + 8,
    "evening, noisy": lambda x: 0.3 * x + 10 + 6 * noise,
    "from one side": lambda x: x * np.linspace(0.25, 1, SIDE),
    "from a corner": lambda x: x * (0.7 + 0.15 * (u + v)),
    "darker at the edges": lambda x: x * (1 - 0.3 * (u * u + v * v)),
    "grey and noisy": lambda x: 0.3 * x + 60 + 10 * noise,
    "faint": lambda x: 180 + 0.1 * x + noise,
    "by a lamp": lambda x: x * (0.5 + 0.5 * np.exp(-2 * (u * u + v * v))) + noise,
}
# Depth of a frame in pixels, brightness of what surrounds the pages, and of the pages.
FRAMES = {"line": (1, 20, 1.0), "table": (3, 50, 1.0), "scanner": (2, 0, 0.7)}


@pytest.fixture(scope="module")
def drawings() -> np.ndarray:
    """40 glyphs, `float64` `[40, 1, 28, 28]`, 0 for ink and 255 for paper."""
    return glyphs(40, per_class=1).images.astype(np.float64)


@pytest.mark.parametrize("light", LIGHTS.values(), ids=LIGHTS)
def test_ink_is_told_on_any_paper(light, drawings):
    images = light(drawings).clip(0, 255).astype(np.uint8)
    darkness = darkness_of_ink(images)
    assert ink_is_dark(images)
    assert not ink_is_dark(255 - images)
    assert np.mean(darkness > 0) >= 0.95
    # None would be warned of.
    assert darkness.min() > -SURE
    np.testing.assert_allclose(darkness_of_ink(255 - images), -darkness, atol=1e-9)
    assert from_arrays(images, np.arange(40) % 4).dark_ink
    assert is_on_paper(from_arrays(255 - images, np.arange(40) % 4))


@pytest.mark.parametrize(("deep", "level", "light"), FRAMES.values(), ids=FRAMES)
def test_a_frame_is_no_paper(deep, level, light, drawings):
    images = (drawings * light).astype(np.uint8)
    wide = ((0, 0), (0, 0), (deep, deep), (deep, deep))
    framed = np.pad(images, wide, constant_values=level)
    darkness = darkness_of_ink(framed)
    assert np.mean(darkness > 0) >= 0.95
    assert ink_is_dark(framed)
    np.testing.assert_allclose(darkness_of_ink(255 - framed), -darkness, atol=1e-9)


@pytest.mark.parametrize("sides", ["left", "left top", "left right", "left top right"])
@pytest.mark.parametrize("deep", [2, 4])
def test_black_edges_on_some_sides_are_no_paper(sides, deep, drawings):
    """As scanners leave, perhaps along half of a picture's edges."""
    wide = [deep * (side in sides) for side in ("top", "bottom", "left", "right")]
    page = np.pad(drawings, ((0, 0), (0, 0), (4, 4), (4, 4)), constant_values=255)
    edged = np.pad(page, ((0, 0), (0, 0), wide[:2], wide[2:]), constant_values=10).astype(np.uint8)
    darkness = darkness_of_ink(edged)
    assert (darkness > SURE).all()
    np.testing.assert_allclose(darkness_of_ink(255 - edged), -darkness, atol=1e-9)


def test_a_frame_round_nothing_is_a_drawing():
    page = np.full((1, 1, SIDE, SIDE), 255, np.uint8)
    page[0, 0, 2:-2, 2:-2] = 0
    assert darkness_of_ink(page) == 1
    assert darkness_of_ink(255 - page) == -1


def test_large_pictures_are_looked_at_in_part(drawings, monkeypatch):
    """As many pixels of each as of a small one, and not all pictures at once."""
    seen = []
    darkness = polarity._darkness
    monkeypatch.setattr(polarity, "_darkness", lambda x: (seen.append(x.shape), darkness(x))[1])
    large = drawings.repeat(20, axis=2).repeat(20, axis=3).astype(np.uint8)
    assert (darkness_of_ink(np.tile(large, (7, 1, 1, 1))) == 1).all()
    assert seen == [(256, 1, 112, 112), (24, 1, 112, 112)]


def test_what_shows_no_ink_tells_nothing():
    rng = np.random.default_rng(0)
    blank = np.array([0, 90, 255], np.uint8)[:, None, None, None] * np.ones((1, SIDE, SIDE), bool)
    assert darkness_of_ink(blank.astype(np.uint8)).tolist() == [0, 0, 0]
    assert ink_is_dark(np.full((1, 1, 5, 5), 255, np.uint8))
    assert not ink_is_dark(np.zeros((1, 1, 5, 5), np.uint8))
    assert not ink_is_dark(np.zeros((0, 1, 5, 5), np.uint8))
    random = rng.integers(0, 256, (200, 1, SIDE, SIDE), dtype=np.uint8)
    assert np.abs(darkness_of_ink(random)).max() < SURE
    for shape in ((1, 1), (1, 7), (7, 1), (2, 2)):
        assert np.isfinite(darkness_of_ink(rng.integers(0, 256, (20, 1, *shape)))).all()


def test_a_drawing_of_few_pixels_is_enough():
    page = np.full((1, 1, SIDE, SIDE), 90, np.uint8)
    page[0, 0, 9:13, 9] = 30
    assert darkness_of_ink(page) == 1
    assert darkness_of_ink(255 - page) == -1


def test_photographs_are_no_ink_on_paper():
    rng = np.random.default_rng(0)
    # Blobs of light and dark alike, such as leaves and stones have.
    waves = rng.normal(size=(60, 1, SIDE, SIDE, 6))
    found = np.stack([np.cumsum(np.cumsum(wave[..., 0], 1), 2) for wave in waves])
    found -= found.min(axis=(1, 2, 3), keepdims=True)
    images = (255 * found / found.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)
    assert not is_on_paper(from_arrays(images, np.arange(60) % 4))
