"""What the site does to the text of a page."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).parent.parent / "mkdocs_hooks.py"


@pytest.fixture(scope="module")
def hooks():
    specification = importlib.util.spec_from_file_location("mkdocs_hooks", FILE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_lines_of_chinese_are_joined_and_code_is_not(hooks):
    text = "前半句，\n  后半句。\n\n下一段\n```text\n甲\n乙\n```\nplain\ntext\n"
    joined = "前半句，后半句。\n\n下一段\n```text\n甲\n乙\n```\nplain\ntext\n"
    assert hooks.on_page_markdown(text) == joined


@pytest.mark.parametrize(
    "formula", ["\\theta'", "\\theta'_{\\text{head}}", "\\theta'_0", "\\theta'_k", "\\theta'_{k+1}"]
)
def test_primes_are_no_superscripts(hooks, formula):
    shown = hooks.on_page_content(rf'<span class="arithmatex">\({formula}\)</span>')
    assert "&#x02032;</mo>" in shown
    assert "sup>" not in shown


def test_a_formula_on_a_line_of_its_own_scrolls(hooks):
    shown = hooks.on_page_content(r'<div class="arithmatex">\[a = b\]</div>')
    assert shown.startswith('<div class="formula"><math')


@pytest.mark.parametrize(
    ("source", "url", "link"),
    [
        ("en/tutorial/data.md", "tutorial/data.html", "../notebooks/en/data.ipynb"),
        ("zh/tutorial/data.md", "zh/tutorial/data.html", "../../notebooks/zh/data.ipynb"),
        ("en/data.md", "data.html", None),
        ("en/tutorial/symptoms.md", "tutorial/symptoms.html", None),
    ],
)
def test_chapters_link_to_their_notebooks(hooks, source, url, link):
    page = SimpleNamespace(file=SimpleNamespace(src_uri=source), url=url)
    shown = hooks.on_page_content("<h1>Title</h1><p>Text</p>", page=page)
    assert re.findall('href="([^"]*)" download', shown) == ([link] if link else [])
    assert shown.startswith("<h1>Title</h1>")


PAGE = SimpleNamespace(
    url="zh/tutorial/symptoms.html", file=SimpleNamespace(src_uri="zh/tutorial/symptoms.md")
)


def test_what_is_made_with_the_site_is_linked_from_every_depth(hooks):
    text = "<!-- on the site: 打开页面 | draw/index.html?lang=zh -->\n"
    assert 'href="draw/index.html?lang=zh">打开页面</a>' in hooks.on_page_markdown(text)
    assert 'href="../../draw/index.html?lang=zh">' in hooks.on_page_markdown(text, PAGE)


def test_pictures_are_for_the_site_to_find(hooks):
    """The pages in English move up a folder, and HTML is left alone."""
    text = '<img src="../img/a.png" alt="A page" width="300">'
    assert hooks.on_page_markdown(text) == '![A page](../img/a.png){ width="300" }'
    docs = FILE.parent / "docs"
    for page in sorted(docs.rglob("*.md")):
        # In code it is an example.
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
        assert "<img" not in hooks.on_page_markdown(text), page


def test_a_page_brings_the_scripts_of_its_figures_and_no_others(hooks):
    figure = '<div class="figure" data-figure="episodes"></div>'
    shown = hooks.on_page_content(figure, PAGE)
    assert shown == figure + '<script src="../../scripts/episodes.js"></script>'
    assert hooks.on_page_content("<p>none</p>", PAGE) == "<p>none</p>"


def test_scripts_of_figures_exist(hooks):
    docs, static = FILE.parent / "docs", FILE.parent / "src/innerloop/demo/static"
    for script in {script for scripts in hooks.FIGURES.values() for script in scripts}:
        folder, name = script.split("/")
        made = name == "networks.js"  # with the page
        assert made or ((static if folder == "draw" else docs / folder) / name).is_file()
