"""Settings as files have them: by part, in YAML; or without parts, as in version 0.1.0."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

# Short, whatever the value is: YAML's references can make a small file mean an endless one.
from reprlib import repr
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from innerloop.errors import UserError
from innerloop.outer_loop import OuterLoop
from innerloop.ranges import SizeRange, range_from
from innerloop.rates import InnerRates, rates_from

Settings = TypeVar("Settings", bound=OuterLoop)

# Of a file of settings; ours have 2,500.
MAX_CHARACTERS = 100_000
FLAT = (
    "{path} has its settings in one list, as in version 0.1.0. They are read as before; "
    "innerloop train --config {path} --print-config prints them by part, as they are written now"
)


def read_settings(path: str | Path) -> Any:
    """What a YAML file of settings holds.

    Raises:
        UserError: the file cannot be read, is too large or no YAML, or has a name twice.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise UserError(f"{path} is too large for a file of settings")
        settings = yaml.load(text, _Loader)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: no UTF-8, a date that there is not, a number of thousands of digits.
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not valid YAML: {error}") from error
    return settings


class _Loader(yaml.SafeLoader):
    """PyYAML would silently take the last of two settings with one name."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{repr(key.value)} stands there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def is_flat(settings: Mapping[str, Any], kind: type[OuterLoop]) -> bool:
    """True if these are settings without parts, as version 0.1.0 had them."""
    known = kind.part_of()

    def is_part(name: str, value: Any) -> bool:
        # A part and a setting can have one name, as `algorithm` has.
        if name in known:
            return name in kind.parts and isinstance(value, Mapping)
        return name in kind.parts or isinstance(value, Mapping)

    return bool(settings) and not any(is_part(name, value) for name, value in settings.items())


def settings_from(
    settings: Mapping[str, Any], kind: type[OuterLoop], source: str | None
) -> dict[str, Any]:
    """Settings by name, from settings by name or by part.

    Args:
        settings: as a file has them.
        kind: what has these settings.
        source: the file, for errors.

    Raises:
        UserError: an unknown name, or a value of the wrong type.
    """
    where = "the config" if source is None else source
    if not isinstance(settings, Mapping):
        raise UserError(f"{where} must hold `name: value` lines")
    found: dict[str, Any] = {}
    types = get_type_hints(kind)
    for part, name, value in _entries(settings, kind, where):
        with _said_of(source, part):
            found[name] = _coerce(name, value, types[name])
    return found


def complete(kind: type[Settings], values: dict[str, Any], source: str | None) -> Settings:
    """`kind` of these values; raises a `UserError` that names the file and the part."""
    for part, of_part in kind.parts.items():
        names = {field.name for field in dataclasses.fields(of_part)} & values.keys()
        with _said_of(source, part):
            of_part(**{name: values[name] for name in names}).check()
    with _said_of(source, None):
        return kind(**values)


def _entries(
    settings: Mapping[str, Any], kind: type[OuterLoop], where: str
) -> Iterator[tuple[str | None, str, Any]]:
    """Part (None in a file without parts), name and value of every setting."""
    part_of = kind.part_of()
    if is_flat(settings, kind):
        for name, value in settings.items():
            if name not in part_of:
                raise _unknown(name, None, part_of, where)
            yield None, name, value
        return
    for part, entries in settings.items():
        if part not in kind.parts:
            raise _no_part(part, kind, where)
        if not isinstance(entries, Mapping | None):
            raise UserError(
                f"{where}: {part} must hold `name: value` lines, its settings, not {repr(entries)}"
            )
        for name, value in (entries or {}).items():
            if part_of.get(name) != part:
                raise _unknown(name, part, part_of, where)
            yield part, name, value


def _no_part(name: Any, kind: type[OuterLoop], where: str) -> UserError:
    known = kind.part_of()
    if name in known:
        return UserError(f"{where}: {name} stands outside the parts: put it into {known[name]}")
    near = difflib.get_close_matches(str(name), kind.parts, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(kind.parts)}"
    return UserError(f"{where} has an unknown part {repr(name)}: {hint}")


def _unknown(name: Any, part: str | None, part_of: Mapping[str, str], where: str) -> UserError:
    """The hint for a setting that is unknown, or not in this part."""
    place = where if part is None else f"{where}, {part}"
    if name in part_of:
        return UserError(f"{place}: {name} is a setting of {part_of[name]}: put it there")
    near = difflib.get_close_matches(str(name), part_of, n=1)
    if near:
        hint = f": did you mean {near[0]}, in {part_of[near[0]]}?"
    else:
        known = [n for n, of in part_of.items() if part in (None, of)]
        hint = f"; known: {', '.join(known)}"
    return UserError(f"{place} has an unknown setting {repr(name)}{hint}")


@contextlib.contextmanager
def _said_of(source: str | None, part: str | None) -> Iterator[None]:
    """Add the file and the part to a `UserError`; without a file it is unchanged."""
    try:
        yield
    except UserError as error:
        if source is None:
            raise
        place = source if part is None else f"{source}, {part}"
        raise UserError(f"{place}: {error}") from None


def _coerce(name: str, value: Any, kind: Any) -> Any:
    """Convert `value` from YAML or JSON to `kind`."""
    if kind == InnerRates:
        return rates_from(value)
    if kind == SizeRange | None:
        return None if value is None else range_from(name, value)
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise UserError(f"{name} must be one of {', '.join(get_args(kind))}, not {repr(value)}")
    if get_origin(kind) is dict:
        kind = dict
    choices = get_args(kind)
    if choices:  # X | None, or a name of a list | another
        if value is None and type(None) in choices:
            return None
        kind = next(c for c in choices if c is not type(None) and get_origin(c) is not Literal)
    if kind is bool or isinstance(value, bool):
        good = kind is bool and isinstance(value, bool)
    elif kind is float:
        # YAML reads 1e-3 (without a point) as text.
        try:
            value, good = float(value), True
        except (TypeError, ValueError, OverflowError):
            good = False
    else:
        good = isinstance(value, kind)
    if not good:
        raise UserError(f"{name} must be of type {kind.__name__}, not {repr(value)}")
    return value
