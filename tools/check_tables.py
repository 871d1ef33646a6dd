"""The tables of docs/*/checks.md; `tools.tables` writes them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from tools.table_parts import named, note, read, table

WORDS = {
    "en": {
        "coverage": "| part of the package | statements | branches | reached |",
        "all": "**all of it**",
        "": "beside the folders",
        "mutants": "| of {of:,} mutants | tried | killed | too slow | not reached | survived |",
        "drawn": "drawn with seed {seed}",
        "slowest": "| before, s | test | after, s | test |",
        "slowest_note": (
            "Seconds of processor time of a test, its fixtures and the processes that it starts. "
            "All tests together: {before:,} s before, {after:,} s after, on one kind of machine "
            "({processor})."
        ),
    },
    "zh": {
        "coverage": "| 部分 | 语句 | 分支 | 覆盖率 |",
        "all": "**整个包**",
        "": "文件夹之外的文件",
        "mutants": "| 共 {of:,} 个变异 | 试验 | 被发现 | 超时 | 测试未触及 | 存活 |",
        "drawn": "抽样，种子 {seed}",
        "slowest": "| 之前（秒） | 测试 | 之后（秒） | 测试 |",
        "slowest_note": (
            "每个测试（包括其 fixture 和启动的进程）的处理器时间。全部测试合计："
            "之前 {before:,} 秒，之后 {after:,} 秒，同一种机器（{processor}）。"
        ),
    },
}


def coverage(words: dict[str, Any]) -> str:
    """What the tests reach, by folder."""
    rows = [
        f"| {words.get(part, f'`{part}/`')} | {r['statements']:,} | {r['branches']:,} "
        f"| {r['percent']:.1f}% |"
        for part, r in sorted(read("coverage")["runs"].items(), key=lambda run: run[0] == "all")
    ]
    return table(words["coverage"], rows)


def mutants(words: dict[str, Any]) -> str:
    """What became of the mutants."""
    r = read("mutants")["runs"]
    cells = [r["mutants"], *(r.get(f, 0) for f in ("killed", "timeout", "no tests", "survived"))]
    row = f"| {words['drawn'].format(**r)} | {' | '.join(map(str, cells))} |"
    return table(words["mutants"].format(**r), [row])


def slowest(words: dict[str, Any]) -> str:
    """The slowest tests before and after they were made cheaper."""
    reports = [read(f"slowest_{when}") for when in ("before", "after")]
    lists = [[f"{s} | `{name}`" for name, s in r["runs"]["slowest"].items()] for r in reports]
    rows = [f"| {old} | {new} |" for old, new in zip_longest(*lists, fillvalue=" | ")]
    before, after = (r["runs"]["processor_seconds"] for r in reports)
    text = words["slowest_note"].replace("{before:,}", f"{before:,}")
    return table(words["slowest"], rows, note(text.replace("{after:,}", f"{after:,}"), reports[1]))


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    return named(WORDS[language], coverage, mutants, slowest)
