"""Types as a user's checker sees them: a package of somebody else's, and what signatures name."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import innerloop
from innerloop import algorithms
from innerloop.algorithms import AlgorithmOptions, GradientBasedOptions, MAMLOptions
from innerloop.algorithms.hooks import Hooks
from innerloop.data import ImageClasses
from innerloop.outer_loop import OuterLoop
from tests.public import PUBLIC

PACKAGE = Path(innerloop.__path__[0])
THIRD_PARTY = Path(__file__).parent / "third_party"
# To a type checker these are `str`; the names that they list are for --help alone.
LISTS_OF_NAMES = {"AlgorithmName", "ModelName"}


# ---- A package of somebody else's


@pytest.fixture(scope="module")
def checked(tmp_path_factory) -> dict[str, list[tuple[int, str]]]:
    """What `mypy --strict` says of each file of a package: lines and codes of its errors."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("third_party")
    for file in THIRD_PARTY.glob("*.py"):
        (folder / file.name).write_text(file.read_text("utf-8"), "utf-8")
    # Ours as an installed package: found on the path, and typed because it says so (py.typed).
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    environment.pop("MYPYPATH", None)
    options = ["--strict", "--config-file=", "--cache-dir=cache", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--hide-error-context", "good.py", "wrong.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert not done.stderr, done.stderr
    found: dict[str, list[tuple[int, str]]] = {"good.py": [], "wrong.py": []}
    for line in done.stdout.splitlines():
        if error := re.match(r"(.+?):(\d+): error: .*\[([a-z-]+)\]$", line):
            found[error[1]].append((int(error[2]), error[3]))
        else:
            assert re.match(r".+?:\d+: note: ", line), line
    return found


@pytest.mark.long
def test_a_package_that_uses_everything_right_has_no_errors(checked):
    assert checked["good.py"] == []


@pytest.mark.long
def test_mistakes_are_reported_where_they_are(checked):
    lines = (THIRD_PARTY / "wrong.py").read_text("utf-8").splitlines()
    expected = {
        (number, code)
        for number, line in enumerate(lines, 1)
        if "# E: " in line
        for code in line.partition("# E: ")[2].split(", ")
    }
    assert len(expected) > 20
    assert set(checked["wrong.py"]) == expected


@pytest.mark.long
def test_what_type_checks_also_runs(tmp_path):
    """Wrong types would let a package pass that fails when it runs."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    environment["INNERLOOP_HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, THIRD_PARTY / "good.py", tmp_path / "run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("fine\n")


# ---- Keywords that are written down twice are the same


def _written(annotation: Any) -> str:
    """An annotation as it is written: named tuples and typed dicts wrap it."""
    text = getattr(annotation, "__forward_arg__", annotation)
    assert isinstance(text, str), f"{annotation} of a module without annotations from __future__"
    return text


def _annotations(kind: Any) -> dict[str, str]:
    """Those of a class and its bases, as they are written."""
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        for name, annotation in vars(cls).get("__annotations__", {}).items():
            found[name] = _written(annotation)
    return found


def _keywords(function: Any) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of every argument that has a default."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (p.annotation, p.default) for p in parameters if p.default is not p.empty}


def test_train_takes_the_settings_of_the_config():
    """A new setting of `TrainConfig` goes into `innerloop/settings.py`, too."""
    settings = _annotations(innerloop.TrainConfig)
    # An argument of its own; and what is no setting.
    del settings["data"], settings["parts"]
    assert _annotations(innerloop.TrainSettings) == settings


def test_from_pretrained_takes_the_keywords_of_the_classifier():
    """A new one goes into `innerloop/settings.py`, too."""
    keywords = _keywords(innerloop.FewShotClassifier)
    del keywords["model"]
    settings = _annotations(innerloop.ClassifierSettings)
    assert settings == {name: annotation for name, (annotation, _) in keywords.items()}


def test_fit_takes_the_settings_of_the_outer_loop():
    taken, settings = _keywords(innerloop.fit), _annotations(OuterLoop)
    for field in dataclasses.fields(OuterLoop):
        annotation, default = taken[field.name]
        # A function will do as well as its name, and so will a device.
        named = annotation.partition(" | Callable")[0].removesuffix(" | torch.device")
        assert named == settings[field.name], field.name
        assert default == field.default, field.name


@pytest.mark.parametrize(
    ("options", "base", "function"),
    [
        (AlgorithmOptions, None, Hooks.__init__),
        (GradientBasedOptions, AlgorithmOptions, algorithms.GradientBased.__init__),
        (MAMLOptions, GradientBasedOptions, innerloop.MAML.__init__),
    ],
)
def test_algorithms_hand_on_the_keywords_of_their_bases(options, base, function):
    handed_on = _annotations(options).items() - (_annotations(base).items() if base else set())
    parameters = inspect.signature(function).parameters.values()
    own = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert dict(handed_on) == own


@pytest.mark.parametrize(
    ("function", "same"),
    [
        (innerloop.FewShotClassifier.from_pretrained, innerloop.FewShotClassifier),
        (innerloop.BOIL.__init__, innerloop.MAML.__init__),
        (ImageClasses.from_square, ImageClasses),
    ],
)
def test_keywords_and_defaults_are_those_of_what_they_go_to(function, same):
    taken, of = _keywords(function), _keywords(same)
    # What a function works out itself.
    own = {"names", "splits"}
    assert {n: k for n, k in taken.items() if n not in own}.items() <= of.items()


# ---- Types in signatures are public


def _functions(found: Any) -> Iterator[tuple[str, Any]]:
    """A function, or the methods of a class and its bases that a user calls or overrides."""
    if inspect.isfunction(found):
        yield found.__name__, found
    for cls in getattr(found, "__mro__", ()):
        if not cls.__module__.startswith("innerloop"):
            continue
        for name, value in vars(cls).items():
            # What a dataclass makes says what its fields say.
            made = name in ("__init__", "__new__") and not dataclasses.is_dataclass(cls)
            value = value.fget if isinstance(value, property) else value
            value = inspect.unwrap(getattr(value, "__func__", value))
            ours = inspect.isfunction(value) and value.__module__.startswith("innerloop")
            if ours and (made or not name.startswith("_")):
                yield f"{cls.__name__}.{name}", value


def _signatures(found: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where an annotation stands, the annotation as written, and the names that it can use."""
    for name, function in _functions(found):
        names = function.__globals__ | vars(importlib.import_module(function.__module__))
        for argument, annotation in function.__annotations__.items():
            yield f"{name}({argument})", _written(annotation), names
    for cls in getattr(found, "__mro__", ()):
        if cls.__module__.startswith("innerloop"):
            names = vars(importlib.import_module(cls.__module__))
            for name, annotation in vars(cls).get("__annotations__", {}).items():
                if not name.startswith("_"):
                    yield f"{cls.__name__}.{name}", _written(annotation), names


def _is_ours(name: str, value: Any) -> bool:
    """Whether a name in an annotation is of a class or an alias of this package."""
    if inspect.isclass(value):
        return value.__module__.startswith("innerloop")
    if inspect.ismodule(value) or isinstance(value, typing.TypeVar) or value is None:
        return False
    # Names of `typing` itself are no aliases.
    return getattr(typing, name, None) is not value


@pytest.mark.parametrize("full", sorted(PUBLIC))
def test_every_type_in_a_public_signature_is_public(full):
    public = list(PUBLIC.values())
    for where, annotation, names in _signatures(PUBLIC[full]):
        for node in ast.walk(ast.parse(annotation, mode="eval")):
            if isinstance(node, ast.Name) and node.id not in LISTS_OF_NAMES:
                value = names.get(node.id)
                if _is_ours(node.id, value):
                    assert any(value is other for other in public), f"{node.id} in {full}, {where}"


@pytest.mark.parametrize("full", sorted(PUBLIC))
def test_keywords_of_public_functions_are_named(full):
    for where, function in _functions(PUBLIC[full]):
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                named = _written(parameter.annotation).startswith("Unpack[")
                assert named or typing.get_overloads(function), f"{where} in {full}"


def test_aliases_say_what_they_are():
    """Their docstrings are the strings that follow them, which the API page shows."""
    said = set()
    for file in PACKAGE.rglob("*.py"):
        body = ast.parse(file.read_text("utf-8")).body
        for first, second in itertools.pairwise(body):
            text = isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
            targets = [*getattr(first, "targets", []), getattr(first, "target", None)]
            if isinstance(first, ast.Assign | ast.AnnAssign) and text:
                said |= {target.id for target in targets if isinstance(target, ast.Name)}
    for full, found in PUBLIC.items():
        if not (inspect.isclass(found) or inspect.isroutine(found) or inspect.ismodule(found)):
            assert full.rpartition(".")[2] in said, full
