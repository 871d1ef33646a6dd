"""Write the tables of README and docs from the result files: `python -m benchmarks.tables`.

A table stands between `<!-- table NAME: ... -->` and `<!-- end of table -->`; a test holds
the pages and the result files together.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "README.zh.md", "docs/en/recipes.md", "docs/zh/recipes.md")
MARK = re.compile(r"(<!-- table (\w+): [^\n]* -->\n).*?(<!-- end of table -->)", re.DOTALL)

WORDS = {
    "en": {
        "recipe_head": "| recipe | settings that differ | iterations | validation accuracy |",
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
            "seed 0 unless said."
        ),
    },
    "zh": {
        "recipe_head": "| 配方 | 不同的设置 | 迭代次数 | 验证准确率 |",
        "head": "| 训练数据 | 测试数据 | 训练量 | 直推式 (transductive) | 仅支持集 (support) |",
        "omniglot": "Omniglot, 1,100 个字符",
        "glyphs": "仅 glyphs, 不用任何真实图像",
        "test": "Omniglot, 423 个字符",
        "glyph_test": "{} 个未见过的 glyphs",
        "seconds": "{} 秒",
        "default": "默认运行, {} 秒",
        "tutorial": "`tutorial` 预设, {} 次迭代, 种子 {}",
        "tutorial_on": "Omniglot, 1,200 个字符",
        "machine": (
            "在 {processor} 的两个线程上测得 (float32 矩阵乘法 {gflops} GFLOP/s), PyTorch {torch}。"
            "5-way 1-shot, 每类 15 个查询样本, 测试时不旋转, 未注明时种子为 0。"
        ),
    },
}


def percent(result: dict[str, Any] | None) -> str:
    """`97.31 ± 0.28`, or nothing."""
    if result is None:
        return ""
    return f"{100 * result['accuracy']:.2f} ± {100 * result['ci95']:.2f}"


def recipe_table(words: dict[str, str]) -> str:
    """The quick recipe beside what it was chosen from."""
    runs = json.loads((RESULTS / "recipe.json").read_text())["runs"]
    lines = [words["recipe_head"], "|---|---|---|---|"]
    for name, r in runs.items():
        shown = ", ".join(f"`{k}: {json.dumps(v)}`" for k, v in r["settings"].items())
        lines.append(f"| {name} | {shown} | {r['iterations']:,} | {percent(r)} |")
    return "\n".join([*lines, ""])


def results_table(words: dict[str, str]) -> str:
    """What README shows."""
    quick, glyphs, tutorial = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("quick", "glyphs", "tutorial")
    )
    rows = []
    for seconds, r in quick["runs"].items():
        training = words["seconds"].format(seconds)
        rows.append((words["omniglot"], words["test"], training, r, r["support"]))
    for name, r in glyphs["runs"].items():
        length = words["default" if name == "default" else "seconds"]
        training = length.format(f"{r['seconds']:.0f}")
        unseen = words["glyph_test"].format(r["protocol"]["classes"])
        rows.append((words["glyphs"], unseen, training, r, None))
        omniglot = r["omniglot_transductive"], r["omniglot_support"]
        rows.append((words["glyphs"], words["test"], training, *omniglot))
    for r in tutorial["runs"].values():
        training = words["tutorial"].format(r["iterations"], r["seed"])
        rows.append((words["tutorial_on"], words["test"], training, r, None))
    lines = [words["head"], "|---|---|---|---|---|"]
    lines += [f"| {a} | {b} | {c} | {percent(d)} | {percent(e)} |" for a, b, c, d, e in rows]
    machine = quick["machine"]
    note = words["machine"].format(
        processor=machine["processor"],
        gflops=machine["matrix_product_gflops"],
        torch=machine["torch"],
    )
    return "\n".join([*lines, "", note, ""])


def filled(page: str) -> str:
    """The text of a page with its table made anew."""
    text = (ROOT / page).read_text("utf-8")
    words = WORDS["zh" if "zh" in page else "en"]
    tables = {"results": results_table, "recipe": recipe_table}
    return MARK.sub(lambda m: f"{m[1]}\n{tables[m[2]](words)}\n{m[3]}", text)


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(filled(page), "utf-8")
