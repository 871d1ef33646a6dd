"""Code on Chinese pages has Chinese comments, and is the same code."""

import ast

import pytest
from tools import comments
from tools.pages import ROOT

PAGES = sorted(ROOT.glob("docs/zh/**/*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_comment_is_chinese(page):
    left = [
        comment
        for comment in comments.said(comments.translated(page.read_text("utf-8")))
        if comments.is_prose(comment) and not comments.CHINESE.search(comment)
    ]
    assert left == [], "put them into tools/comments_zh.txt"


def test_every_pair_is_used():
    found = {comment for page in PAGES for comment in comments.said(page.read_text("utf-8"))}
    assert set(comments.WORDS) - found == set()


def test_only_comments_and_docstrings_change():
    code = 'def f(x):\n    """Of a single task."""\n    return "# no copy" + x  # no copy\n'
    page = f"two tasks\n```python\n{code}```\n```text\n# two tasks\n```\n"
    shown = comments.translated(page)
    assert '    return "# no copy" + x  # 不复制\n' in shown
    assert "单个任务的元梯度。" in shown
    assert shown.startswith("two tasks\n")
    assert "# two tasks" in shown
    plain, chinese = (
        ast.parse(text.split("```")[1].removeprefix("python")) for text in (page, shown)
    )
    plain.body[0].body.pop(0), chinese.body[0].body.pop(0)
    assert ast.dump(plain) == ast.dump(chinese)
