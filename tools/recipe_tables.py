"""The table of candidates in docs/*/recipes.md; `tools.tables` writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tools.table_parts import named, percent, read, table

# Names of runs are those of the result file, which are English.
WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": "| recipe | settings that differ | iterations | validation accuracy |",
        "runs": {},
    },
    "zh": {
        "head": "| 配方 | 不同的设置 | 迭代次数 | 验证准确率 |",
        "runs": {
            "quick": "quick",
            "8 tasks a step": "每步 8 个任务",
            "5-way training tasks": "训练也用 5-way",
            "2 inner steps": "两个内循环步",
            "raw features": "不归一化的特征",
            "raw features, linear head, 5-way": "不归一化的特征，线性分类头，5-way",
            "strided convolutions": "步长卷积",
            "one task of 40 classes": "每步一个 40 类的任务",
            "width 32": "32 个滤波器",
            "width 64": "64 个滤波器",
            "no turned classes": "不加旋转的类别",
        },
    },
}


def recipe(words: dict[str, Any]) -> str:
    """The quick recipe beside the candidates that it was chosen from."""
    lines = []
    for name, r in read("recipe")["runs"].items():
        shown = ", ".join(f"`{k}: {json.dumps(v)}`" for k, v in r["settings"].items())
        called = words["runs"][name] if words["runs"] else name
        lines.append(f"| {called} | {shown} | {r['iterations']:,} | {percent(r)} |")
    return table(words["head"], lines)


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    return named(WORDS[language], recipe)
