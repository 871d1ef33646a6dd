"""The tables of experiments in arms, on docs/*/twenty-way.md and reproduce.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tools.table_parts import named, note, percent, read, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "suspects_head": "| settings | changed | transductive | support statistics |",
        "suspects_note": (
            "20-way 1-shot under `finn2017`: accuracy in % on {tasks} test tasks, 95% interval "
            "over tasks, after {iterations:,} outer steps of {batch} tasks unless another number "
            "is named, by the weights that were best on validation; one seed, and the "
            "same test tasks, except in the rows of another seed; PyTorch {torch}."
        ),
        "suspect_tests_head": "| the first of these, tested in another way | accuracy |",
        "test_steps_head": (
            "| settings | changed | 1 step | 2 steps | 3 steps | tasks below 70 after 3 steps "
            "| first step moves convolutions by | and the head by |"
        ),
        "test_steps_note": (
            "5-way 5-shot under `finn2017`: accuracy in % on 1,000 test tasks, transductive, 95% "
            "interval over tasks, after {iterations:,} outer steps of {batch} tasks, trained with "
            "one inner step, by the weights that were best on validation with three; one seed. "
            "The last two columns: length of the change, as a multiple of the length of what is "
            "changed, mean over 100 test tasks. PyTorch {torch}."
        ),
        "five_shots_head": "| settings | told by | {} |",
        "five_shots_note": (
            "Our recipe under `finn2017`: accuracy in % on {tasks} test tasks, support statistics, "
            "95% interval over tasks, after {iterations:,} outer steps of {batch} tasks of 20 "
            "classes, after three inner steps (in brackets: after one), by the weights that were "
            "best on validation with one shot; one seed. Class means are those of ProtoNet, of the "
            "same features. PyTorch {torch}."
        ),
        "ways_head": "| a training task | changed | images a step | {} |",
        "ways_note": (
            "Our recipe under `finn2017`, 64 filters: accuracy in % on {tasks} test tasks, 95% "
            "interval over tasks, after {iterations:,} outer steps, by the weights that were best "
            "on validation; one seed. PyTorch {torch}."
        ),
        "protocols_head": "| test tasks | {} |",
        "protocols_note": (
            "Our recipe, `configs/ours.yaml`: accuracy in %, mean of {seeds} seeds, and 95% "
            "interval over tasks of the first; {tasks:,} test tasks, transductive; in brackets the "
            "share of the tasks that have each character once. PyTorch {torch}."
        ),
        "protocols": {
            "as finn2017": "as `finn2017` has it",
            "each character once": "each character once, in any turn",
            "not turned": "no character turned",
        },
        "statistics": {"transductive": "transductive", "support": "support statistics"},
        "told_by": {
            "inner loop": "the inner loop",
            "a quarter of the rate": "the inner loop at a quarter of its rate",
            "means": "class means",
        },
        "names": {"support": "support statistics"},
    },
    "zh": {
        "suspects_head": "| 设置 | 改动 | 直推式 | 仅支持集统计量 |",
        "suspects_note": (
            "`finn2017` 协议，20-way 1-shot：{tasks} 个测试任务上的准确率（%），95% 置信区间按任务"
            "计算；{iterations:,} 个外循环步（另有说明者除外），每步 {batch} 个任务，"
            "取验证成绩最好的权重；"
            "除“换一个种子”各行外，种子与测试任务都相同；"
            "PyTorch {torch}。"
        ),
        "suspect_tests_head": "| 上表第一行，换一种测法 | 准确率 |",
        "test_steps_head": (
            "| 设置 | 改动 | 1 步 | 2 步 | 3 步 | 3 步之后低于 70 的任务数 "
            "| 第一步使卷积移动 | 使分类头移动 |"
        ),
        "test_steps_note": (
            "`finn2017` 协议，5-way 5-shot：1,000 个测试任务上的准确率（%），直推式，"
            "95% 置信区间按任务计算；{iterations:,} 个外循环步，每步 {batch} 个任务，"
            "训练时一个内循环步，取三步时验证成绩最好的权重；一个种子。"
            "最后两列：改动的长度与被改动者长度之比，100 个测试任务的平均。PyTorch {torch}。"
        ),
        "five_shots_head": "| 设置 | 判别方式 | {} |",
        "five_shots_note": (
            "我们的配方，`finn2017` 协议：{tasks} 个测试任务上的准确率（%），仅支持集统计量，"
            "95% 置信区间按任务计算；{iterations:,} 个外循环步，每步 {batch} 个 20 类的任务，"
            "三个内循环步之后（括号内为一步之后），取 1-shot 验证成绩最好的权重；一个种子。"
            "类均值的算法同 ProtoNet，特征相同。"
            "PyTorch {torch}。"
        ),
        "ways_head": "| 训练任务 | 改动 | 每步图片数 | {} |",
        "ways_note": (
            "我们的配方，`finn2017` 协议，64 个滤波器：{tasks} 个测试任务上的准确率（%），"
            "95% 置信区间按任务计算；{iterations:,} 个外循环步，取验证成绩最好的权重；一个种子。"
            "PyTorch {torch}。"
        ),
        "protocols_head": "| 测试任务 | {} |",
        "protocols_note": (
            "我们的配方（`configs/ours.yaml`）：{seeds} 个种子的平均准确率（%），以及第一个种子"
            "按任务计算的 95% 置信区间；{tasks:,} 个测试任务，直推式；"
            "括号里是每个字符只出现一次的任务所占比例。"
            "PyTorch {torch}。"
        ),
        "protocols": {
            "as finn2017": "按 `finn2017`",
            "each character once": "每个字符只出现一次，朝向任意",
            "not turned": "字符都不旋转",
        },
        "statistics": {"transductive": "直推式", "support": "仅支持集统计量"},
        "told_by": {
            "inner loop": "内循环",
            "a quarter of the rate": "内循环，学习率为四分之一",
            "means": "类均值",
        },
        "names": {
            "20 classes": "20 类",
            "60 classes, two queries": "60 类，两个查询",
            "60 classes": "60 类",
            "120 classes": "120 类",
            "60 classes, half the rate": "60 类，学习率减半",
            "20 classes, warp": "20 类，`warp`",
            "trained with one shot": "1-shot 训练",
            "trained with five shots": "5-shot 训练",
            "as in the paper": "与论文相同",
            "another seed": "换一个种子",
            "inner loss a mean": "内循环损失取平均",
            "norms not adapted": "内循环不改归一化的参数",
            "first order": "一阶",
            "first order, norms not adapted": "一阶，内循环不改归一化的参数",
            "first order, random head": "一阶，随机初始化的分类头",
            "first order, longer": "一阶，训练更久",
            "first order, longer, another seed": "一阶，训练更久，换一个种子",
            "first order, norms not adapted, longer": "一阶，内循环不改归一化的参数，训练更久",
            "first order, norms not adapted, longer, another seed": (
                "一阶，内循环不改归一化的参数，训练更久，换一个种子"
            ),
            "first order, Xavier convolutions, longer": "一阶，卷积用 Xavier，训练更久",
            "first order, head of N(0, 1), longer": "一阶，分类头取自 N(0, 1)，训练更久",
            "first order, as the paper's code starts, longer": "一阶，像论文代码那样开始，训练更久",
            "as the paper's code starts": "像论文代码那样开始",
            "one inner step": "一个内循环步",
            "one inner step, five in validation and test": "一个内循环步，验证与测试走五步",
            "random head": "随机初始化的分类头",
            "max-pooling, no strides": "最大池化，不用步长",
            "no turned classes in training": "训练时没有旋转的类别",
            "no clipping": "不裁剪梯度",
            "inner loss a mean, alpha 0.4": "内循环损失取平均，α 为 0.4",
            "ours": "我们的配方",
            "as in the preset": "与预设相同",
            "support": "仅支持集统计量",
            "not turned": "测试类别不旋转",
            "10 inner steps": "10 个内循环步",
            "5 queries a class": "每类 5 个查询样本",
        },
    },
}


def _arm(words: dict[str, Any], name: str, result: dict[str, Any]) -> list[str]:
    """The first cells of an arm: its name, and what it changes."""
    changed = ", ".join(f"`{k}: {json.dumps(v)}`" for k, v in result["changes"].items())
    return [words["names"].get(name, name), changed]


def _note_of_arms(text: str, report: dict[str, Any]) -> str:
    budget = report["budget"]
    text = text.replace("{tasks}", str(budget["test_tasks"]))
    text = text.replace("{iterations:,}", f"{budget['iterations']:,}")
    text = text.replace("{batch}", str(budget["meta_batch_size"]))
    return note(text, report)


def suspects(words: dict[str, Any]) -> str:
    """The paper's settings, one thing changed at a time."""
    report = read("suspects")
    rows = []
    for name, r in report["runs"].items():
        cells = [*_arm(words, name, r), percent(r), percent(r["support"])]
        rows.append(f"| {' | '.join(cells)} |")
    return table(words["suspects_head"], rows, _note_of_arms(words["suspects_note"], report))


