"""The table of Lake's one-shot challenge, on docs/*/reproduce.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.table_parts import named, note, read, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": "| | learned from | official runs, % wrong | 100 drawn runs, % wrong |",
        "ours": {
            "background": (
                "MAML, our recipe with `warp`, seed 0",
                "25 background alphabets, glyphs",
            ),
            "background-1": ("our recipe, seed 1", "25 background alphabets, glyphs"),
            "background-2": ("our recipe, seed 2", "25 background alphabets, glyphs"),
            "together": (
                "seeds 1 and 2 together, probabilities averaged",
                "25 background alphabets, glyphs",
            ),
            "background-long": ("our recipe, 30,000 steps", "25 background alphabets, glyphs"),
            "background-wide": ("our recipe, 96 filters", "25 background alphabets, glyphs"),
            "background-conv4": (
                "`background-conv4`: our recipe, 20,000 steps",
                "25 background alphabets, glyphs",
            ),
            "background-more-1-turns": (
                "our recipe, 20,000 steps, seed 1, with `--views turns`",
                "25 background alphabets, glyphs",
            ),
            "background-two-turns": (
                "both together, with `--views turns`",
                "25 background alphabets, glyphs",
            ),
            "background-conv4-turns": (
                "`background-conv4` with `--views turns`",
                "25 background alphabets, glyphs",
            ),
            "background-small1": (
                "our recipe, 2,500 steps",
                '"minimal" set 1 (4 alphabets), glyphs',
            ),
            "background-small2": (
                "our recipe, 2,500 steps",
                '"minimal" set 2 (4 alphabets), glyphs',
            ),
            "glyphs-conv4": ("`glyphs-conv4`", "glyphs alone"),
        },
        "others": {
            "people": "",
            "BPL (2015)": "30 background alphabets, with strokes",
            "deep convnet": "30 background alphabets",
            "ProtoNet": "30 background alphabets",
            "GNS†": "30 background alphabets, with strokes",
            "RCN†": "",
            "siamese network†": "30 background alphabets, augmented",
            "VHE†": "30 background alphabets",
            "ConvARC†": "more data",
        },
        "note": (
            "Lower is better. 95% interval over runs; each query told by itself, support "
            "statistics. {processor}, PyTorch {torch}. In italics what others report, by Lake, "
            "Salakhutdinov and Tenenbaum 2019; † as quoted elsewhere, not seen at its source."
        ),
    },
    "zh": {
        "head": "| | 学习所用 | 官方 20 组，错误率 % | 另抽取的 100 组，错误率 % |",
        "ours": {
            "background": ("MAML，我们的配方加 `warp`，种子 0", "25 个背景字母表和 glyphs"),
            "background-1": ("我们的配方，种子 1", "25 个背景字母表和 glyphs"),
            "background-wide": ("我们的配方，96 个滤波器", "25 个背景字母表和 glyphs"),
            "background-conv4": (
                "`background-conv4`：我们的配方，20,000 步",
                "25 个背景字母表和 glyphs",
            ),
            "background-more-1-turns": (
                "我们的配方，20,000 步，种子 1，加 `--views turns`",
                "25 个背景字母表和 glyphs",
            ),
            "background-two-turns": (
                "两个网络一起，加 `--views turns`",
                "25 个背景字母表和 glyphs",
            ),
            "background-conv4-turns": (
                "`background-conv4`，加 `--views turns`",
                "25 个背景字母表和 glyphs",
            ),
            "background-2": ("我们的配方，种子 2", "25 个背景字母表和 glyphs"),
            "together": ("种子 1 和 2 一起，概率取平均", "25 个背景字母表和 glyphs"),
            "background-long": ("我们的配方，30,000 步", "25 个背景字母表和 glyphs"),
            "background-small1": ("我们的配方，2,500 步", "“最小”集 1（4 个字母表）和 glyphs"),
            "background-small2": ("我们的配方，2,500 步", "“最小”集 2（4 个字母表）和 glyphs"),
            "glyphs-conv4": ("`glyphs-conv4`", "只有 glyphs"),
        },
        "others": {
            "人": "",
            "BPL（2015）": "30 个背景字母表，含笔画",
            "深度卷积网络": "30 个背景字母表",
            "ProtoNet": "30 个背景字母表",
            "GNS†": "30 个背景字母表，含笔画",
            "RCN†": "",
            "孪生网络†": "30 个背景字母表，带增强",
            "VHE†": "30 个背景字母表",
            "ConvARC†": "更多数据",
        },
        "note": (
            "越低越好。95% 置信区间按组计算；每个查询单独判断，统计量只取自支持集。"
            "{processor}，PyTorch {torch}。"
            "斜体为他人报告的数字，引自 Lake、Salakhutdinov 与 Tenenbaum 2019；† 为转引，未见原文。"
        ),
    },
}
# In the order of the words.
PUBLISHED = ("4.5", "3.3", "13.5", "13.7", "5.7", "7.3", "8.0", "18.7", "1.5")


def shown(result: dict[str, Any]) -> str:
    """`6.25 ± 1.90`."""
    return f"{100 * result['error']:.2f} ± {100 * result['ci95']:.2f}"


def lake(words: dict[str, Any]) -> str:
    """Our networks, then what others report, each in order of its errors."""
    report = read("lake")
    rows = [
        "| " + " | ".join([*words["ours"][name], shown(of["official"]), shown(of["drawn"])]) + " |"
        for name, of in sorted(report["weights"].items(), key=lambda x: x[1]["official"]["error"])
    ]
    others = zip(words["others"].items(), PUBLISHED, strict=True)
    for (who, learned), error in sorted(others, key=lambda other: float(other[1])):
        rows.append(f"| *{who}* | {learned and f'*{learned}*'} | *{error}* | |")
    return table(words["head"], rows, note(words["note"], report))


def of_weights(_: Any) -> str:
    """The lines on the card of the weights for the challenge."""
    weights = read("lake")["weights"]
    rows = [
        f"| {title} | {shown(weights[name]['official'])} | {shown(weights[name]['drawn'])} |"
        for title, name in (
            ("as they are", "background-conv4"),
            ("`--views turns`", "background-conv4-turns"),
        )
    ]
    return table("| drawings | official runs | 100 drawn runs |", rows)


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    return {**named(WORDS[language], lake), "lake_of_background_conv4": of_weights}
