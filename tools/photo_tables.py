"""The table of docs/*/classifier.md; `tools.tables` writes it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean
from typing import Any

from tools.table_parts import named, percent, read, table

SHOTS = ("1-shot", "5-shot")
WORDS = {
    "en": {
        "head": (
            "| method | emoji, 1-shot | emoji, 5-shot | photos, 1-shot | photos, 5-shot "
            "| calibration error, emoji, 1- / 5-shot | fit, ms, 1- / 5-shot |"
        ),
        "trained": "| trained by | 1-shot | 5-shot | AUROC, 1- / 5-shot | seconds |",
        "trained_note": (
            "Five ways, {tasks} tasks, 95% interval over tasks, each query classified on its own; "
            "iterations as in the recipes, seconds on one thread while other work ran. AUROC: none "
            "of these, with queries of five further classes. Without meta-training, `auto`, which "
            "sees a map of the last layer, too, has {one} and {five}, and an AUROC of {e1} and "
            "{e5}."
        ),
        "pixels": "nearest picture, raw pixels",
        "means": "class means, whole picture",
        "background": "`auto`, {background} background pictures",
        "groups": (
            "| left out | classes | `auto`, 1-shot | `auto`, 5-shot | ProtoNet, 1-shot "
            "| ProtoNet, 5-shot | AUROC of ProtoNet, 1- / 5-shot |"
        ),
        "groups_note": (
            "Leave one Unicode category out: ProtoNet is meta-trained on the kept features of the "
            "other categories, and tested on this one, as above; `auto` learns from the support "
            "set alone; both see the network's own features, without maps of layers. A task has "
            "classes of one category, which are harder to tell apart than those of the table "
            "above. Flags, two classes here, are too few for tasks."
        ),
        "tuning": (
            "| shots | left as it is | `fine_tune=True` | difference | tuned | better / worse "
            "| minutes |"
        ),
        "tuning_note": (
            "Emoji, {ways} classes of one Unicode category, which are harder to tell apart than "
            "above; 95% interval over tasks; whole pictures through EfficientNet-Lite0, `auto`. "
            "Tuned: in so many of the tasks a rate above 0 was taken. Minutes of processor time "
            "for a fit, on one thread; `python -m benchmarks.fine_tuning`."
        ),
        "mean": "mean",
        "scratch": "| from nothing | 1-shot | 5-shot | minutes |",
        "scratch_row": {
            "whole": "preset `emoji`: MAML, Conv4",
            "flips": 'the same, used with `views="flips"`',
        },
        "scratch_note": (
            "Emoji, 5-way, {tasks} tasks of the test classes, 95% interval over tasks, each query "
            "told alone; {threads} threads of an {processor}; `python -m benchmarks.emoji RUN`. "
            "What a network that was trained on ImageNet knows is worth more: [the same "
            "tasks on its features](classifier.md#meta-training-on-a-pretrained-network)."
        ),
        "note": (
            "Accuracy in %, 95% interval over {tasks} tasks, {ways}-way, each query classified on "
            "its own, of EfficientNet-Lite0 (ImageNet) at 224 pixels with two views, but for the "
            "first two rows. Emoji: the test classes of split `random`, drawn by other artists in "
            "the support set than in the queries. Settings were chosen on its training classes. "
            "Photos: crops of 30 sample pictures at other scales, angles and lights. {ms:.0f} ms a "
            "picture with both views and {mb:,.0f} MB; times are processor time of one thread of "
            "an {processor}; `python -m benchmarks.photos`."
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
        "trained": "| 训练方法 | 1-shot | 5-shot | AUROC，1- / 5-shot | 秒 |",
        "trained_note": (
            "五类，{tasks} 个任务，95% 置信区间按任务计算，每个查询单独判断；迭代次数按配方，"
            "时间为一个线程，同时有其他负载。AUROC：都不是，另取五个类别的查询。"
            "不作元训练时，`auto`（另用最后一层的特征图）为 {one} 和 {five}，"
            "AUROC 为 {e1} 和 {e5}。"
        ),
        "pixels": "原始像素，最近的图片",
        "means": "类均值，只看整张图片",
        "background": "`auto`，{background} 张背景图片",
        "groups": (
            "| 留出 | 类别数 | `auto`，1-shot | `auto`，5-shot | ProtoNet，1-shot "
            "| ProtoNet，5-shot | ProtoNet 的 AUROC，1- / 5-shot |"
        ),
        "groups_note": (
            "逐一留出一个 Unicode 类别：ProtoNet 在其余类别的已保存特征上元训练，"
            "在留出的类别上测试，其他同上；`auto` 只从支持集学习；"
            "两者都只用网络自己的特征，不用中间层的特征图。"
            "一个任务的类别都来自同一 Unicode 类别，比上表的任务更难区分。"
            "旗帜在这里只有两类，组不成任务。"
        ),
        "tuning": ("| shot | 保持原样 | `fine_tune=True` | 差 | 微调的任务 | 更好 / 更差 | 分钟 |"),
        "tuning_note": (
            "Emoji，同一 Unicode 类别的 {ways} 个类别，比上面的任务更难区分；"
            "95% 置信区间按任务计算；整张图片，EfficientNet-Lite0，`auto`。"
            "微调的任务：采用大于 0 的学习率的任务数。一次 fit 的处理器时间（分钟），一个线程；"
            "`python -m benchmarks.fine_tuning`。"
        ),
        "mean": "平均",
        "scratch": "| 从零开始 | 1-shot | 5-shot | 分钟 |",
        "scratch_row": {
            "whole": "预设 `emoji`：MAML，Conv4",
            "flips": '同上，使用时加 `views="flips"`',
        },
        "scratch_note": (
            "Emoji，5-way，测试类别的 {tasks} 个任务，95% 置信区间按任务计算，每个查询单独判断；"
            "{processor}，{threads} 个线程；`python -m benchmarks.emoji RUN`。"
            "在 ImageNet 上训练过的网络更有用：[同样的任务，用它的特征]"
            "(classifier.md#在预训练网络上元训练)。"
        ),
        "note": (
            "准确率（%），95% 置信区间按 {tasks} 个任务计算，{ways}-way，每个查询单独判断；"
            "除前两行外，均为 EfficientNet-Lite0（ImageNet），224 像素，两个视图。"
            "Emoji：`random` 划分的测试类别，支持集与查询由不同的作者绘制；"
            "各项设置在训练类别上选定。照片：30 张样例图片的裁剪，尺度、角度和光照各不相同。"
            "每张图片（两个视图）{ms:.0f} 毫秒，内存 {mb:,.0f} MB，"
            "时间为 {processor} 一个线程的处理器时间；`python -m benchmarks.photos`。"
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
        label = words.get(name, f"`{name}`").format(**report)
        found = [run["heads"].get(name) for run in runs]
        cells = [label, *("" if each is None else percent(each) for each in found)]
        both = [run["heads"][name].get("calibration_error") for run in (one, five)]
        cells.append("" if None in both else " / ".join(f"{error:.3f}" for error in both))
        times = report["cost"]["fit_ms"].get(name, {})
        cells.append(" / ".join(f"{ms:.0f}" for ms in times.values()))
        lines.append(f"| {' | '.join(cells)} |")
    note = words["note"].format(
        **{key: report[key] for key in ("tasks", "ways")},
        ms=report["cost"]["ms_per_picture"],
        mb=report["cost"]["peak_bytes"] / 2**20,
        processor=report["machine"]["processor"],
    )
    none = words["none"].format(
        e1=area(one["auroc"]["auto"]),
        e5=area(five["auroc"]["auto"]),
        b1=area(one["auroc"]["background"]),
        b5=area(five["auroc"]["background"]),
        p1=area(photo_one["auroc"]["auto"]),
        p5=area(photo_five["auroc"]["auto"]),
        background=report["background"],
        ec=f"{five['refused']['0.05']['classes']:.1%}",
        eo=f"{five['refused']['0.05']['others']:.1%}",
        pc=f"{photo_five['refused']['0.05']['classes']:.1%}",
        po=f"{photo_five['refused']['0.05']['others']:.1%}",
    )
    return table(words["head"], lines, f"{note}\n\n{none}")


def trained(words: dict[str, Any]) -> str:
    """Runs on the kept features of emoji."""
    report = read("photos")
    lines = []
    for name, run in report["trained"].items():
        one, five = run["1-shot"], run["5-shot"]
        areas = " / ".join(area(found["auroc"]) for found in (one, five))
        cells = [f"`{name}`", percent(one), percent(five), areas, f"{run['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    one, five = (report["runs"]["emoji"][shots] for shots in ("1-shot", "5-shot"))
    note = words["trained_note"].format(
        tasks=report["tasks"],
        one=percent(one["heads"]["auto"]),
        five=percent(five["heads"]["auto"]),
        e1=area(one["auroc"]["auto"]),
        e5=area(five["auroc"]["auto"]),
    )
    return table(words["trained"], lines, note)


def groups(words: dict[str, Any]) -> str:
    """Leave one Unicode category out."""
    found = read("photos")["groups"]
    lines, columns = [], [(who, shots) for who in ("auto", "protonet") for shots in SHOTS]
    for name, group in found.items():
        cells = [name, str(group["classes"]), *(percent(group[who][s]) for who, s in columns)]
        cells.append(" / ".join(area(group["protonet"][shots]["auroc"]) for shots in SHOTS))
        lines.append(f"| {' | '.join(cells)} |")
    means = [100 * mean(g[who][s]["accuracy"] for g in found.values()) for who, s in columns]
    areas = [mean(g["protonet"][s]["auroc"]["mean"] for g in found.values()) for s in SHOTS]
    cells = [words["mean"], "", *(f"{value:.2f}" for value in means)]
    lines.append(f"| {' | '.join([*cells, ' / '.join(f'{a:.3f}' for a in areas)])} |")
    return table(words["groups"], lines, words["groups_note"])


def tuning(words: dict[str, Any]) -> str:
    """A pretrained network with and without fine-tuning."""
    report = read("fine_tuning")
    lines = []
    for name, run in report["runs"].items():
        cells = [name, *(percent(run[part]) for part in ("frozen", "fine-tuned", "difference"))]
        cells += [f"{run['tuned']} / {run['tasks']}", f"{run['better']} / {run['worse']}"]
        lines.append(f"| {' | '.join(cells)} | {run['seconds'] / 60:.1f} |")
    note = words["tuning_note"].format(ways=report["ways"])
    return table(words["tuning"], lines, note)


def scratch(words: dict[str, Any]) -> str:
    """A network that was trained on emoji alone."""
    report = read("emoji")
    lines = []
    for views, found in report["tests"].items():
        cells = [words["scratch_row"][views], *(percent(found[shots]) for shots in SHOTS)]
        lines.append(f"| {' | '.join(cells)} | {report['seconds'] / 60:.0f} |")
    tasks = found["1-shot"]["protocol"]["tasks"]
    note = words["scratch_note"].format(tasks=tasks, **report["machine"])
    return table(words["scratch"], lines, note)


def area(found: dict[str, float]) -> str:
    """`0.951 ± 0.004`, an AUROC with its 95% interval."""
    return f"{found['mean']:.3f} ± {found['ci95']:.3f}"


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    return named(WORDS[language], photos, trained, groups, tuning, scratch)
