"""The notebooks are the tutorial's pages, and run in a Jupyter kernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tools import comments
from tools.notebooks import CHAPTERS, LANGUAGES, NOTEBOOKS, notebook
from tools.pages import BLOCK, ROOT, pictures, same_output

BOTH = pytest.mark.parametrize("language", LANGUAGES)


@BOTH
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_notebooks_are_those_of_the_pages(chapter, language):
    file = NOTEBOOKS / language / f"{chapter}.ipynb"
    assert file.read_text("utf-8") == notebook(chapter, language), "run python -m tools.notebooks"


@BOTH
def test_there_are_no_others(language):
    assert {file.stem for file in (NOTEBOOKS / language).iterdir()} == set(CHAPTERS)


@BOTH
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_output_and_links(chapter, language):
    page = (ROOT / f"docs/{language}/tutorial/{chapter}.md").read_text("utf-8")
    page = comments.translated(page) if language == "zh" else page
    blocks = list(BLOCK.finditer(page))
    file = NOTEBOOKS / language / f"{chapter}.ipynb"
    book = nbformat.read(file, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.source + "\n" for cell in code] == [block[1] for block in blocks]
    said = ["".join(output.text for output in cell.outputs) for cell in code]
    assert said == [block[2] or "" for block in blocks]
    for cell in book.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)", cell.source):
                if not target.startswith("http"):
                    assert (file.parent / Path(target)).exists(), target


@pytest.mark.long
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_they_run_in_jupyter_and_print_what_they_say(chapter, tmp_path, request):
    """The code is the same in both languages."""
    if "omniglot()" in (NOTEBOOKS / "en" / f"{chapter}.ipynb").read_text("utf-8"):
        request.getfixturevalue("omniglot_by_default")
    said, done = (
        nbformat.read(NOTEBOOKS / "en" / f"{chapter}.ipynb", as_version=4) for _ in range(2)
    )
    client = NotebookClient(done, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    for cell, was in zip(done.cells, said.cells, strict=True):
        if cell.cell_type == "code":
            kinds = {output.output_type for output in cell.outputs}
            assert "error" not in kinds
            out = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
            assert same_output(out, "".join(o.text for o in was.outputs)), f"{cell.source}\n{out}"
    shown = [
        o for c in done.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    page = ROOT / f"docs/en/tutorial/{chapter}.md"
    assert {file.name for file in tmp_path.glob("*.png")} == pictures(page)
    assert len(shown) >= len(pictures(page))
