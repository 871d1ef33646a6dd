"""The tables of docs/*/speed.md and docs/*/distributed.md; `benchmarks.tables` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

WORDS = {
    "en": {
        "first": "first",
        "second": "second",
        "workload": "workload",
        "order": "order",
        "floor": "times the floor",
        "left_out": "left out: {}",
        "18 GB": "it takes 18 GB of memory",
        "note": (
            "Milliseconds of one meta-gradient, median, and how many times as long as ours. Floor: "
            "the multiply-adds that cannot be done without, at this machine's rate for a "
            "matrix product. Two threads of an {processor} ({gflops} GFLOP/s), PyTorch {torch}. "
            "*: not quite the same gradient, see above."
        ),
        "best": "best library task by task",
        "scaling_head": "| processes | tasks a step | ms a step | all-reduce alone, ms | |",
        "one": "",
        "strong": "{speed_up:.2f} times as fast",
        "weak": "{efficiency:.0%} of the rate a process",
        "prediction_head": "| ms that a GPU computes a step | {} |",
        "gpus": "{} GPUs",
        "sampling_head": "| episodes | how | episodes a second | ours is faster by |",
        "startup_head": "| command | seconds |",
        "accuracy_head": "| accuracy | {} |",
        "never": "not in {:.0f} s",
    },
    "zh": {
        "first": "一阶",
        "second": "二阶",
        "workload": "任务",
        "order": "阶",
        "floor": "下限的倍数",
        "left_out": "未测: {}",
        "18 GB": "需要 18 GB 内存",
        "note": (
            "一次元梯度的毫秒数 (中位数), 以及它是我们用时的多少倍。下限: 必不可少的乘加运算次数"
            "除以本机的矩阵乘法速度。{processor} 的两个线程 ({gflops} GFLOP/s), PyTorch {torch}。"
            "*: 并非完全相同的梯度, 见上文。"
        ),
        "best": "最快的逐任务库",
        "scaling_head": "| 进程数 | 每步任务数 | 每步毫秒 | 仅 all-reduce, 毫秒 | |",
        "one": "",
        "strong": "快 {speed_up:.2f} 倍",
        "weak": "每个进程保持 {efficiency:.0%} 的速度",
        "prediction_head": "| 每个 GPU 每步的计算毫秒数 | {} |",
        "gpus": "{} 个 GPU",
        "sampling_head": "| 情景 (episode) | 方法 | 每秒情景数 | 我们快多少倍 |",
        "startup_head": "| 命令 | 秒 |",
        "accuracy_head": "| 准确率 | {} |",
        "never": "{:.0f} 秒内未达到",
    },
}


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head: str, rows: list[str], note: str = "") -> str:
    lines = [head, "|---" * (head.count("|") - 1) + "|", *rows]
    return "\n".join([*lines, "", *([note, ""] if note else [])])


def machine_note(text: str, report: dict[str, Any]) -> str:
    machine = report["machine"]
    return text.format(
        processor=machine["processor"],
        gflops=machine["matrix_product_gflops"],
        torch=machine["torch"],
    )


def speed(words: dict[str, str]) -> str:
    """All contestants on all workloads."""
    report = read("speed")
    runs = report["runs"]
    names = list(
        dict.fromkeys(n for w in runs.values() for o in w.values() for n in o["contestants"])
    )
    head = f"| {words['workload']} | {words['order']} | {' | '.join(names)} | {words['floor']} |"
    rows = []
    for workload, orders in runs.items():
        for order, result in orders.items():
            found = result["contestants"]
            mine = found["innerloop"]["median"]
            cells = []
            for name in names:
                row = found.get(name, {})
                if "left_out" in row:
                    cells.append(words["left_out"].format(words["18 GB"]))
                elif "median" in row:
                    mark = "*" if row.get("inexact") else ""
                    times = "" if name == "innerloop" else f" ({row['median'] / mine:.1f}x)"
                    cells.append(f"{1000 * row['median']:,.0f}{mark}{times}")
                else:
                    cells.append("")
            shown = " | ".join([workload, words[order], *cells, f"{result['times_the_floor']:.2f}"])
            rows.append(f"| {shown} |")
    return table(head, rows, machine_note(words["note"], report))


def scaling(words: dict[str, str]) -> str:
    runs = read("scaling")["runs"]
    rows = []
    for kind in ("one", "strong", "weak"):
        r = runs[kind]
        cells = [str(r["processes"]), str(r["tasks"]), f"{1000 * r['step_seconds']:.0f}"]
        cells += [f"{1000 * r['reduce_seconds']:.1f}", words[kind].format(**r)]
        rows.append(f"| {' | '.join(cells)} |")
    return table(words["scaling_head"], rows)


def scaling_prediction(words: dict[str, str]) -> str:
    steps = read("scaling")["runs"]["predictions"]["steps"]
    counts = list(next(iter(steps.values())))
    head = words["prediction_head"].format(
        " | ".join(words["gpus"].format(f"{int(n):,}") for n in counts)
    )
    rows = [
        f"| {1000 * float(step):.0f} | {' | '.join(f'{e:.0%}' for e in of.values())} |"
        for step, of in steps.items()
    ]
    return table(head, rows)


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the name of the table; what is given is not looked at."""
    words = WORDS[language]
    made = {"speed": speed, "scaling": scaling, "scaling_prediction": scaling_prediction}
    return {name: lambda _, make=make: make(words) for name, make in made.items()}
