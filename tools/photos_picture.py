"""Draw the picture of "Your own photos": `python -m tools.photos_picture`.

`innerloop adapt` on crops of three pictures that come with scikit-image, and of a fourth that is
none of them.  Writes `docs/img/photos.png` and, with Chinese labels, `photos.svg`.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.photos import crop
from benchmarks.pictures import IMAGES, KINDS
from PIL import Image

from innerloop.cli import main as innerloop

THINGS = {"coffee": "coffee.png", "cat": "chelsea.png", "rocket": "rocket.jpg"}
STRANGE = "astronaut.png"
SUPPORT, QUERIES = 7, 2
NETS = """
from benchmarks.photos import lite0

def make():
    return lite0().network

pixels = lite0().preprocess
"""


def main() -> None:
    """Make the folders, run the command, and keep the picture."""
    import skimage

    home = Path(skimage.__file__).parent / "data"
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)

        def save(file: str, path: Path) -> None:
            picture = Image.open(home / file).convert("RGB")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop(picture, generator).transpose(1, 2, 0)).save(path)

        for thing, file in THINGS.items():
            for i in range(SUPPORT):
                save(file, place / "photos" / thing / f"{i}.png")
            for i in range(QUERIES):
                save(file, place / "new" / f"{thing}{i}.png")
        save(STRANGE, place / "new" / "else.png")
        (place / "nets.py").write_text(NETS)
        words = "nets.py:make --preprocess nets.py:pixels --support photos --query new"
        with contextlib.chdir(place):
            for kind, language in KINDS.items():
                target = str(IMAGES / f"photos.{kind}")
                pictured = ["--picture", target, "--language", language]
                if status := innerloop(["adapt", *words.split(), "--reject", "0.05", *pictured]):
                    raise SystemExit(status)


if __name__ == "__main__":
    main()
