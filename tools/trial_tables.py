"""The tables of docs/*/runs.md, demo.md and export.md; `tools.tables` writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.table_parts import named, note, read, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "kills_head": "| killed | kills | runs resumed | runs that differ |",
        "at random moments": "at random moments",
        "before a file operation": "right before a file operation, each in turn",
        "fuzz_head": "| reader | inputs | refused | slowest, s | peak memory, MB | defects |",
        "readers": {
            "zip_archives": "Omniglot's zip archives",
            "omniglot_pictures": "Omniglot's PNG drawings",
            "pictures": "pictures: png, jpg, bmp, gif, tif, webp",
            "arrays": "`.npy` arrays",
            "own_arrays": "arrays and labels in memory",
            "own_data_sets": "PyTorch data sets",
            "own_pictures": "pictures for a classifier, in any form",
            "tables": "train.csv, val.csv, test.csv",
            "cached_folders": "prepared data in the cache (repaired, not refused)",
            "configs": "YAML settings",
            "weights": "weights (`model.safetensors`)",
            "checkpoints": "checkpoints and metrics",
            "commands": "the command line",
        },
        "fuzz_note": (
            "{total} inputs in all. What is not refused was still valid, or was repaired; of the "
            "command line it is the exit status that counts, which was 0 or 2."
        ),
        "determinism_head": "| algorithm | {} |",
        "circumstances": {
            "a second time": "a second time",
            "one thread instead of two": "one thread instead of two",
            "one task at a time": "`--chunk-size 1`",
            "without the compiled kernels": "`INNERLOOP_KERNELS=0`",
            "two processes": "two processes",
        },
        "same": "the same bits",
        "determinism_note": (
            "Relative distance of the meta-parameters after {iterations} outer steps, and test "
            "accuracy if it differs by more than 0.0005. Two threads of an {processor}, PyTorch "
            "{torch}."
        ),
        "long_run": (
            "{minutes:.0f} minutes of training ({iterations:,} outer steps, with validation): "
            "{first:.0f} MB is the median of the first half, {second:.0f} MB of the second, "
            "{largest:.0f} MB the most; a line through the readings of the second half "
            "grows by {growth:+.1f} MB an hour."
        ),
        "demo_head": (
            "| clients | answers | errors | a second | half within | 99% within | memory, MB |"
        ),
        "demo_note": (
            "Five classes, one drawing each, five inner steps; each client asks again when it has "
            "its answer. Server and clients share two threads of an {processor}; PyTorch {torch}."
        ),
        "exporting_head": (
            "| | file, MB | onnxruntime, ms | PyTorch, ms | onnxruntime, MB | PyTorch, MB "
            "| ready, onnxruntime, s | ready, PyTorch, s |"
        ),
        "learner": "the learner, `{}`",
        "adapted": "an adapted network, `{}`",
        "exporting_note": (
            "5-way 1-shot, 75 queries, one thread of an {processor}, "
            "PyTorch {torch}: the fastest of 20 answers, the peak memory of the whole process, "
            "and the time to load the runtime and the network and to answer once "
            "(`python -m benchmarks.exporting`). A learner's answer holds the inner steps; the "
            "probabilities of both differ by at most 1e-4."
        ),
        "page_head": "| network | question | first answer | half within | fastest |",
        "page_first": "the page's own: {}",
        "page_other": "onnxruntime-web {}: {}",
        "page_note": (
            "Milliseconds of an answer, five inner steps with one worker in Chromium {browser}, on "
            "one of two threads of an {processor} (`python -m benchmarks.page`). The page is "
            "{size:.1f} MB, of which {first:.2f} MB are loaded at first. onnxruntime-web, with the "
            "learner that `innerloop export` writes, is {other:.1f} MB: that is why the page has "
            "its own."
        ),
    },
    "zh": {
        "kills_head": "| 被杀时刻 | 被杀次数 | 续训的次数 | 结果不同的次数 |",
        "at random moments": "随机时刻",
        "before a file operation": "每一个文件操作之前，逐一试过",
        "fuzz_head": "| 读取者 | 输入数 | 被拒绝 | 最慢（秒） | 内存峰值（MB） | 缺陷 |",
        "readers": {
            "zip_archives": "Omniglot 的 zip 压缩包",
            "omniglot_pictures": "Omniglot 的 PNG 图",
            "pictures": "图片：png、jpg、bmp、gif、tif、webp",
            "arrays": "`.npy` 数组",
            "own_arrays": "内存中的数组与标签",
            "own_data_sets": "PyTorch 数据集",
            "own_pictures": "交给分类器的图片，各种形式",
            "tables": "train.csv、val.csv、test.csv",
            "cached_folders": "缓存中预处理好的数据（自行修复，不拒绝）",
            "configs": "YAML 设置",
            "weights": "权重（`model.safetensors`）",
            "checkpoints": "检查点与训练指标",
            "commands": "命令行",
        },
        "fuzz_note": (
            "共 {total} 个输入。未被拒绝的，要么改动后依然合法，要么已被修复；"
            "命令行看的是退出状态，全部为 0 或 2。"
        ),
        "determinism_head": "| 算法 | {} |",
        "circumstances": {
            "a second time": "再跑一次",
            "one thread instead of two": "一个线程（原为两个）",
            "one task at a time": "`--chunk-size 1`",
            "without the compiled kernels": "`INNERLOOP_KERNELS=0`",
            "two processes": "两个进程",
        },
        "same": "逐位相同",
        "determinism_note": (
            "{iterations} 个外循环步后元参数的相对距离；测试准确率之差超过 0.0005 时一并给出。"
            "{processor} 的两个线程，PyTorch {torch}。"
        ),
        "long_run": (
            "训练 {minutes:.0f} 分钟（{iterations:,} 个外循环步，含验证）：前半段内存中位数 "
            "{first:.0f} MB，后半段 {second:.0f} MB，最高 {largest:.0f} MB；"
            "对后半段读数作直线拟合，每小时变化 {growth:+.1f} MB。"
        ),
        "demo_head": "| 客户端 | 回答 | 错误 | 每秒 | 半数不超过 | 99% 不超过 | 内存（MB） |",
        "demo_note": (
            "五个类别、每类一个样本、内循环五步；每个客户端得到回答后立即再问。服务器与客户端共用 "
            "{processor} 的两个线程；PyTorch {torch}。"
        ),
        "exporting_head": (
            "| | 文件（MB） | onnxruntime（ms） | PyTorch（ms） | onnxruntime（MB） "
            "| PyTorch（MB） | 启动，onnxruntime（s） | 启动，PyTorch（s） |"
        ),
        "learner": "学习器，`{}`",
        "adapted": "适应之后的网络，`{}`",
        "exporting_note": (
            "5-way 1-shot，75 个查询，{processor} 的一个线程，PyTorch {torch}。"
            "毫秒为 20 次回答中最快的一次，内存为整个进程的峰值，"
            "启动为载入运行时和网络并完成第一次回答的时间"
            "（`python -m benchmarks.exporting`）。学习器的一次回答包含内循环；"
            "两者的概率相差不超过 1e-4。"
        ),
        "page_head": "| 网络 | 问题 | 第一次回答 | 半数不超过 | 最快 |",
        "page_first": "页面自己的：{}",
        "page_other": "onnxruntime-web {}：{}",
        "page_note": (
            "一次回答的毫秒数：内循环五步，Chromium {browser} 里的一个 worker，"
            "{processor} 两个线程之一（`python -m benchmarks.page`）。"
            "页面共 {size:.1f} MB，"
            "打开时载入 {first:.2f} MB。onnxruntime-web 加上 `innerloop export` 写出的学习器为 "
            "{other:.1f} MB，所以页面用自己的程序。"
        ),
    },
}


def kills(words: dict[str, Any]) -> str:
    """Runs that were killed."""
    runs = read("kills")["runs"]
    rows = [
        f"| {words[name]} | {r['kills']:,} | {r['runs']:,} | {len(r['unequal'])} |"
        for name, r in runs.items()
    ]
    return table(words["kills_head"], rows)


def fuzz(words: dict[str, Any]) -> str:
    """Damaged input."""
    report = read("fuzz")
    rows = [
        f"| {words['readers'][name]} | {r['inputs']:,} | {r['refused']:,} | {r['seconds']} | "
        f"{r['megabytes']:,} | {len(r['defects'])} |"
        for name, r in report["runs"].items()
    ]
    return table(words["fuzz_head"], rows, words["fuzz_note"].format(total=f"{report['total']:,}"))


def determinism(words: dict[str, Any]) -> str:
    """Equal seeds in other circumstances."""
    report = read("determinism")
    names = words["circumstances"]
    rows = []
    for algorithm, found in report["runs"].items():
        cells = []
        for name in names:
            result = found[name]
            cell = (
                words["same"] if result["the same bits"] else f"{result['relative distance']:.0e}"
            )
            if abs(result["accuracy"] - found["accuracy"]) > 0.0005:
                cell += f" ({result['accuracy']:.3f} / {found['accuracy']:.3f})"
            cells.append(cell)
        rows.append(f"| {algorithm} | {' | '.join(cells)} |")
    head = words["determinism_head"].format(" | ".join(names.values()))
    text = words["determinism_note"].replace("{iterations}", str(report["iterations"]))
    return table(head, rows, note(text, report))


def long_run(words: dict[str, Any]) -> str:
    """The hour of training, in a sentence."""
    run = read("long_run")["runs"]
    megabytes = run["megabytes"]
    sentence = words["long_run"].format(
        minutes=run["seconds"] / 60,
        iterations=run["iterations"],
        first=megabytes["median of the first half"],
        second=megabytes["median of the second half"],
        largest=megabytes["largest"],
        growth=megabytes["growth in an hour, second half"],
    )
    return sentence + "\n"


def demo_load(words: dict[str, Any]) -> str:
    """The server of the page under load."""
    report = read("demo_load")
    rows = [
        f"| {r['clients']} | {r['requests']:,} | {r['errors']} | {r['requests_per_second']:.0f} | "
        f"{r['p50_ms']:.0f} ms | {r['p99_ms']:.0f} ms | {r['memory_mb'][0]:.0f} → "
        f"{r['memory_mb'][1]:.0f} |"
        for r in report["runs"]
    ]
    return table(words["demo_head"], rows, note(words["demo_note"], report))


def page(words: dict[str, Any]) -> str:
    """The page without a server, beside onnxruntime-web."""
    report = read("page")
    own, other = report["runs"]["page"], report["runs"]["onnxruntime-web"]
    rows = []
    for name, each in (("page_first", own), ("page_other", other)):
        for asked, r in each["answers"].items():
            network, question = asked.split(", ")
            title = words[name].format(*filter(None, (each.get("version"), network)))
            milliseconds = (f"{r[key]:.0f} ms" for key in ("first_ms", "median_ms", "least_ms"))
            rows.append(f"| {title} | {question} | {' | '.join(milliseconds)} |")
    text = words["page_note"].format(
        browser=report["browser"].split(".")[0],
        processor=report["machine"]["processor"],
        size=own["bytes"] / 1e6,
        first=own["kilobytes at first"] / 1e3,
        other=other["bytes"] / 1e6,
    )
    return table(words["page_head"], rows, text)


def exporting(words: dict[str, Any]) -> str:
    """Exported networks beside PyTorch."""
    report = read("exporting")
    rows = []
    for title, r in report["runs"].items():
        kind, network = title.replace(" of", "").split()
        both = [r["onnxruntime"], r["pytorch"]]
        cells = [
            f"{r['bytes'] / 1e6:.2f}",
            *(f"{each['least_ms']:.1f}" for each in both),
            *(f"{each['peak_mb']}" for each in both),
            *(f"{each['seconds to the first answer']:.1f}" for each in both),
        ]
        rows.append(f"| {words[kind].format(network)} | {' | '.join(cells)} |")
    return table(words["exporting_head"], rows, note(words["exporting_note"], report))


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    words = WORDS[language]
    return named(words, kills, fuzz, determinism, long_run, demo_load, page, exporting)
