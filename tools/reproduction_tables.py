"""The tables of docs/*/reproduce.md; `tools.tables` writes them."""

from __future__ import annotations

import functools
import json
import math
import re
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.reproduce import FOUND, ROWS, omniglot_settings

from tools.table_parts import named, note, percent, read, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": "| | {} | outer steps | hours |",
        "rows": {
            "untrained": "the network of our recipe, untrained, `finn2017`",
            "ours": "MAML, our recipe, `finn2017`",
            "glyphs": "MAML, our recipe, trained on glyphs alone, tested under `finn2017`",
            "protonet": "ProtoNet, `vinyals2016`",
            "anil": "ANIL, our recipe, `finn2017`",
            "ours-first-order": "first-order MAML, our recipe, `finn2017`",
            "meta-sgd": "Meta-SGD, our recipe, `finn2017`",
            "maml++": "MAML++, our recipe, `finn2017`",
            "imaml": "iMAML, our recipe, `finn2017`",
            "reptile": "Reptile, our recipe, `finn2017`",
            "lake2015": "MAML, our recipe, `lake2015`, 20 characters of one alphabet",
            "background": "the same with glyphs, `warp` and tasks of one alphabet",
            "maml": "MAML, the paper's settings, `finn2017`",
            "fomaml": "first-order MAML, settings and start of the MAML paper's code, `finn2017`",
            "fomaml-norms": "first-order MAML, our start, batch norm in the inner loop, `finn2017`",
        },
        "transductive": "{}, transductive",
        "support": "{}, support statistics",
        "seeds": "{} seeds",
        "of": "{} of {:,}",
        "of_each": "outer steps",
        "hours_of_each": "hours",
        "or": " or an ",
        "note": (
            "Accuracy in %, {tasks:,} test tasks for each seed, 95% interval over tasks; in "
            "brackets the lowest and the highest mean of a seed. Hours of one seed, where no GPU "
            "is named on one thread of an {processor} that did other work too; PyTorch {torch}. "
            "In italics the papers' figures. The network of our recipe is not the paper's: it has "
            "a shared head and features of unit length, and one inner step from a shared head "
            "moves the head alone, as ANIL does."
        ),
        "short_note": (
            "Accuracy in %, transductive, {tasks:,} test tasks for each seed, 95% interval over "
            "tasks; in brackets the lowest and the highest mean of a seed. In italics the papers' "
            "figures. The network of our recipe is not the paper's. † not every seed made "
            "the planned number of outer steps."
        ),
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
            "Our recipe under `finn2017`: accuracy in % on 300 test tasks, support statistics, "
            "95% interval over tasks, after {iterations:,} outer steps of {batch} tasks of 20 "
            "classes, after three inner steps (in brackets: after one), by the weights that were "
            "best on validation with one shot; one seed. Class means are those of ProtoNet, of the "
            "same features. PyTorch {torch}."
        ),
        "told_by": {
            "inner loop": "the inner loop",
            "a quarter of the rate": "the inner loop at a quarter of its rate",
            "means": "class means",
        },
        "names": {"support": "support statistics"},
    },
    "zh": {
        "head": "| | {} | 外循环步数 | 小时 |",
        "rows": {
            "untrained": "我们的配方的网络，未经训练，`finn2017`",
            "ours": "MAML，我们的配方，`finn2017`",
            "glyphs": "MAML，我们的配方，只在 glyphs 上训练，按 `finn2017` 测试",
            "protonet": "ProtoNet，`vinyals2016`",
            "anil": "ANIL，我们的配方，`finn2017`",
            "ours-first-order": "一阶 MAML，我们的配方，`finn2017`",
            "meta-sgd": "Meta-SGD，我们的配方，`finn2017`",
            "maml++": "MAML++，我们的配方，`finn2017`",
            "imaml": "iMAML，我们的配方，`finn2017`",
            "reptile": "Reptile，我们的配方，`finn2017`",
            "lake2015": "MAML，我们的配方，`lake2015`，20 个字符出自同一字母表",
            "background": "同上，加上 glyphs、`warp` 和同一字母表的任务",
            "maml": "MAML，论文的设置，`finn2017`",
            "fomaml": "一阶 MAML，MAML 论文代码的设置与初始化，`finn2017`",
            "fomaml-norms": "一阶 MAML，我们的初始化，内循环也改批归一化，`finn2017`",
        },
        "transductive": "{}，直推式",
        "support": "{}，仅支持集统计量",
        "seeds": "{} 个种子",
        "of": "{} / {:,}",
        "of_each": "外循环步数",
        "hours_of_each": "小时",
        "or": " 或 ",
        "note": (
            "准确率（%），每个种子 {tasks:,} 个测试任务，95% 置信区间按任务计算；"
            "括号内是不同种子的均值中最低与最高者。"
            "小时数为一个种子所用；未注明 GPU 的，在 {processor} 的单线程上，机器同时还做别的事；"
            "PyTorch {torch}。斜体为论文所报告的数字。我们的配方所用的网络与论文不同："
            "分类头是共享的，特征长度归一；从共享分类头出发的一个内循环步只改变分类头，"
            "效果等同于 ANIL。"
        ),
        "short_note": (
            "准确率（%），直推式，每个种子 {tasks:,} 个测试任务，95% 置信区间按任务计算；"
            "括号内是不同种子的均值中最低与最高者。斜体为论文所报告的数字。"
            "我们的配方所用的网络与论文不同。† 并非每个种子都跑满了计划的外循环步数。"
        ),
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
            "我们的配方，`finn2017` 协议：300 个测试任务上的准确率（%），仅支持集统计量，"
            "95% 置信区间按任务计算；{iterations:,} 个外循环步，每步 {batch} 个 20 类的任务，"
            "三个内循环步之后（括号内为一步之后），取 1-shot 验证成绩最好的权重；一个种子。"
            "类均值的算法同 ProtoNet，特征相同。"
            "PyTorch {torch}。"
        ),
        "told_by": {
            "inner loop": "内循环",
            "a quarter of the rate": "内循环，学习率为四分之一",
            "means": "类均值",
        },
        "names": {
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


def _seeds(row: str) -> list[dict[str, Any]]:
    """The reports of a row, one for each seed."""
    return [
        json.loads(file.read_text("utf-8")) for file in sorted(FOUND.glob(f"{row}-[0-9]*.json"))
    ]


def _pooled(reports: list[dict[str, Any]], setting: str, bn: str) -> str:
    """Mean over the tasks of all seeds with its interval, and the range over seeds."""
    tests = [report["tests"][setting][bn] for report in reports]
    every = [a for test in tests for a in test["accuracies"]]
    half = 1.96 * statistics.stdev(every) / math.sqrt(len(every))
    cell = f"{100 * statistics.fmean(every):.2f} ± {100 * half:.2f}"
    if len(tests) > 1:
        means = [100 * test["accuracy"] for test in tests]
        cell += f" ({min(means):.2f}–{max(means):.2f})"
    return cell


def _steps(words: dict[str, Any], reports: list[dict[str, Any]]) -> str:
    """How many outer steps the seeds made, and of how many."""
    made = [report["iterations"] for report in reports]
    planned = reports[0]["planned_iterations"]
    said = "–".join(f"{n:,}" for n in sorted({min(made), max(made)}))
    return said if min(made) == planned else words["of"].format(said, planned)


def _hours(reports: list[dict[str, Any]]) -> str:
    """Hours of one seed, for each kind of machine that the seeds were trained on."""
    by_machine: dict[str, list[float]] = {}
    for r in reports:
        gpu = r["machine"].get("gpu")
        place = f" ({gpu}, {r['settings']['precision']})" if gpu else ""
        by_machine.setdefault(place, []).append(r["seconds"] / 3600)
    hours = {place: statistics.fmean(each) for place, each in by_machine.items()}
    return ", ".join((f"{n:.1f}" if n >= 0.1 else f"{n:.2f}") + place for place, n in hours.items())


def _several_seeds(words: dict[str, Any], reports: list[dict[str, Any]]) -> str:
    return words["seeds"].format(len(reports)) if len(reports) > 1 else ""


def _steps_and_seeds(words: dict[str, Any], reports: list[dict[str, Any]]) -> str:
    return ", ".join(filter(None, (_steps(words, reports), _several_seeds(words, reports))))


class Group(NamedTuple):
    """A row, or the rows that are one paper's own settings, a training for each.

    Attributes:
        label: as the page says it, with the number of seeds where there are several.
        alone: one row, whose network is tested in all settings.
        reports: of the seeds, by setting.
        papers: figures in percent, by paper and setting.
    """

    label: str
    alone: bool
    reports: dict[str, list[dict[str, Any]]]
    papers: dict[str, dict[str, str]]

    def line(self, label: str, cell: Callable[[list[dict[str, Any]], str], str], end: str) -> str:
        """A line of the table, with what `cell` says of the reports and the setting."""
        cells = [
            cell(self.reports[setting], setting) if setting in self.reports else ""
            for setting in omniglot_settings()
        ]
        return f"| {label} | {' | '.join(cells)} |{end}"

    def lines_of_papers(self, end: str) -> list[str]:
        """A line for each paper."""
        lines = []
        for paper, said in self.papers.items():
            cells = [f"*{said[s]}*" if s in said else "" for s in omniglot_settings()]
            lines.append(f"| *{paper}* | {' | '.join(cells)} |{end}")
        return lines


def _groups(words: dict[str, Any]) -> list[Group]:
    """What has been measured, in the order of `ROWS`."""
    names: dict[str, list[str]] = {}
    for name in ROWS:
        # The rows of a paper's own settings differ in the setting alone.
        names.setdefault(re.sub(r"-\d+way-\dshot$", "", name), []).append(name)
    groups = []
    for title, rows in names.items():
        by_row = {row: reports for row in rows if (reports := _seeds(row))}
        if not by_row:
            continue
        label = words["rows"][title]
        if len(rows) == 1 and (seeds := _several_seeds(words, by_row[rows[0]])):
            label += f" ({seeds})"
        papers: dict[str, dict[str, str]] = {}
        for row in rows:
            for paper, said in ROWS[row].papers.items():
                papers.setdefault(paper, {}).update(said)
        of_setting = {s: reports for row, reports in by_row.items() for s in ROWS[row].tests}
        groups.append(Group(label, len(rows) == 1, of_setting, papers))
    return groups


def reproduce(words: dict[str, Any]) -> str:
    """Our figures beside the papers'."""
    rows, groups = [], _groups(words)
    for group in groups:
        reports = next(iter(group.reports.values()))
        end = f" {_steps(words, reports)} | {_hours(reports)} |" if group.alone else "  |  |"
        for bn in ("transductive", "support"):
            pooled = functools.partial(_pooled, bn=bn)
            rows.append(group.line(words[bn].format(group.label), pooled, end))
            end = "  |  |"
        if not group.alone:
            rows.append(group.line(words["of_each"], lambda r, _: _steps_and_seeds(words, r), end))
            rows.append(group.line(words["hours_of_each"], lambda r, _: _hours(r), end))
        rows += group.lines_of_papers(end)
    head = words["head"].format(" | ".join(omniglot_settings()))
    return table(head, rows, _note(words, words["note"], groups))


def reproduce_short(words: dict[str, Any]) -> str:
    """The same in short: transductive, without steps and hours."""

    def cell(reports: list[dict[str, Any]], setting: str) -> str:
        stopped = any(r["iterations"] < r["planned_iterations"] for r in reports)
        return _pooled(reports, setting, "transductive") + ("†" if stopped else "")

    rows, groups = [], _groups(words)
    for group in groups:
        rows += [group.line(group.label, cell, ""), *group.lines_of_papers("")]
    head = f"| | {' | '.join(omniglot_settings())} |"
    return table(head, rows, _note(words, words["short_note"], groups))


def _note(words: dict[str, Any], text: str, groups: list[Group]) -> str:
    reports = [r for group in groups for of_row in group.reports.values() for r in of_row]
    processors = {r["machine"]["processor"] for r in reports if "gpu" not in r["machine"]}
    versions = {r["machine"]["torch"] for r in reports}
    tasks = sorted({row.tasks for row in ROWS.values()})
    text = text.replace("{tasks:,}", "–".join(f"{n:,}" for n in tasks))
    text = text.replace("{processor}", words["or"].join(sorted(processors)))
    text = text.replace("{torch}", ", ".join(sorted(versions)))
    return note(text, reports[0])


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
    """Our recipe trained with other shots, and other heads on its features."""
    report = read("five_shots")
    rows = []
    settings: list[str] = []
    for name, r in report["runs"].items():
        settings = list(r["tests"])
        for by, told in words["told_by"].items():
            cells = [words["names"].get(name, name), told]
            for s in settings:
                found = r["tests"][s][by]
                first = found["accuracy_per_step"][1:2]
                cells.append(percent(found) + "".join(f" ({100 * a:.2f})" for a in first))
            rows.append(f"| {' | '.join(cells)} |")
    head = words["five_shots_head"].format(" | ".join(settings))
    return table(head, rows, _note_of_arms(words["five_shots_note"], report))


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    words = WORDS[language]
    return named(words, reproduce, reproduce_short, suspects, suspect_tests, test_steps, five_shots)
