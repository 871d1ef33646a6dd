"""The import paths of version 0.1.0 still work, and say what the new ones are."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import innerloop
from innerloop.renamed import MODULES, NAMES

# Made by `python -m tools.public_names`.
OLD = json.loads((Path(__file__).parent / "names_of_0.1.0.json").read_text("utf-8"))
NEEDS_TRITON = ("innerloop.kernels.tiles", "innerloop.kernels.norm_tiles")


# Parts of the four routes that algorithms/execution.py took the place of, and of operations whose
# parts were put together; nobody's to call.
GONE = {
    "innerloop.fused.block": {"conv_block"},
    "innerloop.fused.convolution": {"sharing_weights"},
    "innerloop.fused.layout": {"over_tasks"},
    "innerloop.algorithms.base": {"judged_each", "of_network"},
    "innerloop.algorithms.body": {
        *("channels_last", "features_of_sets", "gradient_through_features", "keeps_tasks_apart"),
        "plain_gradient",
    },
    "innerloop.data.pictures": {"border_brightness"},
    "innerloop.functional": {"for_tasks"},
    "innerloop.models.layers": {"FeaturesOf"},
}

# Names that changed where they are.
RENAMED = {
    "innerloop.models.layers": ["innerloop.models.layers.conv_block is called conv_norm now"],
}


def _forget(module: str) -> None:
    """Undo the import of a module, or of a name, that was used before."""
    sys.modules.pop(module, None)
    parent, _, name = module.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(name, None)


@pytest.mark.parametrize("module", OLD)
def test_every_public_name_is_where_it_was(module):
    if module in NEEDS_TRITON and importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton")
    expected = set(OLD[module]) - GONE.get(module, set())
    if module == "innerloop.algorithms.body":
        assert not expected
        return
    for old in MODULES:
        if f"{module}.".startswith(f"{old}."):
            _forget(old)
    for name in NAMES.get(module, {}):
        _forget(f"{module}.{name}")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = importlib.import_module(module)
        values = {name: getattr(found, name) for name in expected}
    assert all(callable(value) for value in values.values())
    texts = [str(warning.message) for warning in said]
    if module in MODULES:
        assert len([text for text in texts if text.startswith(f"{module} has moved")]) == 1
    for name in NAMES.get(module, {}).keys() & values.keys():
        new = f"{NAMES[module][name]}.{name}"
        assert f"{module}.{name} has moved: use {new} instead" in texts
    renamed = RENAMED.get(module, [])
    assert set(renamed) <= set(texts)
    if module not in MODULES and module not in NAMES:
        assert texts == renamed
    for warning in said:
        assert warning.category is DeprecationWarning
        assert warning.filename == __file__


@pytest.mark.parametrize("old", MODULES)
def test_what_the_warning_names_is_there(old):
    for new in MODULES[old]:
        assert importlib.util.find_spec(new), new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("innerloop.loading", "innerloop.runs.loading"),
        ("innerloop.fused.norm", "innerloop.ops.autograd.norm"),
        ("innerloop.data.sinusoid", "innerloop.tasks.sinusoid"),
    ],
)
@pytest.mark.filterwarnings("ignore:innerloop:DeprecationWarning")
def test_an_old_module_is_the_new_one(old, new):
    """The same object: nothing is loaded twice, and what a test patches is patched."""
    module = importlib.import_module(new)
    spec = module.__spec__
    _forget(old)
    assert importlib.import_module(old) is module
    assert module.__name__ == new
    assert module.__spec__ is spec


@pytest.mark.filterwarnings("ignore:innerloop:DeprecationWarning")
def test_a_folder_left_over_from_an_older_checkout_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "fused" / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(innerloop, "__path__", [*innerloop.__path__, str(tmp_path)])
    _forget("innerloop.fused")
    fused = importlib.import_module("innerloop.fused")
    assert fused.conv2d is importlib.import_module("innerloop.ops.autograd").conv2d


def test_each_use_is_named_once_at_the_line_of_the_user(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """\
from innerloop.trainer import train
from innerloop.trainer import resume
import innerloop
innerloop.sampler.EpisodeSampler
innerloop.sampler.TaskSampler
from innerloop import kernels
from innerloop.kernels import gpu
from innerloop.runs import find_runs, summary
from innerloop.runs import find_runs
from innerloop.data import sinusoid
assert kernels.gpu is gpu
assert innerloop.train is train and innerloop.resume is resume
from innerloop.kernels import *
assert conv_forward is kernels.conv_forward
""",
        "utf-8",
    )
    # As any user sees it: Python shows such warnings where a script itself is at fault.
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line.partition("script.py:")[2] for line in done.stderr.splitlines()]
    said = [line.partition(" has moved")[0] for line in said if line]
    assert said == [
        "1: DeprecationWarning: innerloop.trainer",
        "4: DeprecationWarning: innerloop.sampler",
        "6: DeprecationWarning: innerloop.kernels",
        "7: DeprecationWarning: innerloop.kernels.gpu",
        "8: DeprecationWarning: innerloop.runs.find_runs",
        "8: DeprecationWarning: innerloop.runs.summary",
        "10: DeprecationWarning: innerloop.data.sinusoid",
    ]


def test_nothing_of_the_package_itself_uses_an_old_path():
    code = """
import pkgutil, importlib, innerloop
for module in pkgutil.walk_packages(innerloop.__path__, "innerloop."):
    if not module.name.endswith(("__main__", "tiles")) and ".cpu._" not in module.name:
        importlib.import_module(module.name)
"""
    options = ["-W", "error:innerloop:DeprecationWarning"]
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_never_was_is_still_an_error():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("innerloop.nonsense")
    runs = importlib.import_module("innerloop.runs")
    with pytest.raises(AttributeError, match=r"module 'innerloop\.runs' has no attribute"):
        runs.nonsense  # noqa: B018