def suspect_tests(words: dict[str, Any]) -> str:
    """The paper's settings, tested in other ways."""
    base = next(iter(read("suspects")["runs"].values()))
    rows = [
        f"| {words['names'].get(name, name)} | {percent(r)} |"
        for name, r in base.items()
        if isinstance(r, dict) and "accuracies" in r
    ]
    return table(words["suspect_tests_head"], rows)


def test_steps(words: dict[str, Any]) -> str:
    """Initial weights, and the effect of more inner steps than in training."""
    report = read("test_steps")
    rows = []
    for name, r in report["runs"].items():
        after = [f"{100 * a:.2f}" for a in r["accuracy_per_step"][1:-1]] + [percent(r)]
        moves = [f"{r['moves'][part]:.3g}" for part in ("convs", "head")]
        cells = [*_arm(words, name, r), *after, str(r["spoilt"]), *moves]
        rows.append(f"| {' | '.join(cells)} |")
    return table(words["test_steps_head"], rows, _note_of_arms(words["test_steps_note"], report))


def five_shots(words: dict[str, Any]) -> str:
    """Our recipe trained with other shots, and told by other means."""
    report = read("five_shots")
    runs = {name: r["tests"] for name, r in report["runs"].items()}
    settings = list(next(iter(runs.values())))
    rows, tasks = [], set()
    for name, tests in runs.items():
        for by, told in words["told_by"].items():
            cells = [words["names"].get(name, name), told]
            for found in (tests[setting][by] for setting in settings):
                tasks.add(found["protocol"]["tasks"])
                first = found["accuracy_per_step"][1:2]
                cells.append(percent(found) + "".join(f" ({100 * a:.2f})" for a in first))
            rows.append(f"| {' | '.join(cells)} |")
    (number,) = tasks
    text = words["five_shots_note"].replace("{tasks}", str(number))
    head = words["five_shots_head"].format(" | ".join(settings))
    return table(head, rows, _note_of_arms(text, report))


