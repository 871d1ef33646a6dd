"""The tutorial's pictures with Chinese labels, for the Chinese pages.

They are drawn by the same code.  Text stays text in an SVG, so that a browser shows it in a font of
its own and nothing here needs a Chinese one.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from tools.execution_picture import FONTS

# Patterns of whole labels.  A label without a match is an error, so that none stays English.
LABELS = {
    r"meta-learnt start, wave (\d+)": r"元学习的起点，\1 号波",
    r"pre-trained start, wave (\d+)": r"预训练的起点，\1 号波",
    r"the wave": "波",
    r"after (\d+) steps": r"\1 步之后",
    r"support(?: set)?": "支持集",
    r"queries": "查询集",
    r"the start itself": "起点自身",
    r"(\d+) outer steps": r"\1 个外循环步",
    r"test waves": "测试波",
    r"outer step": "外循环步",
    r"query loss": "查询损失",
    r"after (\d+) inner steps": r"\1 个内循环步之后",
    r"meta-learnt, task (\w)": r"元学习，任务 \1",
    r"pre-trained, task (\w)": r"预训练，任务 \1",
    r"untrained, support set": "未训练，支持集",
    r"untrained, query set": "未训练，查询集",
    r"meta-trained, support set": "元训练之后，支持集",
    r"meta-trained, query set": "元训练之后，查询集",
    r"inner step": "内循环步",
    r"loss, mean of 20 tasks": "损失，20 个任务的平均",
    r"Omniglot, turned classes": "Omniglot，旋转的类别",
    r"label": "标签",
    # Names, numbers, formulas, and what is Chinese already.
    r"(Omniglot|glyphs|x|[^a-zA-Z]*|\$.*\$)": r"\1",
}


def chinese(label: str) -> str:
    """A label in Chinese."""
    for pattern, words in LABELS.items():
        if match := re.fullmatch(pattern, label):
            return match.expand(words)
    raise KeyError(f"{label!r} has no Chinese in tools/chinese_pictures.py")


def translate(figure: Figure) -> None:
    """Put the words of a figure into Chinese."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # Ticks with words of their own; the others are numbers, made anew each time.
            if isinstance(axis.get_major_formatter(), FuncFormatter):
                words = [chinese(label.get_text()) for label in axis.get_ticklabels()]
                axis.set_ticks(axis.get_majorticklocs(), words)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(chinese(text.get_text()))


@contextlib.contextmanager
def also_in_chinese() -> Iterator[None]:
    """Within it, every picture that is saved as NAME.png is also saved as NAME.svg, in Chinese."""
    save = Figure.savefig

    def both(figure: Figure, name: str, **options: Any) -> None:
        save(figure, name, **options)
        translate(figure)
        # The fonts are the reader's; here none of them may be at hand.
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        settings = {"svg.fonttype": "none", "font.family": FONTS, "svg.hashsalt": name}
        with matplotlib.rc_context(settings), warnings.catch_warnings(action="ignore"):
            for text in figure.findobj(Text):
                assert isinstance(text, Text)
                text.set_family(FONTS)
            save(figure, Path(name).with_suffix(".svg"), metadata={"Date": None})

    with mock.patch.object(Figure, "savefig", both):
        yield
