"""The table of docs/*/classifier.md; `tools.tables` writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.table_parts import named, percent, read, table

WORDS = {
    "en": {
        "head": (
            "| told by | emoji, 1-shot | emoji, 5-shot | photos, 1-shot | photos, 5-shot "
            "| calibration error, emoji, 1- / 5-shot | fit, ms, 1- / 5-shot |"
        ),
        "pixels": "nearest picture, raw pixels",
        "means": "class means, whole picture",
        "note": (
            "Accuracy in %, 95% interval over {tasks} tasks, {ways}-way, each query told alone, "
            "of EfficientNet-Lite0 (ImageNet) at 224 pixels with two views, but for the first two "
            "rows. Emoji: the test classes of split `random`, drawn by other artists in the "
            "support set than in the queries. Settings were chosen on its training classes. "
            "Photos: crops of 30 sample pictures at other scales, angles and lights. {ms:.0f} ms a "
            "picture with both views and {mb:,.0f} MB on one thread of an {processor}, which other "
            "work shared; `python -m benchmarks.photos`."
        ),
        "none": (
            "None of these, with queries of five further classes, AUROC: emoji 1-shot {e1}, 5-shot "
            "{e5}; with {background} background pictures of other classes {b1} and {b5}; photos "
            "{p1} and {p5}. At 5-shot `reject=0.05` refuses {ec} of the pictures of the classes on "
            "emoji, and {eo} of the others; on photos {pc} and {po}."
        ),
    },
    "zh": {
        "head": (
            "| 方法 | emoji，1-shot | emoji，5-shot | 照片，1-shot | 照片，5-shot "
            "| 校准误差，emoji，1- / 5-shot | fit，毫秒，1- / 5-shot |"
        ),
        "pixels": "原始像素，最近的图片",
        "means": "类均值，只看整张图片",
        "note": (
            "准确率（%），95% 置信区间按 {tasks} 个任务计算，{ways}-way，每个查询单独判断；"
            "除前两行外，均为 EfficientNet-Lite0（ImageNet），224 像素，两个视图。"
            "Emoji：`random` 划分的测试类别，支持集与查询由不同的作者绘制；"
            "各项设置在训练类别上选定。照片：30 张样例图片的裁剪，尺度、角度和光照各不相同。"
            "每张图片（两个视图）{ms:.0f} 毫秒，内存 {mb:,.0f} MB，"
            "{processor} 的一个线程，测量时有其他负载；`python -m benchmarks.photos`。"
        ),
        "none": (
            "都不是（另取五个类别的查询），AUROC：emoji 1-shot {e1}，5-shot {e5}；"
            "用 {background} 张其他类别的背景图片时为 {b1} 和 {b5}；照片 {p1} 和 {p5}。"
            "5-shot 时 `reject=0.05` 在 emoji 上拒绝本类图片的 {ec}，其他类别的 {eo}；"
            "在照片上为 {pc} 和 {po}。"
        ),
    },
}


def photos(words: dict[str, Any]) -> str:
    """Heads on a pretrained network, on emoji and photos."""
    report = read("photos")
    runs = [report["runs"][data][s] for data in ("emoji", "photos") for s in ("1-shot", "5-shot")]
    one, five, photo_one, photo_five = runs
    lines = []
    for name in one["heads"]:
        cells = [words.get(name, f"`{name}`"), *(percent(run["heads"][name]) for run in runs)]
        if "fit_ms" in one["heads"][name]:
            both = one["heads"][name], five["heads"][name]
            cells.append(" / ".join(f"{r['calibration_error']:.3f}" for r in both))
            cells.append(" / ".join(f"{r['fit_ms']:.0f}" for r in both))
        else:
            cells += ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    note = words["note"].format(
        **{key: report[key] for key in ("tasks", "ways")},
        ms=report["ms_per_picture"],
        mb=report["peak_bytes"] / 2**20,
        processor=report["machine"]["processor"],
    )
    none = words["none"].format(
        e1=area(one["auroc"]),
        e5=area(five["auroc"]),
        b1=area(one["auroc_background"]),
        b5=area(five["auroc_background"]),
        p1=area(photo_one["auroc"]),
        p5=area(photo_five["auroc"]),
        background=report["background"],
        ec=f"{five['refused']['0.05']['classes']:.1%}",
        eo=f"{five['refused']['0.05']['others']:.1%}",
        pc=f"{photo_five['refused']['0.05']['classes']:.1%}",
        po=f"{photo_five['refused']['0.05']['others']:.1%}",
    )
    return table(words["head"], lines, f"{note}\n\n{none}")


def area(found: dict[str, float]) -> str:
    """`0.951 ± 0.004`, an AUROC with its 95% interval."""
    return f"{found['mean']:.3f} ± {found['ci95']:.3f}"


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    return named(WORDS[language], photos)
