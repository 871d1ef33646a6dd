"""What the documentation site does to pages that are also read as they lie in the repository."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# The first line of a page leads to the other language, for which the site has a switch.
OTHER_LANGUAGE = re.compile(r"^\[(?:中文|English)\]\([^)]*\)\n", re.MULTILINE)
# Links to files that are not part of the site become plain text.
OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./){2,}(?:README|src|benchmarks|examples)[^)]*\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """The text of a page as the site shows it."""
    return OUTSIDE.sub(r"\1", OTHER_LANGUAGE.sub("", markdown, count=1))


# What the extension arithmatex makes of $...$ and $$...$$.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """The same with formulas in MathML, which browsers draw without any script."""
    return FORMULA.sub(
        lambda m: convert(html.unescape(m[3]), display="block" if m[2] == "[" else "inline"),
        content,
    )
