"""The symbols of the episode builder: `python -m tools.episode_symbols`.

Writes `docs/img/episode-symbols.png`: a row for each of 20 glyphs, 10 drawings in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import innerloop

FILE = Path(__file__).parent.parent / "docs" / "img" / "episode-symbols.png"
CLASSES, DRAWINGS = 20, 10


def sheet() -> Image.Image:
    """All drawings, 28 pixels a side, in 16 shades."""
    # One glyph of each alphabet: those of one alphabet look alike.
    data = innerloop.data.glyphs(20 * CLASSES, DRAWINGS, seed=2)
    rows = [np.hstack(data.class_images(20 * c)[:, 0]) for c in range(CLASSES)]
    return Image.fromarray(np.vstack(rows)).quantize(16)


def main() -> None:
    sheet().save(FILE, optimize=True)


if __name__ == "__main__":
    main()
