"""What the library calls arguments, as the options that a user of the command line typed."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys

# `name=`, perhaps with a value: a text, or a word or number; not in a call, a path or a pattern.
_GIVEN = re.compile(r"(?<![\w.(\[/\\*-])([a-z]\w*)=('[^']*'|[\w.]*[\w])?(?!=)")
# A name of several words alone, which no sentence has, and any that a message begins with.
_NAME = re.compile(r"(?<![\w./\\'\"(-])([a-z]+(?:_[a-z]+)+)(?![\w./\\=('\"-])")
_FIRST = re.compile(r"^([a-z]+)(?= (?:is|must|needs|takes) )")


def as_options(message: str, command: str) -> str:
    """A message of the library, in which the arguments that `command` has as options are these.

    Settings of `train` keep their names, which configurations have; `name=value` becomes an option
    there, too.
    """
    names = _options_of(command)

    def given(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name not in names:
            return match[0]
        name = names[name]
        if value in ("True", "False"):
            return _option(name, "" if value == "True" else "no-")
        return _option(name) + (f" {value.strip(chr(39))}" if value else "")

    def alone(match: re.Match[str]) -> str:
        return _option(names[match[1]]) if match[1] in names else match[0]

    message = _GIVEN.sub(given, message)
    return message if command == "train" else _FIRST.sub(alone, _NAME.sub(alone, message))


def _option(name: str, before: str = "") -> str:
    return f"--{before}{name.replace('_', '-')}"


def _options_of(command: str) -> dict[str, str]:
    """The option of each argument, as it is written in Python; none before its module is there."""
    module = sys.modules.get(f"innerloop.cli.{command}")
    if module is None:
        return {}
    if command == "train":
        kinds = [importlib.import_module("innerloop.config").TrainConfig]
    else:
        # `data` has several commands of its own.
        kinds = [kind for kind in vars(module).values() if _is_arguments(kind, module.__name__)]
    names = {field.name: field.name for kind in kinds for field in dataclasses.fields(kind)}
    return names | {setting: name for name, setting in getattr(module, "SETTINGS", {}).items()}


def _is_arguments(kind: object, module: str) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module
