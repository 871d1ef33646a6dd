"""Chinese comments in code, for the Chinese pages and notebooks.

Code is the same on the pages of both languages, so that there is one source.  Comments and
docstrings on the Chinese site and in the notebooks come from `comments_zh.txt`: pairs of lines,
English and Chinese, with an empty line between.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

WORDS = dict(
    pair.split("\n")
    for pair in Path(__file__).with_name("comments_zh.txt").read_text("utf-8").strip().split("\n\n")
)
# A block of code in any language, in a list too.
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"(?<![^ \n])# +(\S[^\n]*)$", re.MULTILINE)
DOCSTRING = re.compile(r'"""(.+?)"""', re.DOTALL)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Output is no code.
OUTPUT = ("text",)


def chinese(code: str) -> str:
    """`code` with the comments and docstrings that the table has in Chinese."""
    code = COMMENT.sub(lambda m: f"# {WORDS.get(m[1], m[1])}", code)
    return DOCSTRING.sub(lambda m: f'"""{WORDS.get(m[1], m[1])}"""', code)


def translated(page: str) -> str:
    """The text of a page with its code in Chinese."""
    return BLOCK.sub(lambda m: m[0] if m[2] in OUTPUT else chinese(m[0]), page)


def said(page: str) -> Iterator[str]:
    """Comments and docstrings of the code on a page."""
    for _, language, code in BLOCK.findall(page):
        if language == "python":
            for token in tokenize.generate_tokens(io.StringIO(dedent(code)).readline):
                if token.type == tokenize.COMMENT:
                    yield token.string.removeprefix("#").strip()
                elif token.type == tokenize.STRING and token.string.startswith('"""'):
                    yield token.string.strip('"')
        elif language not in OUTPUT:
            yield from COMMENT.findall(code)


def is_prose(comment: str) -> bool:
    """Whether a comment is more than a shape or a formula, such as `[B, time]`."""
    return bool(re.search(r"[a-z]{2}", re.sub(r"\[[^\]]*\]|\([^)]*\)|`[^`]*`", "", comment)))
