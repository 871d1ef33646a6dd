"""The tables of docs/*/tutorial/bugs.md; `tools.tables` writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.bug_arms import BASE

from tools.table_parts import named, note, percent, read, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": "| | accuracy | difference |",
        "milliseconds": " ms a meta-gradient |",
        "tests_head": "| the same weights, tested in another way | accuracy | difference |",
        "kept_head": "| query losses in the graph | memory, MB | seconds |",
        "coverage_head": (
            "| tasks | interval over tasks | contains the mean | interval over images "
            "| contains the mean |"
        ),
        "optimism_head": "| tasks looked at | accuracy reported | accuracy on other tasks |",
        "summary_head": "| bug | price |",
        "names": {
            "right": "right",
            "another seed": "right, seed 1",
            "a third seed": "right, seed 2",
            "a fourth seed": "right, seed 3",
            "detached": "inner gradient detached",
            "grad of vmap": "gradient of vmap",
            "norm not adapted": "scale and shift not adapted",
            "inputs 0..255": "inputs 0 to 255",
            "no norm": "without batch norm",
            "no norm, inputs 0..255": "without batch norm, inputs 0 to 255",
            "workers with one seed": "four workers with one seed",
            "resumed every 50": "killed every 50 steps, only weights saved",
            "iMAML": "(I + H/λ) v = g",
            "iMAML, I + pull H": "(I + λH) v = g",
            "ProtoNet": "squared distance",
            "ProtoNet, not squared": "distance",
            "transductive": "statistics of all 75 queries",
            "support": "statistics of the support set",
            "class": "statistics of the 15 queries of one class",
            "1": "statistics of one query",
            "running": "running averages of all tasks",
            "unseen classes": "423 test characters",
            "trained classes": "the training characters",
            "last alone": "the last alone",
            "of every step": "of every step",
        },
        "note": (
            "{iterations} outer steps of {tasks} tasks, 5-way 1-shot, Omniglot, split `tutorial`; "
            "accuracy in % on {test_tasks} test tasks, 95% interval over tasks; differences are "
            "paired, task by task. Times are those of one thread of an {processor} that did other "
            "work too, PyTorch {torch} (`python -m benchmarks.bugs`)."
        ),
        "points": "{} points",
        "diverges": "no learning at all: {}",
        "memory": "{:.1f} times the memory, {:.1f} times the time",
        "said": "{:.1f} points too good, chosen by 32 test tasks",
        "covered": "a 95% interval that contains the mean in {:.0%} of cases",
        "bugs": {
            "detached": '1. "Second order" that is first order',
            "grad of vmap": "2. The gradient of vmap",
            "kept": "3. Query losses of every step kept",
            "running": "6. Running statistics in use",
            "class": "7. Transductive, queries of one class together",
            "norm not adapted": "8. Scale and shift not adapted",
            "trained classes": "9. Test characters that were trained on, if all were",
            "workers with one seed": "10. Workers with one seed",
            "optimism": "11. Test tasks choose the checkpoint",
            "coverage": "12. Intervals over images",
            "inputs 0..255": "14. Inputs of 0 to 255, with batch norm",
            "no norm, inputs 0..255": "14. Inputs of 0 to 255, without",
            "resumed every 50": "15. Resuming with weights alone",
            "iMAML, I + pull H": "16. iMAML's other system",
            "ProtoNet, not squared": "17. Distances not squared",
        },
    },
    "zh": {
        "head": "| | 准确率 | 差值 |",
        "milliseconds": " 一次元梯度的毫秒数 |",
        "tests_head": "| 同一组权重，换一种测法 | 准确率 | 差值 |",
        "kept_head": "| 计算图里的查询损失 | 内存，MB | 秒 |",
        "coverage_head": "| 任务数 | 按任务的区间 | 包含均值 | 按图像的区间 | 包含均值 |",
        "optimism_head": "| 用来挑选的任务数 | 报告的准确率 | 其他任务上的准确率 |",
        "summary_head": "| 错误 | 代价 |",
        "names": {
            "right": "正确",
            "another seed": "正确，种子 1",
            "a third seed": "正确，种子 2",
            "a fourth seed": "正确，种子 3",
            "detached": "内循环梯度被 detach",
            "grad of vmap": "对 vmap 求梯度",
            "norm not adapted": "scale 与 shift 不参与适应",
            "inputs 0..255": "输入为 0 到 255",
            "no norm": "不用批归一化",
            "no norm, inputs 0..255": "不用批归一化，输入为 0 到 255",
            "workers with one seed": "四个进程共用一个种子",
            "resumed every 50": "每 50 步中断一次，只存权重",
            "iMAML": "(I + H/λ) v = g",
            "iMAML, I + pull H": "(I + λH) v = g",
            "ProtoNet": "距离的平方",
            "ProtoNet, not squared": "距离",
            "transductive": "全部 75 个查询样本的统计量",
            "support": "支持集的统计量",
            "class": "同一类别 15 个查询样本的统计量",
            "1": "单个查询样本的统计量",
            "running": "所有任务的滑动平均",
            "unseen classes": "423 个测试字符",
            "trained classes": "训练用过的字符",
            "last alone": "只有最后一个",
            "of every step": "每一步的都有",
        },
        "note": (
            "{iterations} 个外循环步，每步 {tasks} 个任务，5-way 1-shot，Omniglot，`tutorial` "
            "划分；"
            "{test_tasks} 个测试任务上的准确率（%），95% 置信区间按任务计算；差值逐任务配对。"
            "时间取自 {processor} 的一个线程，机器同时还做别的事，PyTorch {torch}"
            "（`python -m benchmarks.bugs`）。"
        ),
        "points": "{} 个百分点",
        "diverges": "完全学不到：{}",
        "memory": "{:.1f} 倍内存，{:.1f} 倍时间",
        "said": "用 32 个测试任务挑选，虚高 {:.1f} 个百分点",
        "covered": "号称 95% 的区间只在 {:.0%} 的情形下包含均值",
        "bugs": {
            "detached": "1. 号称二阶，实为一阶",
            "grad of vmap": "2. 对 vmap 求梯度",
            "kept": "3. 保留每一步的查询损失",
            "running": "6. 使用滑动统计量",
            "class": "7. 直推式，同类查询放在一起",
            "norm not adapted": "8. scale 与 shift 不参与适应",
            "trained classes": "9. 测试字符在训练中出现过（假设全部如此）",
            "workers with one seed": "10. 各进程共用一个种子",
            "optimism": "11. 用测试任务挑选检查点",
            "coverage": "12. 按图像计算区间",
            "inputs 0..255": "14. 输入为 0 到 255，有批归一化",
            "no norm, inputs 0..255": "14. 输入为 0 到 255，不用批归一化",
            "resumed every 50": "15. 只存权重的检查点",
            "iMAML, I + pull H": "16. iMAML 解了另一个方程",
            "ProtoNet, not squared": "17. 距离没有平方",
        },
    },
}

# Which arms stand in which exhibit, the right one first.
EXHIBITS = {
    "bug_seeds": ("right", "another seed", "a third seed", "a fourth seed"),
    "bug_order": ("right", "detached"),
    "bug_vmap": ("right", "grad of vmap"),
    "bug_adapted": ("right", "norm not adapted"),
    "bug_workers": ("right", "workers with one seed"),
    "bug_inputs": ("right", "inputs 0..255", "no norm", "no norm, inputs 0..255"),
    "bug_resume": ("right", "resumed every 50"),
    "bug_imaml": ("iMAML", "iMAML, I + pull H"),
    "bug_protonet": ("ProtoNet", "ProtoNet, not squared"),
}
TESTS = {
    "bug_running": ("transductive", "running"),
    "bug_queries": ("transductive", "support", "class", "1"),
    "bug_seen": ("unseen classes", "trained classes"),
}


def _difference(result: dict[str, Any]) -> str:
    if "difference" not in result:
        return ""
    return f"{100 * result['difference']:+.2f} ± {100 * result['difference_ci95']:.2f}"


def arms(words: dict[str, Any], names: tuple[str, ...]) -> str:
    """Arms side by side; each is compared with its own base."""
    report = read("bugs")
    times = report["more"].get("milliseconds", {})
    timed, rows = all(name in times for name in names), []
    for name in names:
        r = report["runs"][name]
        # An arm that is itself a base is compared with nothing.
        shown = "" if name in BASE.values() else _difference(r)
        cells = [words["names"][name], percent(r), shown]
        cells += [f"{times[name]:.0f}"] if timed else []
        rows.append(f"| {' | '.join(cells)} |")
    return table(words["head"] + (words["milliseconds"] if timed else ""), rows)


def tested(words: dict[str, Any], names: tuple[str, ...]) -> str:
    """The right arm's weights, tested in several ways."""
    report = read("bugs")
    right = report["runs"]["right"]
    tests = {"transductive": right, "unseen classes": right, **report["more"]["tests"]}
    rows = [
        f"| {words['names'][n]} | {percent(tests[n])} | {_difference(tests[n])} |" for n in names
    ]
    return table(words["tests_head"], rows)


