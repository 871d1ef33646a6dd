"""Draw how tasks are computed: `python -m tools.execution_picture`.

One SVG for each language goes to docs/img.  Text stays text in it, so that a browser shows it in
a font of its own and nothing here needs a Chinese one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from innerloop.plots.fonts import CHINESE_FONTS, LATIN_FONT, quiet

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "img"
FONTS = [*CHINESE_FONTS, LATIN_FONT, "sans-serif"]
BLUE, GREEN, ORANGE, GREY = "#e3ecfa", "#e5f4e6", "#fdeedb", "#f1f1f1"

# Of each layer: title, file, and what it does.  Of each way: name, what it is, when it is taken.
WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "algorithm": (
            "Algorithm: what is computed, for one task",
            "algorithms/maml.py, gradient_based.py",
            "start   →   inner_steps × (support loss → update)   →   query loss",
        ),
        "execution": ("Execution: how T tasks are computed", "algorithms/execution.py", ""),
        "ways": [
            ("stacked", "all tasks at once,\nweights [T, …]", "layers that take\nan axis of tasks"),
            (
                "shared_body",
                "features in one batch,\nhead stacked",
                "the inner loop moves\nonly the head",
            ),
            ("vmap", "torch.func.vmap\nover the tasks", "most other networks"),
            (
                "loop",
                "one task after\nthe other",
                "torch.nn convolutions\nor RNNs on a CPU;\nor where vmap fails",
            ),
        ],
        "network": (
            "Network copy: your nn.Module, called with other weights",
            "algorithms/network.py",
            "new module objects hold the fast weights; your module is only read",
        ),
        "ops": ("Our layers", "ops/", "compiled kernels, CPU and GPU"),
        "torch": ("All other layers", "torch.nn", "PyTorch's operators"),
    },
    "zh": {
        "algorithm": (
            "算法：计算什么（只写一个任务）",
            "algorithms/maml.py, gradient_based.py",
            "起点   →   inner_steps ×（支持集损失 → 更新）   →   查询集损失",
        ),
        "execution": ("执行：T 个任务怎么算", "algorithms/execution.py", ""),
        "ways": [
            ("stacked", "所有任务一起算，\n权重 [T, …]", "各层都支持\n任务轴"),
            ("shared_body", "特征合成一批，\n分类头带任务轴", "内循环只改变\n分类头"),
            ("vmap", "对任务做\ntorch.func.vmap", "其他大多数网络"),
            ("loop", "逐个任务", "CPU 上 torch.nn 的\n卷积或循环层；\n或 vmap 失败时"),
        ],
        "network": (
            "网络副本：用别的权重调用你的 nn.Module",
            "algorithms/network.py",
            "新的模块对象持有快速权重；你的模块只被读取",
        ),
        "ops": ("本工具包的层", "ops/", "编译好的内核，CPU 与 GPU"),
        "torch": ("其他的层", "torch.nn", "PyTorch 的算子"),
    },
}


def box(axes: Axes, x: float, y: float, width: float, height: float, colour: str) -> None:
    """A box with round corners; `x`, `y` is its lower left corner."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=colour,
            edgecolor="#8a8a8a",
            linewidth=0.8,
        )
    )


def layer(
    axes: Axes,
    place: tuple[float, float, float, float],
    words: tuple[str, str, str],
    colour: str,
) -> None:
    """A box with title and file in its first line and what it does in its second."""
    x, y, width, height = place
    title, file, does = words
    box(axes, x, y, width, height, colour)
    top = y + height - 0.28
    axes.text(x + 0.2, top, title, fontsize=10, weight="bold", va="center")
    axes.text(x + width - 0.2, top, file, fontsize=8, color="#555555", ha="right", va="center")
    axes.text(x + width / 2, y + 0.3, does, fontsize=9, ha="center", va="center")


def arrow(axes: Axes, x: float, top: float, bottom: float) -> None:
    """An arrow straight down."""
    style = {"arrowstyle": "-|>", "color": "#555555", "linewidth": 1.0}
    axes.annotate("", (x, bottom), (x, top), arrowprops=style)


def picture(language: str) -> Figure:
    """The figure with the words of one language."""
    words = WORDS[language]
    figure = Figure(figsize=(8.4, 5.8))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10.5), ylim=(0, 7.25))
    axes.axis("off")
    layer(axes, (0.2, 6.2, 10.1, 0.9), words["algorithm"], BLUE)
    layer(axes, (0.2, 3.15, 10.1, 2.6), words["execution"], ORANGE)
    centred: Any = {"ha": "center", "va": "center", "linespacing": 1.4}
    for i, (name, what, when) in enumerate(words["ways"]):
        x = 0.4 + 2.45 * i
        box(axes, x, 3.3, 2.35, 1.85, "white")
        middle = x + 1.175
        axes.text(middle, 4.9, name, fontsize=10, weight="bold", family="monospace", **centred)
        axes.text(middle, 4.38, what, fontsize=8.5, **centred)
        axes.text(middle, 3.71, when, fontsize=8.5, color="#9a4a00", **centred)
    layer(axes, (0.2, 1.7, 10.1, 0.95), words["network"], GREEN)
    layer(axes, (0.2, 0.2, 4.95, 0.95), words["ops"], GREY)
    layer(axes, (5.35, 0.2, 4.95, 0.95), words["torch"], GREY)
    for x, top, bottom in [(5.25, 6.2, 5.75), (5.25, 3.15, 2.65)]:
        arrow(axes, x, top, bottom)
    for x in (2.7, 7.8):
        arrow(axes, x, 1.7, 1.15)
    return figure


def main() -> None:
    """Write the picture in both languages."""
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "innerloop", "font.sans-serif": FONTS}
    for language in WORDS:
        with matplotlib.rc_context(settings), quiet(glyphs=True):
            figure = picture(language)
            FigureCanvasSVG(figure)
            figure.savefig(
                IMAGES / f"execution-{language}.svg", metadata={"Creator": None, "Date": None}
            )


if __name__ == "__main__":
    main()
