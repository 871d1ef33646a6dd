"""The tutorial's chapters as notebooks: `python -m tools.notebooks`.

Made from the pages in docs/*/tutorial, block for block, so that there is one source.  What a
block prints goes along; its pictures appear when it is run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

from tools import comments
from tools.pages import BLOCK, ROOT

NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = (
    "from-scratch",
    "data",
    "questions",
    "reading-the-original",
    "one-parameter",
    "why-it-works",
    "what-changes",
)
LANGUAGES = ("en", "zh")
FIRST = {
    "en": (
        "*Made from [the page]({page}) of the tutorial. It needs innerloop: in a clone of the "
        "repository, `pip install .`, here or in a cell of its own as `%pip install .`*"
    ),
    "zh": (
        "*由教程的[这一页]({page})生成。需要先安装 innerloop：在代码仓库里执行 `pip install .`，"
        "或者在单元格里执行 `%pip install .`*"
    ),
}
OTHER_LANGUAGE = re.compile(r"^\[(?:中文|English)\]\([^)]*\)\n\n", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")


def way(file: Path, folder: Path) -> str:
    """The relative path of `file` as seen from `folder`."""
    return Path(os.path.relpath(file, folder)).as_posix()


def moved(text: str, page: Path, folder: Path) -> str:
    """`text` with the links of `page` as they are seen from `folder`."""

    def link(match: re.Match[str]) -> str:
        target, mark, place = match[1].partition("#")
        return f"]({way(page.parent / target, folder)}{mark}{place})"

    return LINK.sub(link, text)


def cells(page: Path, folder: Path) -> Iterator[NotebookNode]:
    """Prose and code of a page in turn, with Chinese comments on a Chinese one."""
    text = OTHER_LANGUAGE.sub("", page.read_text("utf-8"), count=1)
    if "zh" in page.parts:
        text = comments.translated(text)
    end = 0
    for block in BLOCK.finditer(text):
        if prose := text[end : block.start()].strip():
            yield v4.new_markdown_cell(moved(prose, page, folder))
        cell = v4.new_code_cell(block[1].rstrip())
        if block[2]:
            cell.outputs = [v4.new_output("stream", name="stdout", text=block[2])]
        yield cell
        end = block.end()
    if prose := text[end:].strip():
        yield v4.new_markdown_cell(moved(prose, page, folder))


def notebook(chapter: str, language: str) -> str:
    """A chapter as the text of an .ipynb file."""
    page, folder = ROOT / f"docs/{language}/tutorial/{chapter}.md", NOTEBOOKS / language
    title, *rest = cells(page, folder)
    head = FIRST[language].format(page=way(page, folder))
    name, _, prose = title.source.partition("\n\n")
    title.source = f"{name}\n\n{head}\n\n{prose}"
    book = v4.new_notebook(cells=[title, *rest])
    book.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    for i, cell in enumerate(book.cells):
        # Random by default: the file would differ each time.
        cell.id = hashlib.sha256(f"{i} {cell.source}".encode()).hexdigest()[:8]
    nbformat.validate(book)
    return nbformat.writes(book) + "\n"


def main() -> None:
    """Write all of them."""
    for language in LANGUAGES:
        (NOTEBOOKS / language).mkdir(parents=True, exist_ok=True)
        for chapter in CHAPTERS:
            file = NOTEBOOKS / language / f"{chapter}.ipynb"
            file.write_text(notebook(chapter, language), "utf-8")


if __name__ == "__main__":
    main()
