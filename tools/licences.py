"""The licences of all that an installation brings, as pages: `python -m tools.licences`.

Read from the metadata of what is installed, for innerloop's own requirements and for theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADS = {
    "en": """\
# Licences of the dependencies

[中文](../zh/licences.md)

What `pip install innerloop` brings, with the licence that each package states of itself.
Made by `make licences`. PyTorch's CUDA builds bring NVIDIA's libraries as well, under NVIDIA's
terms; the CPU builds do not.

| package | brought by | licence |
|---|---|---|
""",
    "zh": """\
# 依赖的许可证

[English](../en/licences.md)

`pip install innerloop` 会安装的包，以及每个包自己声明的许可证。
本页由 `make licences` 生成。PyTorch 的 CUDA 版本还带有 NVIDIA 的库，遵循 NVIDIA 的条款；
CPU 版本没有。

| 包 | 由谁引入 | 许可证 |
|---|---|---|
""",
}
DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    """Write the page in both languages."""
    rows = [
        f"| {name} | {', '.join(sorted(by))} | {licence} |"
        for name, (by, licence) in sorted(found().items())
    ]
    for language, head in HEADS.items():
        (DOCS / language / "licences.md").write_text(head + "\n".join(rows) + "\n", "utf-8")


def found() -> dict[str, tuple[set[str], str]]:
    """Package to the packages that require it, and its licence."""
    packages: dict[str, tuple[set[str], str]] = {}
    left = [("innerloop", name) for name in requirements("innerloop")]
    while left:
        by, name = left.pop()
        if name not in packages:
            try:
                packages[name] = (set(), licence(name))
                left += [(name, each) for each in requirements(name)]
            except PackageNotFoundError:
                continue  # for another system
        packages[name][0].add(by)
    return packages


def requirements(name: str) -> Iterator[str]:
    """Names of what a package requires here, extras left out."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def licence(name: str) -> str:
    """What the package says: as an expression, in words, or by its classifiers."""
    metadata = distribution(name).metadata
    classifiers = [
        each.split(" :: ")[-1]
        for each in metadata.get_all("Classifier") or ()
        if each.startswith("License ::")
    ]
    words = str(metadata.get("License") or "").strip()
    # Some put the whole text there.
    words = words if words and "\n" not in words and len(words) < 100 else ""
    return metadata.get("License-Expression") or " / ".join(classifiers) or words or "not stated"


if __name__ == "__main__":
    main()
