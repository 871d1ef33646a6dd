"""Charts in both languages: NAME.png with English labels, NAME.svg with Chinese ones.

They are drawn by the same code, whose labels are then put into Chinese by a table.
"""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from innerloop.plots.figures import save
from innerloop.plots.words import CHINESE, Language

# Both kinds of file, each with labels in its language.
KINDS: dict[str, Language] = {"png": "en", "svg": "zh"}
IMAGES = Path(__file__).parent.parent / "docs" / "img"

# English and Chinese, beside those of the package's own pictures.  What stands in braces is kept.
# A label without an entry is an error, so that none stays English.
LABELS = CHINESE | {
    # The tutorial.
    "meta-learnt start, wave {number}": "元学习的起点，{number} 号波",
    "pre-trained start, wave {number}": "预训练的起点，{number} 号波",
    "the wave": "波",
    "support": "支持集",
    "queries": "查询集",
    "the start itself": "起点自身",
    "{number} outer steps": "{number} 个外循环步",
    "test waves": "测试波",
    "outer step": "外循环步",
    "after {number} inner steps": "{number} 个内循环步之后",
    "meta-learnt, task {name}": "元学习，任务 {name}",
    "pre-trained, task {name}": "预训练，任务 {name}",
    "untrained, support set": "未训练，支持集",
    "untrained, query set": "未训练，查询集",
    "meta-trained, support set": "元训练之后，支持集",
    "meta-trained, query set": "元训练之后，查询集",
    "loss, mean of 20 tasks": "损失，20 个任务的平均",
    "Omniglot, turned classes": "Omniglot，旋转的类别",
    "label": "标签",
    # Speed and memory.
    "{workload}, first order": "{workload}，一阶",
    "{workload}, second order": "{workload}，二阶",
    "tutorial": "教程的代码",
    "time of a meta-gradient, innerloop = 1": "一次元梯度的时间，innerloop = 1",
    "time of a meta-gradient, innerloop = 1; dashed: the arithmetic alone": "一次元梯度的时间，"
    "innerloop = 1；虚线：只算算术运算",
    "loop": "逐任务循环",
    "loop, unfused": "逐任务循环，不融合",
    "all tasks at once, reverse mode": "所有任务同时，反向模式",
    "all tasks at once, mixed mode": "所有任务同时，混合模式",
    "task by task, mixed mode": "逐个任务，混合模式",
    "task by task, higher": "逐个任务，higher",
    "inner steps": "内循环步数",
    "peak memory of a meta-gradient, MB": "一次元梯度的内存峰值（MB）",
    "{tasks} tasks, {setting}, {queries} queries, {network}, second order": "{tasks} 个任务，"
    "{setting}，{queries} 个查询样本，{network}，二阶",
    "{tasks} tasks, {setting}, {queries} queries, {network} in torch.nn, second order": "{tasks} "
    "个任务，{setting}，{queries} 个查询样本，用 torch.nn 写的 {network}，二阶",
    "innerloop, quick recipe": "innerloop，快速配方",
    "innerloop, finn2017 preset": "innerloop，finn2017 预设",
    "the tutorial's loop": "教程的循环",
    "seconds of training": "训练时间（秒）",
    "accuracy on {tasks} validation tasks": "{tasks} 个验证任务上的准确率",
    "Omniglot, {setting}": "Omniglot，{setting}",
    "minutes": "分钟",
    "resident memory (MB)": "常驻内存（MB）",
    "{steps} outer steps: {growth} MB an hour in the second half": "{steps} 个外循环步：后半程"
    "每小时 {growth} MB",
    # Waves.
    "pre-trained, K = {shots}": "预训练，K = {shots}",
}
# Names, numbers, units, formulas, and what is Chinese already.
SAME = re.compile(
    r"innerloop(, bf16)?|higher|TorchOpt|learn2learn|torch\.func vmap|Omniglot|glyphs"
    r"|MAML, K = \d+|[xy]|[\d,. ]+ ms( \([\d.]+x\))?|[^a-zA-Z]*|\$.*\$|.*[\u4e00-\u9fff].*"
)


def chinese(label: str) -> str:
    """A label in Chinese.

    Raises:
        KeyError: the table has no entry for it.
    """
    if SAME.fullmatch(label):
        return label
    if label in LABELS:
        return LABELS[label]
    # Of two entries that match, the longer one.
    for entry, words in sorted(LABELS.items(), key=lambda pair: -len(pair[0])):
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(entry))
        if match := re.fullmatch(pattern, label):
            return words.format(**match.groupdict())
    raise KeyError(f"{label!r} has no Chinese in benchmarks/pictures.py")


def translate(figure: Figure) -> None:
    """Put the words of a figure into Chinese."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # Ticks with words of their own; the others are numbers, made when drawn.
            if isinstance(axis.get_major_formatter(), FuncFormatter):
                labels = [label.get_text() for label in axis.get_ticklabels()]
                # An axis that others share holds their labels, too: it is left alone if it can be.
                if (words := [*map(chinese, labels)]) != labels:
                    axis.set_ticks(axis.get_majorticklocs(), words)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(chinese(text.get_text()))


def save_both(figure: Figure, name: str) -> None:
    """Write NAME.png and, in Chinese, NAME.svg; the figure is Chinese afterwards."""
    save(figure, IMAGES / f"{name}.png")
    translate(figure)
    save(figure, IMAGES / f"{name}.svg")
