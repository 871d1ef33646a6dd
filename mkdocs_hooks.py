"""What the documentation site does to pages that are also read as they lie in the repository."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from tools import comments

NOTEBOOKS = Path(__file__).parent / "notebooks"
THIS_PAGE = {"en": "This page as a notebook", "zh": "下载本页的笔记本"}

# The first line of a page leads to the other language, for which the site has a switch.
OTHER_LANGUAGE = re.compile(r"^\[(?:中文|English)\]\([^)]*\)\n", re.MULTILINE)
# Links to files that are not part of the site become plain text.
OUTSIDE = re.compile(
    r"\[([^\]]*)\]\((?:\.\./){2,}(?:README|src|benchmarks|trials|tools|research|examples)[^)]*\)"
)

# A link to what is made with the site alone: its address counts from the site's first page.
ON_SITE = re.compile(r"<!-- on the site: ([^|]*) \| (\S*) -->")
DRAWING_PAGE = "draw"

# A picture of a width of its own, which the repository's host knows as HTML alone.  The site moves
# pages, and finds the pictures of Markdown again.
WIDE = re.compile(r'<img src="([^":]*)" alt="([^"]*)" width="(\d+)">')

# A browser would show the end of a line within a Chinese sentence as a space.
CHINESE = "[\\u3000-\\u303f\\u3400-\\u9fff\\uff00-\\uffef]"
LINE_END = re.compile(rf"^ *```.*?^ *```|(?<={CHINESE})\n *(?={CHINESE})", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, page: Page | None = None, **_: object) -> str:
    """The text of a page as the site shows it."""
    if page and page.file.src_uri.startswith("zh/"):
        markdown = comments.translated(markdown)
    markdown = ON_SITE.sub(
        lambda m: (
            f'<a class="md-button md-button--primary" href="{seen_from(page, m[2])}">{m[1]}</a>'
        ),
        markdown,
    )
    markdown = WIDE.sub(r'![\2](\1){ width="\3" }', markdown)
    text = OUTSIDE.sub(r"\1", OTHER_LANGUAGE.sub("", markdown, count=1))
    return LINE_END.sub(lambda m: m[0] if "```" in m[0] else "", text)


# What the extension arithmatex makes of $...$ and $$...$$.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


# A prime as a superscript: small and far up where the font has no glyph for that place.
PRIME = re.compile(r"<msup><mi>([^<]*)</mi><mi>&#x02032;</mi></msup>")
LOWER = r"(<mrow>(?:(?!<msubsup>).)*?</mrow>|<m[in]>[^<]*</m[in]>)"
LOWER_PRIME = re.compile(rf"<msubsup><mi>([^<]*)</mi>{LOWER}<mi>&#x02032;</mi></msubsup>")
PRIMED = r'<mrow><mi>\1</mi><mo lspace="0" rspace="0">&#x02032;</mo></mrow>'


def mathml(match: re.Match[str]) -> str:
    """A formula; one with a line of its own scrolls by itself where the screen is narrow."""
    formula = convert(html.unescape(match[3]), display="block" if match[2] == "[" else "inline")
    formula = PRIME.sub(PRIMED, formula)
    formula = LOWER_PRIME.sub(rf"<msub>{PRIMED}\2</msub>", formula)
    return f'<div class="formula">{formula}</div>' if match[2] == "[" else formula


# The exhibit learns as the drawing page does: by its scripts, but for those of the page alone.
PAGE = Path(__file__).parent / "src" / "innerloop" / "demo" / "static" / "index.html"
SCRIPTS = re.findall(r'<script defer src="(\w+)\.js">', PAGE.read_text("utf-8"))
LEARNER = [s for s in SCRIPTS if s not in ("link", "belief", "models", "server", "app")]
# Scripts of the figures that answer, counted from the site's first page.
FIGURES = {
    "sine": ["scripts/sine-network.js", "scripts/sine-weights.js", "scripts/sine.js"],
    "episodes": ["scripts/episodes.js"],
    "exhibit": [*(f"{DRAWING_PAGE}/{name}.js" for name in LEARNER), "scripts/exhibit.js"],
}


def on_page_content(content: str, page: Page | None = None, **_: object) -> str:
    """The same with formulas in MathML, which browsers draw without any script.

    Where a page has a figure that answers, its scripts stand at the end.
    """
    content = FORMULA.sub(mathml, content)
    for name, scripts in FIGURES.items():
        if f'data-figure="{name}"' in content:
            for script in scripts:
                content += f'<script src="{seen_from(page, script)}"></script>'
    return with_notebook(content, page) if page else content


def seen_from(page: Page | None, target: str) -> str:
    """The address on a page of what lies in the site at `target`."""
    return get_relative_url(target, page.url) if page else target


def with_notebook(content: str, page: Page) -> str:
    """The same with a link to the page's notebook below its title, where there is one."""
    language, name = page.file.src_uri.split("/")[0], Path(page.file.src_uri).stem
    notebook = f"{language}/{name}.ipynb"
    if "/tutorial/" not in page.file.src_uri or not (NOTEBOOKS / notebook).exists():
        return content
    target = seen_from(page, f"notebooks/{notebook}")
    link = f'<p><a href="{target}" download>{THIS_PAGE[language]}</a></p>'
    return content.replace("</h1>", f"</h1>\n{link}", 1)


def on_post_build(config: MkDocsConfig, **_: object) -> None:
    """Put the notebooks into the site, and the drawing page as files that need no server."""
    from innerloop.demo.answers import episode_source, offered
    from innerloop.demo.site import write_site

    shutil.copytree(NOTEBOOKS, Path(config.site_dir) / "notebooks", dirs_exist_ok=True)
    entries = offered([])
    write_site(
        Path(config.site_dir) / DRAWING_PAGE, entries, *episode_source("glyphs", None, entries)
    )
