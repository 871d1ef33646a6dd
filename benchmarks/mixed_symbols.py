"""What `omniglot-conv4` learns from: Omniglot, characters composed of its characters, glyphs.

`python -m benchmarks.pretrained omniglot-conv4` trains on `data`.  The test part is the last 423
characters of Omniglot, as in split `tutorial`; nothing is composed of them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from innerloop.data import glyphs, omniglot
from innerloop.data.base import ImageClasses
from innerloop.data.splits import split_classes

# Classes that are composed for each part, and glyphs that are drawn for all.
COMPOSED = {"train": 2200, "val": 100}
GLYPHS = 3000
# Sides of a component's box, at least: a dot that is stretched is no stroke.
LEAST = 9
# Left and top edge, width and height of each component, in 28ths.
LAYOUTS = (
    ((0, 1, 13, 26), (15, 1, 13, 26)),
    ((1, 0, 26, 13), (1, 15, 26, 13)),
    ((0, 1, 12, 26), (14, 0, 14, 13), (14, 15, 14, 13)),
    ((1, 0, 26, 12), (0, 14, 13, 14), (15, 14, 13, 14)),
)


def data(omniglot_source: str | None) -> ImageClasses:
    """The three kinds as groups, so that tasks `within_group` have classes of one kind.

    Each group is as probable as another.  Omniglot's training classes are two groups, so that half
    of the tasks are drawn by people.
    """
    drawn = omniglot(omniglot_source)
    made = glyphs(GLYPHS)
    parts = split_classes(drawn, "tutorial")
    images: list[np.ndarray] = []
    names: list[str] = []
    groups: list[str] = []
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}

    def add(part: str, group: str, name: str, drawings: np.ndarray) -> None:
        splits[part].append(len(names))
        images.append(drawings)
        names.append(name)
        groups.append(group)

    of_glyphs = {p: c for p, c in split_classes(made, "glyphs").items() if p != "test"}
    for kind, source, of_kind in (("omniglot", drawn, parts), ("glyphs", made, of_glyphs)):
        for part, chosen in of_kind.items():
            for number, c in enumerate(map(int, chosen)):
                halved = kind == "omniglot" and part == "train"
                group = f"{kind} {number % 2}" if halved else kind
                add(part, group, source.names[c], source.class_images(c))
    rng = np.random.default_rng(0)
    for part, count in COMPOSED.items():
        for number in range(count):
            layout = LAYOUTS[rng.integers(len(LAYOUTS))]
            chosen = rng.choice(parts[part], len(layout), replace=False)
            drawings = composed([drawn.class_images(int(c)) for c in chosen], layout)
            add(part, "composed", f"composed/{part}{number:04d}", drawings)
    return ImageClasses.from_square(
        np.stack(images),
        names=names,
        groups=groups,
        name="mixed symbols",
        dark_ink=True,
        splits={"mixed": {part: np.array(classes) for part, classes in splits.items()}},
    )


def composed(components: list[np.ndarray], layout: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Drawings `[n, 1, 28, 28]` of which drawing i has drawing i of each component."""
    drawings = []
    for parts in zip(*components, strict=True):
        page = Image.new("L", (28, 28), 255)
        for part, (left, top, width, height) in zip(parts, layout, strict=True):
            ink = Image.fromarray(part[0])
            rows, columns = ((part[0] < 195).any(axis=axis).nonzero()[0] for axis in (1, 0))
            x, y = (min(int(found[0]), 28 - LEAST) for found in (columns, rows))
            box = (x, y, max(int(columns[-1]) + 1, x + LEAST), max(int(rows[-1]) + 1, y + LEAST))
            page.paste(ink.crop(box).resize((width, height), Image.Resampling.LANCZOS), (left, top))
        drawings.append(np.asarray(page)[None])
    return np.stack(drawings)
