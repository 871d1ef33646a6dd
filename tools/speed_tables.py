"""The tables of docs/*/speed.md and docs/*/distributed.md; `tools.tables` writes them.

README's short one, `speed_short`, is here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.speed import best_rate

from tools.speed_words import WORDS
from tools.table_parts import named, note, percent, read, table


def read_speed(name: str) -> dict[str, Any]:
    """A report of `benchmarks.speed`, with the rate from which floors are computed."""
    report = read(name)
    report["machine"]["matrix_product_gflops"] = round(best_rate(report["runs"]))
    return report


def speed(words: dict[str, str], result: str = "speed") -> str:
    """All contestants on all workloads."""
    report = read_speed(result)
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
                    ms = 1000 * row["median"]
                    cells.append(f"{ms:,.{0 if ms >= 10 else 2}f}{mark}{times}")
                else:
                    cells.append("")
            shown = " | ".join([workload, words[order], *cells, f"{result['times_the_floor']:.2f}"])
            rows.append(f"| {shown} |")
    text = words["note_gpu"].format(gpu=report["gpu"]) if "gpu" in report else words["note"]
    return table(head, rows, note(text, report))


def speed_gpu(words: dict[str, str]) -> str:
    """The same on a GPU."""
    return speed(words, "speed-gpu")


def precision_cpu(words: dict[str, str]) -> str:
    """The same on a CPU."""
    return precision(words, "precision-cpu")


def precision(words: dict[str, str], result: str = "precision") -> str:
    """Accuracy and speed of training with less precise products on a GPU."""
    report = read(result)
    rows = []
    for name, runs in report["runs"].items():
        ms = " / ".join(f"{r['ms_per_iteration']:.2f}" for r in runs)
        rows.append(f"| `{name}` | {' / '.join(map(percent, runs))} | {ms} |")
    where = report.get("gpu", words["two_threads"])
    text = words["precision_note"].format(iterations=report["iterations"], gpu=where)
    return table(words["precision_head"], rows, note(text, report))


def speed_avx512(words: dict[str, str]) -> str:
    """The same on a machine whose processor has AVX-512."""
    return speed(words, "speed-avx512")


def speed_short(words: dict[str, str]) -> str:
    """Ours beside the fastest of the others, first and second order in one cell."""
    report = read_speed("speed")
    others = (
        "faster_than_the_best_other",
        "faster_than_the_best_task_by_task",
        "faster_than_the_tutorial",
    )
    rows = []
    for workload, orders in report["runs"].items():
        mine = [result["contestants"]["innerloop"]["median"] for result in orders.values()]
        cells = [words[workload], " / ".join(f"{1000 * seconds:,.0f}" for seconds in mine)]
        for key in others:
            marks = key == "faster_than_the_best_other"
            cells.append(
                " / ".join(
                    f"{r[key]:.1f}x{'*' if marks and fastest_is_inexact(r) else ''}"
                    for r in orders.values()
                    if key in r
                )
            )
        rows.append(f"| {' | '.join(cells)} |")
    return table(words["short_head"], rows, note(words["short_note"], report))


def own(words: dict[str, str], result: str = "own") -> str:
    """Networks that users bring. Empty cell: took no part; no column: took no part anywhere."""
    report = read(result)
    found = [r["contestants"] for orders in report["runs"].values() for r in orders.values()]
    names = list(dict.fromkeys(n for c in found for n, row in c.items() if "left_out" not in row))
    cells = [words["workload"], words["order"], *names, words["best_other"]]
    rows = []
    for workload, orders in report["runs"].items():
        for order, r in orders.items():
            shown = [own_cell(words, r["contestants"].get(name, {})) for name in names]
            ratio = r.get("faster_than_the_best_other")
            shown.append("" if ratio is None else f"{ratio:.2f}")
            rows.append(f"| {' | '.join([workload, words[order], *shown])} |")
    text = words["own_note"]
    if "gpu" in report:
        text = words["own_note_gpu"].format(gpu=report["gpu"])
    return table(f"| {' | '.join(cells)} |", rows, note(text, report))


def own_intel(words: dict[str, str]) -> str:
    """On a processor of Intel: how many times as fast as the best of the others."""
    report = read("own-intel")
    rows = []
    for order in ("first", "second"):
        runs = [orders.get(order, {}) for orders in report["runs"].values()]
        ratios = [run.get("faster_than_the_best_other") for run in runs]
        cells = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        rows.append(f"| {' | '.join([words[order], *cells])} |")
    head = f"| {' | '.join([words['order'], *report['runs']])} |"
    return table(head, rows, note(words["own_note_intel"], report))


def own_gpu(words: dict[str, str]) -> str:
    """The same on a GPU."""
    return own(words, "own-gpu")


def own_cell(words: dict[str, str], row: dict[str, Any]) -> str:
    """Milliseconds; or that it fails."""
    if "median" not in row:
        return words["fails"] if "fails" in row else ""
    ms = 1000 * row["median"]
    return f"{ms:,.{0 if ms >= 10 else 2}f}"


# What the table of threads shows of the many rows that are measured.
SHOWN = ("maml, 1 task", "maml, 8 tasks", "reptile, 1 task", "protonet, 1 task", "imaml, 1 task")


def threads(words: dict[str, str]) -> str:
    """Some recipes, and what else is measured, by the number of threads."""
    report = read("threads")
    runs = report["runs"]
    rows = []
    for name in (*SHOWN, "step of MAML++", "fit of five drawings"):
        run = runs[name]
        recipe, _, number = name.partition(", ")
        count = number.partition(" ")[0]
        plural = "" if count == "1" else "s"
        what = words["task"].format(recipe, count, plural) if number else words[name]
        kernels, operators = run["ms"]["kernels"], run["ms"]["operators"]
        cells = [*(f"{ms:.1f}" for ms in kernels.values())]
        cells += [f"{run['two_threads_by_one']:.2f}", f"{operators['2']:.1f}"]
        rows.append(f"| {' | '.join([what, *cells])} |")
    head = words["threads_head"].format(" | ".join(runs[SHOWN[0]]["ms"]["kernels"]))
    return table(head, rows, note(words["threads_note"], report))


def query_statistics(words: dict[str, str]) -> str:
    """What it costs that the support set normalises."""
    report = read("query_statistics")
    rows = []
    for workload, found in report["runs"].items():
        ms = [1000 * row["median"] for row in found.values()]
        rows.append(f"| {' | '.join([words[workload], *(f'{m:.1f}' for m in ms)])} |")
    return table(words["statistics_head"], rows, note(words["statistics_note"], report))


def fastest_is_inexact(result: dict[str, Any]) -> bool:
    """Whether the fastest of the others computes another gradient."""
    others = [
        row for n, row in result["contestants"].items() if n != "innerloop" and "median" in row
    ]
    return bool(min(others, key=lambda row: row["median"]).get("inexact"))


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
        f"| {1000 * float(step):.3g} | {' | '.join(f'{e:.0%}' for e in of.values())} |"
        for step, of in steps.items()
    ]
    return table(head, rows)


def sampling(words: dict[str, str]) -> str:
    runs = {name: run for name, run in read("sampling")["runs"].items() if name != "steps"}
    names = list(next(iter(runs.values()))["contestants"])
    shown = [words.get(name, name) for name in names]
    head = f"| {words['episodes']} | {' | '.join(shown)} | {words['over_cache']} |"
    rows = []
    for setting, run in runs.items():
        cells = [f"{run['contestants'][name]['episodes_per_second']:,}" for name in names]
        ratio = f"{run['times_the_tutorial']:.1f} / {run['times_the_tutorial_turned']:.1f}"
        rows.append(f"| {' | '.join([setting, *cells, ratio])} |")
    return table(head, rows)


def sampling_share(words: dict[str, str]) -> str:
    rows = [
        f"| `{preset}` | {row['sampling_ms']:.2f} | {row['step_ms']:.1f} | {row['share']:.2%} |"
        for preset, row in read("sampling")["runs"]["steps"].items()
    ]
    return table(words["share_head"], rows)


def startup(words: dict[str, str]) -> str:
    rows = [
        f"| `{command}` | {row['median']:.2f} | {', '.join(row['imports'])} |"
        for command, row in read("startup")["runs"].items()
    ]
    return table(words["startup_head"], rows)


def time_to_accuracy(words: dict[str, str]) -> str:
    runs = read("time_to_accuracy")["runs"]
    rows = []
    for name, run in runs.items():
        reached = run["seconds_to"].values()
        never = words["never"].format(run["limit_seconds"])
        cells = [never if seconds is None else f"{seconds:.1f}" for seconds in reached]
        cells += [f"{run['ms_per_iteration']:.0f}", f"{run['points'][-1]['accuracy']:.3f}"]
        rows.append(f"| {' | '.join([words[name], *cells])} |")
    levels = " | ".join(next(iter(runs.values()))["seconds_to"])
    return table(words["accuracy_head"].format(levels), rows)


def tables(language: str) -> dict[str, Callable[[Any], str]]:
    """Tables by name; the arguments are ignored."""
    words = WORDS[language]
    made = (
        speed,
        speed_avx512,
        speed_gpu,
        precision,
        precision_cpu,
        speed_short,
        own,
        own_intel,
        own_gpu,
        threads,
        query_statistics,
        scaling,
        scaling_prediction,
        sampling,
        sampling_share,
        startup,
        time_to_accuracy,
    )
    return named(words, *made)
