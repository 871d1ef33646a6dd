"""The tables of symbols from elsewhere, on docs/*/classifier.md and on the cards of weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import mean
from typing import Any

from innerloop.runs.loading import pretrained_names
from tools.table_parts import read, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": "| set, {shots}-shot | raw pixels | HOG | HOG, ink found |",
        "mean": "mean",
        "card_head": (
            '| set | 1-shot | 5-shot | `views="turns"`, 1- / 5-shot '
            "| HOG, better of two, 1- / 5-shot |"
        ),
        "note": (
            "Accuracy in %, 95% interval over {tasks} tasks of {ways} classes (digits8: 10), each "
            "query classified on its own, support and queries by different hands or fonts where "
            "these are known. Raw pixels and HOG: the nearest support picture. Weights: pictures "
            'as they are / with `prepare="auto"` / with `views="turns"` as well. `{command}`.'
        ),
        "sets": {
            "digits8": "digits of 8 x 8 pixels",
            "printed_latin": "Latin letters in many fonts",
            "kana": "kana in many fonts, brush and pen",
            "hanzi": "Chinese characters, several pens",
            "om_clean": "Omniglot, test characters",
            "om_low10": "the same, ten pixels wide",
            "om_thick": "the same, thick strokes",
            "om_thin": "the same, thin strokes",
            "om_small": "the same, small, off the centre",
            "om_paper": "the same, on grey noisy paper",
        },
    },
    "zh": {
        "head": "| 数据，{shots}-shot | 原始像素 | HOG | HOG，提取笔迹后 |",
        "mean": "平均",
        "note": (
            "准确率（%），95% 置信区间按 {tasks} 个任务计算，每个任务 {ways} 类（digits8：10 类），"
            "每个查询单独判断；能区分书写者或字体时，支持集与查询取自不同的书写者或字体。"
            "原始像素和 HOG：取最近的支持图片。"
            '权重：图片原样 / `prepare="auto"` / 再加 `views="turns"`。`{command}`。'
        ),
        "sets": {
            "digits8": "8 x 8 像素的手写数字",
            "printed_latin": "多种字体的拉丁字母",
            "kana": "多种字体的假名（含毛笔与硬笔）",
            "hanzi": "汉字，多种笔",
            "om_clean": "Omniglot 测试字符",
            "om_low10": "同上，宽仅十个像素",
            "om_thick": "同上，粗笔画",
            "om_thin": "同上，细笔画",
            "om_small": "同上，偏小且不居中",
            "om_paper": "同上，灰色带噪纸张",
        },
    },
}
# What stands on the page; other weights that come with the package have it on their cards.
ON_PAGE = ("omniglot-conv4", "omniglot-alone")
# How weights see pictures; `omniglot-alone`, which is not in the package, in the first two ways.
WAYS = ("none", "auto", "turns")


def shown(result: dict[str, float]) -> str:
    """`93.1 ± 0.9`."""
    return f"{100 * result['accuracy']:.1f} ± {100 * result['ci95']:.1f}"


def elsewhere(words: dict[str, Any], shots: int, _: Any) -> str:
    """All contestants on all sets."""
    report = read("elsewhere")
    sets = {name: of[str(shots)] for name, of in report["sets"].items()}
    first = next(iter(sets.values()))
    weights = [name for name in ON_PAGE if name in first]
    columns = [[("pixels", "none")], [("hog", "none")], [("hog", "ink")]]
    columns += [[(name, way) for way in WAYS if way in first[name]] for name in weights]

    def row(title: str, cell: Callable[[str, str], str]) -> str:
        cells = [" / ".join(cell(*part) for part in column) for column in columns]
        return "| " + " | ".join([title, *cells]) + " |"

    rows = [
        row(words["sets"][name], lambda who, way, of=of: shown(of[who][way]))
        for name, of in sets.items()
    ]

    def average(who: str, way: str) -> str:
        return f"{100 * mean(of[who][way]['accuracy'] for of in sets.values()):.1f}"

    rows.append(row(words["mean"], average))
    head = words["head"].format(shots=shots) + "".join(f" `{name}` |" for name in weights)
    said = {key: report[key] for key in ("tasks", "ways", "command")}
    return table(head, rows, words["note"].format(**said) if shots > 1 else "")


def of_weights(name: str) -> str:
    """The lines on the card of weights: all sets, with `prepare="auto"`, beside HOG."""
    words, sets = WORDS["en"], read("elsewhere")["sets"]
    if any(name not in of[shots] for of in sets.values() for shots in ("1", "5")):
        return "not measured\n"
    rows = []
    for key, of in sets.items():
        cells = [shown(of[shots][name]["auto"]) for shots in ("1", "5")]
        cells.append(" / ".join(f"{100 * of[s][name]['turns']['accuracy']:.1f}" for s in "15"))
        best = [max(of[shots]["hog"][way]["accuracy"] for way in ("none", "ink")) for shots in "15"]
        cells.append(" / ".join(f"{100 * value:.1f}" for value in best))
        rows.append("| " + " | ".join([words["sets"][key], *cells]) + " |")
    return table(words["card_head"], rows)


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    words = WORDS[language]
    return {
        **{f"elsewhere_{shots}": partial(elsewhere, words, shots) for shots in (1, 5)},
        **{
            f"elsewhere_of_{name.replace('-', '_')}": lambda _, name=name: of_weights(name)
            for name in pretrained_names()
        },
    }
