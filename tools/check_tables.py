"""The tables of docs/*/checks.md; `tools.tables` writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.table_parts import named, read, table

WORDS = {
    "en": {
        "mutants": "| of {of:,} mutants | tried | killed | too slow | not reached | survived |",
        "drawn": "drawn with seed {seed}",
    },
    "zh": {
        "mutants": "| 共 {of:,} 个变异 | 试验 | 被发现 | 超时 | 测试未触及 | 存活 |",
        "drawn": "抽样，种子 {seed}",
    },
}


def mutants(words: dict[str, Any]) -> str:
    """What became of the mutants."""
    r = read("mutants")["runs"]
    cells = [r["mutants"], *(r.get(f, 0) for f in ("killed", "timeout", "no tests", "survived"))]
    row = f"| {words['drawn'].format(**r)} | {' | '.join(map(str, cells))} |"
    return table(words["mutants"].format(**r), [row])


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    return named(WORDS[language], mutants)
