"""The public names."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import innerloop


def test_every_public_name_is_there_whatever_was_imported_before():
    """A submodule with the name of a function would hide it as soon as it is imported."""
    for module in pkgutil.walk_packages(innerloop.__path__, "innerloop."):
        # Compiled kernels are libraries, not modules of Python; tiles need Triton.
        left_out = ("__main__", "tiles")
        if not module.name.endswith(left_out) and ".cpu._" not in module.name:
            importlib.import_module(module.name)
    for name in ("adapt_steps", "evaluate", "load", "resume", "train", "MAML", "Episodes"):
        assert callable(getattr(innerloop, name)), name
        assert getattr(innerloop, name).__doc__
    for name in ("omniglot", "glyphs", "folder", "load", "split_classes", "contact_sheet"):
        assert callable(getattr(innerloop.data, name)), name
    assert set(innerloop.__all__) <= set(dir(innerloop))
    for name in innerloop.__all__:
        assert getattr(innerloop, name) is not None


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'maml'"):
        innerloop.maml  # noqa: B018


def test_import_is_lazy():
    code = "import sys, innerloop; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["evaluate", "--help"],
        ["data", "--help"],
        # The arguments decide which recipe the help shows.
        ["train", "--preset", "finn2017-5way-1shot", "--help"],
        ["train", "--algorithm", "protonet", "--data", "sinusoid", "--help"],
    ],
    ids=" ".join,
)
def test_help_does_not_wait_for_pytorch(arguments):
    code = f"""
import atexit, sys
sys.argv[1:] = {arguments!r}

@atexit.register
def tell():
    print("torch" in sys.modules, "matplotlib" in sys.modules, file=sys.stderr)

from innerloop.cli import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout
    assert done.stderr.splitlines() == ["False False"]


def test_the_page_of_licences_knows_every_dependency():
    from tools import licences

    page = (Path(__file__).parent.parent / "docs" / "en" / "licences.md").read_text("utf-8")
    named = {line.split(" | ")[0].strip("| ") for line in page.splitlines()}
    own = set(licences.requirements("innerloop"))
    assert own <= named, "run make licences"
    found = licences.found()
    assert found["pillow"][0] >= {"innerloop", "matplotlib"}
    assert all(found[name][1] != "not stated" for name in own)