def bug_kept(words: dict[str, Any]) -> str:
    """Memory and time of kept query losses."""
    rows = [
        f"| {words['names'][n]} | {r['bytes'] / 2**20:.0f} | {r['seconds']:.2f} |"
        for n, r in read("bugs")["more"]["kept"].items()
    ]
    return table(words["kept_head"], rows)


def bug_coverage(words: dict[str, Any]) -> str:
    """How often which interval holds the mean."""
    rows = [
        f"| {r['tasks']} | ± {100 * r['half_over_tasks']:.2f} | {r['over_tasks']:.0%} "
        f"| ± {100 * r['half_over_images']:.2f} | {r['over_images']:.0%} |"
        for r in read("bugs")["more"]["coverage"]
    ]
    return table(words["coverage_head"], rows)


def bug_optimism(words: dict[str, Any]) -> str:
    """What the best of 16 checkpoints seems to reach, and what it really reaches."""
    rows = [
        f"| {r['tasks']} | {100 * r['said']:.2f} | {100 * r['true']:.2f} |"
        for r in read("bugs")["more"]["optimism"]
    ]
    return table(words["optimism_head"], rows)


def bugs(words: dict[str, Any]) -> str:
    """The cost of every bug."""
    report = read("bugs")
    runs, more = report["runs"], report["more"]
    kept, coverage, optimism = more["kept"], more["coverage"][0], more["optimism"][0]
    last, every = kept["last alone"], kept["of every step"]
    prices = {
        "kept": words["memory"].format(
            every["bytes"] / last["bytes"], every["seconds"] / last["seconds"]
        ),
        "optimism": words["said"].format(100 * (optimism["said"] - optimism["true"])),
        "coverage": words["covered"].format(coverage["over_images"]),
    }
    seen, unseen = more["tests"]["trained classes"], runs["right"]
    prices["trained classes"] = words["points"].format(
        f"{100 * (seen['accuracy'] - unseen['accuracy']):+.2f}"
    )
    rows = []
    for name, label in words["bugs"].items():
        result = {**runs, **more["tests"]}.get(name)
        if name not in prices:
            assert result is not None
            stuck = result["ci95"] < 1e-3  # chance in every task
            text = words["diverges"].format(percent(result)) if stuck else None
            prices[name] = text or words["points"].format(_difference(result))
        rows.append(f"| {label} | {prices[name]} |")
    text = words["note"]
    for name, value in report["protocol"].items():
        text = text.replace(f"{{{name}}}", str(value))
    return table(words["summary_head"], rows, note(text, report))


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    words = WORDS[language]
    makers = named(words, bug_kept, bug_coverage, bug_optimism, bugs)
    for make, groups in ((arms, EXHIBITS), (tested, TESTS)):
        for name, rows in groups.items():
            makers[name] = lambda _, make=make, rows=rows: make(words, rows)
    return makers
