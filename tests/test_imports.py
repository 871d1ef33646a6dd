"""No file imports one that imports it, at once or by way of others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import innerloop

SOURCE = Path(innerloop.__file__).parent


def _imports() -> dict[str, set[str]]:
    """The modules that each one imports, wherever in the file; packages collect names."""
    names = {
        ".".join(("innerloop", *file.relative_to(SOURCE).with_suffix("").parts)): file
        for file in SOURCE.rglob("*.py")
        if file.name != "__init__.py"
    }
    found: dict[str, set[str]] = {name: set() for name in names}
    for name, file in names.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found[name] |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return {name: imported & names.keys() for name, imported in found.items()}


def test_no_two_files_import_each_other():
    imports = _imports()
    assert len(imports) > 150
    pairs = [(a, b) for a, others in imports.items() for b in others if a in imports[b]]
    assert not pairs


def test_imports_have_an_order():
    left = _imports()
    while first := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in first:
            del left[name]
    assert not left


def test_importing_does_not_load_the_compiler_of_pytorch():
    """It takes seconds, in every process; PyTorch loads it when the first optimiser is made."""
    code = (
        "import sys, innerloop.classifier, innerloop.training.run; "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
