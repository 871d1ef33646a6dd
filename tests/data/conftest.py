"""Small stand-ins for Omniglot's archives and for folders of pictures."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.data import omniglot as omniglot_function
from innerloop.data import omniglot_facts

TINY = {
    "background": {"Aaa": 2, "Bbb": 1},
    "evaluation": {"Ccc": 2},
    "vinyals2016": {"val": ["Bbb"], "test_from": "Ccc/character02"},
}


def png(seed: int = 0, size: tuple[int, int] = (105, 105)) -> bytes:
    """A black-and-white drawing like Omniglot's."""
    pixels = np.random.default_rng(seed).random((size[1], size[0])) > 0.1
    file = io.BytesIO()
    Image.fromarray((pixels * 255).astype(np.uint8)).convert("1").save(file, format="PNG")
    return file.getvalue()


def tiny_drawings() -> dict[str, dict[str, bytes]]:
    """Half to file name to content, complete by the table TINY."""
    halves: dict[str, dict[str, bytes]] = {}
    for half in ("background", "evaluation"):
        files = halves[half] = {}
        for alphabet, characters in TINY[half].items():
            for character in range(1, characters + 1):
                for drawing in range(1, 21):
                    name = f"{alphabet}/character{character:02d}/{len(alphabet):04d}_{drawing:02d}"
                    files[f"images_{half}/{name}.png"] = png(
                        seed=1000 * character + 20 * ord(alphabet[0]) + drawing
                    )
    return halves


def write_zips(folder: Path, halves: dict[str, dict[str, bytes]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for half, files in halves.items():
        with zipfile.ZipFile(folder / f"images_{half}.zip", "w") as archive:
            # Backwards, because the order of the entries must not matter.
            for name in reversed(files):
                archive.writestr(name, files[name])
    return folder


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no source from outside."""
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / ".home"))
    monkeypatch.delenv("INNERLOOP_OMNIGLOT", raising=False)
    return tmp_path / ".home"


@pytest.fixture
def tiny(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bytes]]:
    """Omniglot shrunk to 3 alphabets, 5 characters and 100 drawings."""
    for module in (sys.modules[omniglot_function.__module__], omniglot_facts):
        monkeypatch.setattr(module, "facts", lambda: TINY)
    return tiny_drawings()
