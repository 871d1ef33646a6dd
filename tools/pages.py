"""Run the Python of the tutorial's pages: `python -m tools.pages [PAGE ...]`.

The blocks of a page run one after another, as if typed into one session.  What a block prints is
put below it, and the pictures that it saves go to docs/img/tutorial, as NAME.png and in Chinese
as NAME.svg.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import matplotlib

from tools.chinese_pictures import also_in_chinese

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "img" / "tutorial"
# A block of Python and what it printed.
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


def tutorial_pages(language: str = "*") -> list[Path]:
    """The pages of the tutorial."""
    return sorted(ROOT.glob(f"docs/{language}/tutorial/*.md"))


def run(page: Path, folder: Path) -> Iterator[tuple[re.Match[str], str]]:
    """Each block of a page with what it prints; pictures are saved in `folder`."""
    matplotlib.use("Agg")
    names = {"__name__": "page"}
    for block in BLOCK.finditer(page.read_text("utf-8")):
        out = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(out):
            exec(compile(block[1], str(page), "exec"), names)
        yield block, out.getvalue()


NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def same_output(out: str, said: str) -> bool:
    """True if `out` is the page's output; last digits may differ from machine to machine."""
    if NUMBER.sub("#", out) != NUMBER.sub("#", said):
        return False
    numbers = ([float(n) for n in NUMBER.findall(text)] for text in (out, said))
    return all(
        math.isclose(a, b, rel_tol=0.05, abs_tol=0.05) for a, b in zip(*numbers, strict=True)
    )


def pictures(page: Path) -> set[str]:
    """The names of the pictures that a page shows."""
    return set(re.findall(r"img/tutorial/([\w-]+\.png)", page.read_text("utf-8")))


def written(page: Path, folder: Path) -> str:
    """The text of a page with new output."""
    parts, end = [], 0
    text = page.read_text("utf-8")
    for block, out in run(page, folder):
        parts.append(text[end : block.start()] + f"```python\n{block[1]}```\n")
        if out:
            parts.append(f"\n```text\n{out}```\n")
        end = block.end()
    return "".join(parts) + text[end:]


def main() -> None:
    """Rewrite the pages that are named, or all."""
    pages = [Path(name).resolve() for name in sys.argv[1:]] or tutorial_pages("en")
    IMAGES.mkdir(exist_ok=True)
    for page in pages:
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.dict(os.environ),
            also_in_chinese(),
        ):
            text = written(page, Path(folder))
            page.write_text(text, "utf-8")
            for picture in sorted(pictures(page)):
                for file in (picture, picture.replace(".png", ".svg")):
                    (IMAGES / file).write_bytes((Path(folder) / file).read_bytes())
        _copy_output(page)


def _copy_output(page: Path) -> None:
    """Put the output of an English page into the Chinese one, whose code is the same."""
    other = Path(str(page).replace("/en/", "/zh/"))
    if other == page or not other.exists():
        return
    blocks = {b[1]: b[0] for b in BLOCK.finditer(page.read_text("utf-8"))}
    text = other.read_text("utf-8")
    other.write_text(BLOCK.sub(lambda b: blocks.get(b[1], b[0]), text), "utf-8")


if __name__ == "__main__":
    main()
