"""Lists the public functions and classes of every module, from the source.

    python -m tools.public_names OLD/src/innerloop > tests/names_of_0.1.0.json

A later version must still have each of them under its old path (`tests/test_renamed.py`).
"""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path


def public_names(package: Path) -> dict[str, list[str]]:
    """Names by module; nothing is imported, as some modules need a GPU's compiler."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        module = ".".join(file.relative_to(package.parent).with_suffix("").parts)
        tree = ast.parse(file.read_text("utf-8"))
        found[module.removesuffix(".__init__")] = [
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
    return {module: names for module, names in found.items() if names}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="the folder of a package")
    print(json.dumps(public_names(parser.parse_args().package), indent=1))


if __name__ == "__main__":
    main()
