"""The tables of docs/*/reproduce.md; `tools.tables` writes them."""

from __future__ import annotations

import functools
import json
import math
import re
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.reproduce import FOUND, ROWS, STATISTICS, TURNED, omniglot_settings

from tools.table_parts import named, note, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": "| | {} | outer steps | hours |",
        "rows": {
            "untrained": "the network of our recipe, untrained, `finn2017`",
            "ours": "MAML, our recipe, `finn2017`",
            "several-steps": "MAML, our recipe, three inner steps of all weights, `finn2017`",
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
        "turned, transductive": "the same, told in all quarter turns, transductive",
        "turned, support": "the same, told in all quarter turns, support statistics",
        "seeds": "{} seeds",
        "some": " (of seed {})",
        "of": "{} of {:,}",
        "of_each": "outer steps",
        "hours_of_each": "hours",
        "or": " or an ",
        "note": (
            "Accuracy in %, {tasks:,} test tasks for each seed, 95% interval over tasks; in "
            "brackets the lowest and the highest mean of a seed. Hours of the quickest seed, where "
            "no GPU is named on one thread of an {processor} that did other work too; "
            "PyTorch {torch}. "
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
    },
    "zh": {
        "head": "| | {} | 外循环步数 | 小时 |",
        "rows": {
            "untrained": "我们的配方的网络，未经训练，`finn2017`",
            "ours": "MAML，我们的配方，`finn2017`",
            "several-steps": "MAML，我们的配方，三个内循环步改动全部权重，`finn2017`",
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
        "turned, transductive": "同上，四个方向各判断一次，直推式",
        "turned, support": "同上，四个方向各判断一次，仅支持集统计量",
        "seeds": "{} 个种子",
        "some": "（种子 {}）",
        "of": "{} / {:,}",
        "of_each": "外循环步数",
        "hours_of_each": "小时",
        "or": " 或 ",
        "note": (
            "准确率（%），每个种子 {tasks:,} 个测试任务，95% 置信区间按任务计算；"
            "括号内是不同种子的均值中最低与最高者。"
            "小时数为用时最短的种子所用；未注明 GPU 的，在 {processor} 的单线程上，"
            "机器同时还做别的事；"
            "PyTorch {torch}。斜体为论文所报告的数字。我们的配方所用的网络与论文不同："
            "分类头是共享的，特征长度归一；从共享分类头出发的一个内循环步只改变分类头，"
            "效果等同于 ANIL。"
        ),
        "short_note": (
            "准确率（%），直推式，每个种子 {tasks:,} 个测试任务，95% 置信区间按任务计算；"
            "括号内是不同种子的均值中最低与最高者。斜体为论文所报告的数字。"
            "我们的配方所用的网络与论文不同。† 并非每个种子都跑满了计划的外循环步数。"
        ),
    },
}


def _seeds(row: str) -> list[dict[str, Any]]:
    """The reports of a row, one for each seed."""
    return [
        json.loads(file.read_text("utf-8")) for file in sorted(FOUND.glob(f"{row}-[0-9]*.json"))
    ]


def _pooled(reports: list[dict[str, Any]], setting: str, way: str) -> str:
    """Mean over the tasks of all seeds with its interval, and the range over seeds."""
    every_test = [report["tests"][setting] for report in reports]
    tests = [test[way] for test in every_test if way in test]
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
    """Hours of the quickest seed, for each kind of machine that the seeds were trained on.

    Other work, beside which the others may have been trained, only adds to them.
    """
    by_machine: dict[str, list[float]] = {}
    for r in reports:
        gpu = r["machine"].get("gpu")
        place = f" ({gpu}, {r['settings']['precision']})" if gpu else ""
        by_machine.setdefault(place, []).append(r["seconds"] / 3600)
    hours = {place: min(each) for place, each in by_machine.items()}
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
        for way in (*STATISTICS, *TURNED.values()):
            # Most rows were tested as they are alone, and of some not every seed was turned.
            tested = [r for r in reports if way in next(iter(r["tests"].values()))]
            if tested:
                label = words[way].format(group.label)
                if len(tested) < len(reports):
                    label += words["some"].format(", ".join(str(r["seed"]) for r in tested))
                rows.append(group.line(label, functools.partial(_pooled, way=way), end))
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


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    words = WORDS[language]
    return named(words, reproduce, reproduce_short)
