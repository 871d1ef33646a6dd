"""What the documentation site does to pages that are also read as they lie in the repository."""

from __future__ import annotations

import re

# The first line of a page leads to the other language, for which the site has a switch.
OTHER_LANGUAGE = re.compile(r"^\[(?:中文|English)\]\([^)]*\)\n", re.MULTILINE)
# Links to files that are not part of the site become plain text.
OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./){2,}(?:README|src|benchmarks|examples)[^)]*\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """The text of a page as the site shows it."""
    return OUTSIDE.sub(r"\1", OTHER_LANGUAGE.sub("", markdown, count=1))
