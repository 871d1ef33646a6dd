"""Write the tables of README and docs from the result files: `python -m tools.tables`.

A table stands between `<!-- table NAME: ... -->` and `<!-- end of table -->`; a test holds
the pages and the result files together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from innerloop.training.report import format_result
from tools import (
    arm_tables,
    bug_tables,
    check_tables,
    lake_tables,
    photo_tables,
    recipe_tables,
    reproduction_tables,
    speed_tables,
    symbol_tables,
    trial_tables,
)
from tools.table_parts import note, percent, read, table

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "README.zh.md",
    *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*/**/*.md")),
    *sorted(str(card.relative_to(ROOT)) for card in ROOT.glob("src/innerloop/pretrained/*.md")),
]
MARK = re.compile(r"(<!-- table (\w+): [^\n]* -->\n).*?(<!-- end of table -->)", re.DOTALL)

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": "| trained on | tested on | training | transductive | support |",
        "omniglot": "Omniglot, 1,100 characters",
        "glyphs": "glyphs alone, no real image",
        "test": "Omniglot, 423 characters",
        "glyph_test": "{} unseen glyphs",
        "seconds": "{} s",
        "default": "default run, {} s",
        "tutorial": "`tutorial` preset, {} iterations, seed {}",
        "tutorial_on": "Omniglot, 1,200 characters",
        "machine": (
            "Measured on two threads of an {processor} ({gflops} GFLOP/s in a float32 matrix "
            "product), PyTorch {torch}. 5-way 1-shot, 15 queries a class, no rotation at test, "
            "seed 0 unless noted. {ours}"
        ),
        "ours": (
            "The network of our recipe is not the paper's: it has a shared head and features of "
            "unit length, and one inner step from a shared head moves the head alone, as ANIL does."
        ),
        "untrained": "none: untrained",
        "before": (
            "The same network, untrained: {:.2f}% before the first step, {:.2f}% after it. "
            "One step on five drawings tells many characters apart even where the layers before "
            "are random. What meta-training has added is the rest: {:.0f} points."
        ),
        "home": (
            "- **{:.1f}%** right on characters that it has never seen, five at a time, after one "
            "gradient step on one drawing of each (drawn by a program). An untrained network has "
            "{:.1f}%, guessing 20%.",
            "- **{:.0f} s** of meta-training for that, on two CPU cores.",
            "- **{:.1f} times** as fast as the next fastest way that we measured: {:.0f} ms for "
            "one training gradient of MAML (second order, 5-way 1-shot). The next fastest that "
            "makes the very same gradient takes {:.1f} times as long.",
        ),
        "algorithms_head": (
            "| algorithm | 5-way 1-shot, transductive | 5-way, support "
            "| 20-way 1-shot, transductive | outer steps, 5- / 20-way | ms a step "
            "| numbers adapted | memory of training, MB |"
        ),
        "algorithms_note": (
            "Accuracy in % on the 423 test characters of split `tutorial`, 600 tasks, 95% "
            "interval over tasks, classes not turned, one seed; 15 queries a class at 5-way, "
            "5 at 20-way. "
            "{seconds} seconds of training each on two threads of an {processor} "
            "({gflops} GFLOP/s), PyTorch {torch}. Numbers adapted: what the inner loop changes, "
            "at 5- / 20-way. "
            "Memory: peak of the process in training minus its memory before, at 5- / 20-way. "
            "{ours}"
        ),
        "per_step": (
            "With the running statistics of each inner step (`bn: per_step`), which make each "
            "prediction independent of the other queries, the same 5-way run reaches {}."
        ),
        "memory_head": (
            "| inner steps | reverse mode, MB | mixed mode, MB | mixed, task by task, MB "
            "| `higher`, task by task, MB | reverse, s | mixed, s | mixed, task by task, s "
            "| `higher`, s |"
        ),
        "memory_note": (
            "4 tasks, 5-way 1-shot, 15 queries a class, Conv4 with 64 filters, 28 x 28. *Task by "
            "task*: the graph of one task at a time (`chunk_size: 1`), otherwise those of all "
            "four. `python -m benchmarks.memory`, two threads of an {processor}."
        ),
        "series_head": "| accuracy in % | draw 0 | 1 | 2 | 3 | 4 | mean |",
        "nearest spectrum": "no learning: the support piece with the nearest spectrum",
        "languages_head": "| what is learnt and adapted | numbers | before | after |",
        "adapters": "adapters and head",
        "everything": "everything",
        "adapters_head": (
            "| inner steps | everything, MB | adapters, MB | everything, s | adapters, s |"
        ),
        "adapters_note": (
            "{everything} numbers are learnt and adapted, or {adapters}. {tasks} tasks, "
            "{n_way}-way 1-shot, {k_query} queries a class, sequences of {length}, a transformer "
            "of {layers} layers and width {width}, adapters of rank {rank}, second order. "
            "`python -m benchmarks.adapters`, one thread of an {processor}."
        ),
        "sinusoid_head": "| network | K | inner rate | before | after 1 step | after 10 steps |",
        "pre-trained": "pre-trained",
        "sinusoid_note": (
            "Mean squared error over {tasks} test tasks, 100 queries each, 95% interval over "
            "tasks; {iterations} outer steps, one seed (`python -m benchmarks.sinusoid`)."
        ),
    },
    "zh": {
        "head": "| 训练数据 | 测试数据 | 训练量 | 直推式（transductive）| 仅支持集（support）|",
        "omniglot": "Omniglot，1,100 个字符",
        "glyphs": "仅 glyphs，不用任何真实图像",
        "test": "Omniglot，423 个字符",
        "glyph_test": "{} 个未见过的 glyphs",
        "seconds": "{} 秒",
        "default": "默认训练，{} 秒",
        "tutorial": "`tutorial` 预设，{} 次迭代，种子 {}",
        "tutorial_on": "Omniglot，1,200 个字符",
        "machine": (
            "在 {processor} 的两个线程上测得（float32 矩阵乘法 {gflops} GFLOP/s），"
            "PyTorch {torch}。"
            "5-way 1-shot，每类 15 个查询样本，测试时不旋转，未注明时种子为 0。{ours}"
        ),
        "ours": (
            "我们的配方所用的网络与论文不同：分类头是共享的，特征长度归一；"
            "从共享分类头出发的一个内循环步只改变分类头，效果等同于 ANIL。"
        ),
        "untrained": "无：未经训练",
        "before": (
            "同一个网络，未经训练：第一步之前 {:.2f}%，走一步之后 {:.2f}%。"
            "即使前面各层的权重是随机的，在五张图上走一步也能区分不少字符；其余的 {:.0f} 个百分点，"
            "才是元训练带来的。"
        ),
        "home": (
            "- **{:.1f}%**：区分五个新字符（由程序绘制）的准确率，每个字符只给一张图，"
            "只走一步梯度下降；未经训练的网络是 {:.1f}%，瞎猜是 20%。",
            "- **{:.0f} 秒**：达到这个成绩所需的元训练时间（两个 CPU 核）。",
            "- **{:.1f} 倍**：与我们测过的其他办法中最快的一个相比；计算一次 MAML 的训练梯度"
            "（二阶，5-way 1-shot）只要 {:.0f} 毫秒。算得完全相同的其他办法里，"
            "最快的要花 {:.1f} 倍的时间。",
        ),
        "algorithms_head": (
            "| 算法 | 5-way 1-shot，直推式（transductive）| 5-way，仅支持集（support）"
            "| 20-way 1-shot，直推式 | 外循环步数，5- / 20-way | 每步毫秒 "
            "| 被适应的参数个数 | 训练内存，MB |"
        ),
        "algorithms_note": (
            "`tutorial` 划分的 423 个测试字符上的准确率（%），600 个任务，95% 置信区间按任务计算，"
            "测试类别不旋转，单一种子；5-way 每类 15 个查询样本，20-way 每类 5 个。"
            "每行训练 {seconds} 秒，{processor} 的两个线程（{gflops} GFLOP/s），PyTorch {torch}。"
            "被适应的参数个数：内循环所改变的，分别为 5- / 20-way。"
            "内存：训练时进程的峰值减去训练前的占用，分别为 5- / 20-way。{ours}"
        ),
        "per_step": (
            "用每一步的滑动统计量（`bn: per_step`，预测不依赖其他查询样本），"
            "同一次 5-way 训练达到 {}。"
        ),
        "memory_head": (
            "| 内循环步数 | 反向模式，MB | 混合模式，MB | 混合，逐个任务，MB "
            "| `higher`，逐个任务，MB | 反向，秒 | 混合，秒 | 混合，逐个任务，秒 | `higher`，秒 |"
        ),
        "memory_note": (
            "4 个任务，5-way 1-shot，每类 15 个查询样本，64 个卷积核的 Conv4，28 x 28。"
            "逐个任务：同一时刻只保留一个任务的计算图（`chunk_size: 1`），否则保留全部四个任务的。"
            "`python -m benchmarks.memory`，{processor} 的两个线程。"
        ),
        "series_head": "| 准确率（%） | 划分 0 | 1 | 2 | 3 | 4 | 平均 |",
        "nearest spectrum": "不学习：取频谱最近的支持样本",
        "languages_head": "| 学习并适应的部分 | 参数个数 | 之前 | 之后 |",
        "adapters": "适配器和分类头",
        "everything": "全部",
        "adapters_head": (
            "| 内循环步数 | 全部参数，MB | 仅适配器，MB | 全部参数，秒 | 仅适配器，秒 |"
        ),
        "adapters_note": (
            "学习并适应的参数分别为 {everything} 个和 {adapters} 个。{tasks} 个任务，"
            "{n_way}-way 1-shot，每类 {k_query} 个查询样本，序列长度 {length}，"
            "{layers} 层、宽度 {width} 的 Transformer，"
            "适配器的秩为 {rank}，二阶。`python -m benchmarks.adapters`，{processor} 的一个线程。"
        ),
        "sinusoid_head": "| 网络 | K | 内循环学习率 | 适应前 | 1 步后 | 10 步后 |",
        "pre-trained": "预训练",
        "sinusoid_note": (
            "{tasks} 个测试任务上的均方误差，每个任务 100 个查询点，95% 置信区间按任务计算；"
            "{iterations} 个外循环步，单一种子（`python -m benchmarks.sinusoid`）。"
        ),
    },
}


def results_table(words: dict[str, str]) -> str:
    """What README shows."""
    quick, glyphs, tutorial = (read(name) for name in ("quick", "glyphs", "tutorial"))
    still = read("untrained")["runs"]
    none = words["untrained"]
    rows = [(none, words["test"], "", still["quick"], still["quick"]["support"])]
    for seconds, r in quick["runs"].items():
        training = words["seconds"].format(seconds)
        rows.append((words["omniglot"], words["test"], training, r, r["support"]))
    unseen = words["glyph_test"].format(still["glyphs"]["protocol"]["classes"])
    rows.append((none, unseen, "", still["glyphs"], None))
    for name, r in glyphs["runs"].items():
        length = words["default" if name == "default" else "seconds"]
        training = length.format(f"{r['seconds']:.0f}")
        unseen = words["glyph_test"].format(r["protocol"]["classes"])
        rows.append((words["glyphs"], unseen, training, r, None))
        omniglot = r["omniglot_transductive"], r["omniglot_support"]
        rows.append((words["glyphs"], words["test"], training, *omniglot))
    preset = words["tutorial"].format(0, 0)
    rows.append((none, words["test"], preset, still["tutorial"], None))
    for r in tutorial["runs"].values():
        training = words["tutorial"].format(r["iterations"], r["seed"])
        rows.append((words["tutorial_on"], words["test"], training, r, None))
    lines = [f"| {a} | {b} | {c} | {percent(d)} | {percent(e)} |" for a, b, c, d, e in rows]
    return table(words["head"], lines, note(words["machine"], quick, words))


# In the table of all algorithms: the network of MAML's recipe before any training.
UNTRAINED = "MAML, untrained"
# The rows of that table that belong on an algorithm's own page, beside the untrained one.
PAGE_ROWS = {
    "maml": ("MAML", "MAML, first order"),
    "anil": ("ANIL", "BOIL"),
    "reptile": ("Reptile",),
    "metasgd": ("Meta-SGD",),
    "mamlpp": ("MAML++",),
    "imaml": ("iMAML",),
    "protonet": ("ProtoNet",),
    "finetune": ("fine-tuning",),
}


def algorithms_table(words: dict[str, str], rows: tuple[str, ...] | None = None) -> str:
    """All algorithms, or some of them, at 5-way and 20-way."""
    report = read("algorithms")
    lines, below = [], "" if rows else note(words["algorithms_note"], report, words)
    for name in (*rows, UNTRAINED) if rows else report["runs"]:
        five, twenty = (report["runs"][name][s] for s in ("5-way 1-shot", "20-way 1-shot"))
        both = [
            f"{five['iterations']:,} / {twenty['iterations']:,}",
            f"{five['ms_per_iteration']:.0f} / {twenty['ms_per_iteration']:.0f}",
            f"{five['adapted']:,} / {twenty['adapted']:,}",
            f"{five['training_bytes'] / 2**20:.0f} / {twenty['training_bytes'] / 2**20:.0f}",
        ]
        if name == UNTRAINED:
            both[1] = both[3] = ""
        cells = [name, percent(five), percent(five["support"]), percent(twenty), *both]
        lines.append(f"| {' | '.join(cells)} |")
        if rows and "per_step" in five:
            below = words["per_step"].format(percent(five["per_step"]))
    return table(words["algorithms_head"], lines, below)


def memory_table(words: dict[str, str]) -> str:
    """Peak memory and time of a second-order meta-gradient against inner steps."""
    report = read("memory")
    runs = report["runs"]
    lines = []
    for steps in runs["reverse"]:
        # Measurements that would not have fitted into memory have no numbers.
        points = [way.get(steps, {}) for way in runs.values()]
        cells = [f"{r['bytes'] / 2**20:,.0f}" if "bytes" in r else "" for r in points]
        cells += [f"{r['seconds']:.2f}" if "seconds" in r else "" for r in points]
        lines.append(f"| {steps} | {' | '.join(cells)} |")
    return table(words["memory_head"], lines, note(words["memory_note"], report))


def adapters_table(words: dict[str, str]) -> str:
    """Peak memory and time of a meta-gradient of everything, and of adapters alone."""
    report = read("memory_adapters")
    runs = report["runs"]
    lines, learnt = [], {}
    for steps in runs["everything"]:
        points = {what: way[steps] for what, way in runs.items()}
        cells = [f"{r['bytes'] / 2**20:,.0f}" for r in points.values()]
        cells += [f"{r['seconds']:.2f}" for r in points.values()]
        lines.append(f"| {steps} | {' | '.join(cells)} |")
        learnt = {what: f"{r['learnt']:,}" for what, r in points.items()}
    said = {**report["shape"], **learnt, "processor": report["machine"]["processor"]}
    return table(words["adapters_head"], lines, words["adapters_note"].format(**said))


def series_table(words: dict[str, str]) -> str:
    """Time series: accuracies of each draw of the people, and their mean."""
    draws, lines = read("examples")["runs"]["time_series"], []
    for name in draws[0]:
        found = [draw[name] for draw in draws]
        cells = [f"{100 * accuracy:.1f}" for accuracy in (*found, sum(found) / len(found))]
        lines.append(f"| {words.get(name, name)} | {' | '.join(cells)} |")
    return table(words["series_head"], lines)


def languages_table(words: dict[str, str]) -> str:
    """Adapters alone, and everything: how much is learnt, and accuracies before and after."""
    lines = [
        f"| {words[what]} | {r['learnt']:,} | {100 * r['before']:.1f}% | {100 * r['after']:.1f}% |"
        for what, r in read("examples")["runs"]["adapters"].items()
    ]
    return table(words["languages_head"], lines)


def sinusoid_table(words: dict[str, str]) -> str:
    """MAML and the pre-trained network on sine waves."""
    runs = read("sinusoid")["runs"]
    lines = []
    for name, r in runs.items():
        cells = [name.split(",")[0].replace("pre-trained", words["pre-trained"])]
        cells += [str(r["protocol"]["k_shot"]), str(r["inner_lr"])]
        cells += [f"{r['loss_per_step'][i]:.3f} ± {r['ci95_per_step'][i]:.3f}" for i in (0, 1, 10)]
        lines.append(f"| {' | '.join(cells)} |")
    first = next(iter(runs.values()))
    text = words["sinusoid_note"].format(
        tasks=first["protocol"]["tasks"], iterations=f"{first['iterations']:,}"
    )
    return table(words["sinusoid_head"], lines, text)


def first_run(words: dict[str, str]) -> str:
    """What the run in the picture printed at its end, and what its network does untrained."""
    result = read("first_run")["runs"]
    before, after, *_ = read("untrained")["runs"]["glyphs"]["accuracy_per_step"]
    learnt = result["accuracy_per_step"][1] - after
    said = words["before"].format(100 * before, 100 * after, 100 * learnt)
    return f"```text\n{format_result({**result, 'metric': 'accuracy'})}\n```\n\n{said}\n"


def home(words: dict[str, Any]) -> str:
    """Three numbers: accuracy, training time, and speed beside other libraries."""
    result, still = read("glyphs")["runs"]["default"], read("untrained")["runs"]["glyphs"]
    ways = read("speed")["runs"]["A"]["second"]["contestants"]
    mine = ways["innerloop"]["median"]
    others = [w for name, w in ways.items() if name != "innerloop" and "median" in w]
    fastest = min(w["median"] for w in others) / mine
    same = min(w["median"] for w in others if not w.get("inexact")) / mine
    after = [100 * r["accuracy_per_step"][1] for r in (result, still)]
    numbers = [after, [result["seconds"]], [fastest, 1000 * mine, same]]
    rows = [row.format(*n) for row, n in zip(words["home"], numbers, strict=True)]
    return "\n".join([*rows, ""])


def filled(page: str) -> str:
    """The text of a page with its tables written again."""
    text = (ROOT / page).read_text("utf-8")
    language = "zh" if "zh" in page else "en"
    words = WORDS[language]
    tables: dict[str, Callable[[dict[str, str]], str]] = {
        "results": results_table,
        "first_run": first_run,
        "home": home,
        "algorithms": algorithms_table,
        "memory": memory_table,
        "adapters": adapters_table,
        "series": series_table,
        "languages": languages_table,
        "sinusoid": sinusoid_table,
        **speed_tables.tables(language),
        **trial_tables.tables(language),
        **photo_tables.tables(language),
        **symbol_tables.tables(language),
        **lake_tables.tables(language),
        **bug_tables.tables(language),
        **check_tables.tables(language),
        **recipe_tables.tables(language),
        **reproduction_tables.tables(language),
        **arm_tables.tables(language),
        **{f"algorithm_{k}": partial(algorithms_table, rows=v) for k, v in PAGE_ROWS.items()},
    }
    return MARK.sub(lambda m: f"{m[1]}\n{tables[m[2]](words)}\n{m[3]}", text)


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(filled(page), "utf-8")