def ways(words: dict[str, Any]) -> str:
    """Our recipe trained in tasks of more classes."""
    report = read("ways")
    rows, tasks, columns = [], set(), list[str]()
    for name, r in report["runs"].items():
        settings = {**report["budget"], **r["changes"]}
        classes = settings["train_n_way"] or settings["n_way"]
        of_class = settings["k_shot"] + settings["k_query"]
        cells = [*_arm(words, name, r), str(settings["meta_batch_size"] * classes * of_class)]
        columns = []
        for setting, tests in r["tests"].items():
            for statistics, found in tests.items():
                columns.append(f"{setting}, {words['statistics'][statistics]}")
                tasks.add(found["protocol"]["tasks"])
                cells.append(percent(found))
        rows.append(f"| {' | '.join(cells)} |")
    (number,) = tasks
    text = words["ways_note"].replace("{tasks}", str(number))
    head = words["ways_head"].format(" | ".join(columns))
    return table(head, rows, _note_of_arms(text, report))


def protocols(words: dict[str, Any]) -> str:
    """Our recipe tested as the papers' codes draw their tasks."""
    report = read("protocols")
    runs = list(report["runs"].values())
    settings = list(runs[0])
    tasks = runs[0][settings[0]]["not turned"]["protocol"]["tasks"]
    rows = []
    for way, name in words["protocols"].items():
        cells = [name]
        for setting in settings:
            found = [run[setting][way] for run in runs]
            mean = sum(f["accuracy"] for f in found) / len(found)
            cells.append(percent({**found[0], "accuracy": mean}))
            if "tasks" in found[0]:
                cells[-1] += f" ({found[0]['tasks'] / tasks:.0%})"
        rows.append(f"| {' | '.join(cells)} |")
    text = words["protocols_note"].replace("{tasks:,}", f"{tasks:,}")
    text = text.replace("{seeds}", str(len(runs)))
    return table(words["protocols_head"].format(" | ".join(settings)), rows, note(text, report))


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    return named(WORDS[language], suspects, suspect_tests, test_steps, five_shots, ways, protocols)
