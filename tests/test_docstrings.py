"""Docstrings: their examples run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import innerloop
from innerloop import registry
from tests.public import PUBLIC

PACKAGE = Path(innerloop.__path__[0])
# What has a docstring of its own; for aliases see `test_aliases_say_what_they_are`.
CALLED = {n: v for n, v in PUBLIC.items() if inspect.isclass(v) or inspect.isroutine(v)}


def _examples() -> Iterator[Any]:
    """Docstrings with an example, also of what is private."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in file.read_text("utf-8"):
            module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
            found = doctest.DocTestFinder().find(importlib.import_module(module))
            yield from (pytest.param(test, id=test.name) for test in found if test.examples)


EXAMPLES = list(_examples())


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_print_what_they_say(example, monkeypatch):
    for names in (registry.ALGORITHMS, registry.MODELS, registry.DATA):
        monkeypatch.setattr(names, "_found", names._found.copy())
        monkeypatch.setattr(names, "recipes", names.recipes.copy())
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)


def test_every_example_is_found():
    """A `>>>` in a string that is no docstring would never run."""
    text = "".join(file.read_text("utf-8") for file in PACKAGE.rglob("*.py"))
    written = len(re.findall(r"^\s*>>> ", text, re.MULTILINE))
    assert sum(len(each.values[0].examples) for each in EXAMPLES) == written > 30


def _members(found: Any) -> Iterator[tuple[str, Any]]:
    """A function; or a class and its public methods and properties, inherited ones as well."""
    yield found.__name__, found
    for name in dir(found) if inspect.isclass(found) else ():
        value = inspect.getattr_static(found, name)
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        ours = (getattr(function, "__module__", None) or "").startswith("innerloop")
        if ours and not name.startswith("_") and not inspect.isclass(function):
            yield f"{found.__name__}.{name}", getattr(found, name)


@pytest.mark.parametrize("full", CALLED)
def test_what_is_public_is_documented(full):
    """What overrides may inherit its docstring; a class may not."""
    found = CALLED[full]
    # A dataclass without a docstring gets its signature for one.
    assert found.__doc__, full
    assert not found.__doc__.startswith(f"{found.__name__}("), full
    assert [name for name, member in _members(found) if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("full", CALLED)
def test_a_list_of_arguments_is_whole(full):
    """Where a docstring has one; `n_way, k_shot:` and what the class says of both count."""
    for name, member in _members(CALLED[full]):
        text = member.__doc__ or ""
        if "Args:\n" not in text:
            continue
        parameters = inspect.signature(member).parameters.values()
        kinds = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
        names = {p.name for p in parameters if p.kind not in kinds} - {"self"}
        assert {n for n in names if not re.search(rf"\b{n}\b", text)} == set(), name
