"""The tables of docs/*/runs.md and docs/*/demo.md; `tools.tables` writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.table_parts import named, note, read, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "kills_head": "| killed | kills | runs taken up again | runs that differ |",
        "at random moments": "at random moments",
        "before a file operation": "right before a file operation, each in turn",
        "fuzz_head": "| reader | inputs | refused | slowest, s | peak memory, MB | defects |",
        "readers": {
            "zip_archives": "Omniglot's zip archives",
            "omniglot_pictures": "Omniglot's PNG drawings",
            "pictures": "pictures: png, jpg, bmp, gif, tif, webp",
            "arrays": "`.npy` arrays",
            "tables": "train.csv, val.csv, test.csv",
            "cached_folders": "prepared data in the cache (mended, not refused)",
            "configs": "YAML settings",
            "weights": "weights (`model.safetensors`)",
            "checkpoints": "checkpoints and metrics",
            "commands": "the command line",
        },
        "fuzz_note": (
            "{total} inputs in all. What is not refused was still valid, or was mended; of the "
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


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """By the names that the pages use."""
    words = WORDS[language]
    return named(words, kills, fuzz, determinism, long_run, demo_load)
