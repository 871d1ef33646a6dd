"""The kernels from other compilers, and for Arm under an emulator: the same tests as ours.

Those of test_reference.py and test_episodes.py run once more for each of BUILDS.  Where the
compilers or the emulator are not installed they are skipped, unless INNERLOOP_COMPILERS=required.
Debian: clang-19 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from innerloop.ops.cpu import binding, library
from innerloop.ops.cpu.episodes import EpisodeSource
from tests.once import made_once
from tests.ops.cpu.remote import KERNELS, SOURCE, Remote

# Collected here, too, where `compiled` and `build` are others.
from tests.ops.cpu.test_episodes import (  # noqa: F401
    test_episodes,
    test_episodes_of_pictures_that_are_not_square,
)
from tests.ops.cpu.test_reference import (  # noqa: F401
    case,
    dtype,
    reference,
    test_block,
    test_convolution,
    test_depthwise_convolution,
    test_group_norm,
    test_linear_layers,
    test_norm,
)

pytestmark = pytest.mark.long


@dataclass
class Build:
    """A compiler with its options, and what runs its programs."""

    compiler: tuple[str, ...]
    emulator: tuple[str, ...] = ()
    threads: bool = True

    def compile(self, folder: Path) -> None:
        """Make the program `kernels` in a folder."""
        options = ["-O3", "-ffp-contract=fast", "-Wall", "-Wextra", "-Wvla", "-Walloca", "-Werror"]
        objects = []
        for source, more in ((KERNELS, options), (SOURCE, ["-w"])):
            objects.append(folder / f"{source.stem}.o")
            command = [*self.compiler, *more, "-c", source, "-o", objects[-1]]
            subprocess.run(command, check=True)
        # With the emulator nothing of that system has to be installed but what the compiler brings.
        static = ["-static"] if self.emulator else []
        command = [*self.compiler, *static, *objects, "-lpthread", "-lm"]
        subprocess.run([*command, "-o", folder / "kernels"], check=True)


# Clang 14 crashes over AVX-512.
CLANG = "clang-19" if shutil.which("clang-19") else "clang"
ARM = ("qemu-aarch64",)
BUILDS = {
    "clang avx512": Build((CLANG, "-mavx512f", "-mavx2", "-mfma"), threads=False),
    "clang avx2": Build((CLANG, "-mavx2", "-mfma"), threads=False),
    "gcc neon": Build(("aarch64-linux-gnu-gcc", "-fopenmp"), ARM),
    "clang neon": Build((CLANG, "--target=aarch64-linux-gnu"), ARM, threads=False),
}


@pytest.fixture(scope="module", params=BUILDS)
def remote(request, tmp_path_factory):
    """The kernels in a process of that build."""
    build = BUILDS[request.param]
    for tool in (build.compiler[0], *build.emulator):
        if shutil.which(tool) is None:
            if os.environ.get("INNERLOOP_COMPILERS") == "required":
                pytest.fail(f"there is no {tool}")
            pytest.skip(f"there is no {tool}")
    if not build.emulator:
        if platform.machine() not in ("x86_64", "AMD64"):
            pytest.skip("for another processor")
        capability = torch.backends.cpu.get_cpu_capability()
        if capability == "DEFAULT" or ("-mavx512f" in build.compiler and capability != "AVX512"):
            pytest.skip(f"this processor has only {capability}")
    folder = made_once(tmp_path_factory, request.param, build.compile)
    running = Remote([*build.emulator, str(folder / "kernels")])
    running.threads = build.threads
    yield running
    running.close()


@pytest.fixture
def compiled(remote, monkeypatch):
    monkeypatch.setattr(binding, "_call", remote.run)
    return remote


@pytest.fixture
def build(remote, monkeypatch):
    monkeypatch.setattr(library, "load", lambda: remote)
    monkeypatch.setattr(
        EpisodeSource, "_run", lambda source, *given: remote.episodes(source, *given)
    )
    return remote


def test_threads_are_told(remote):
    """Clang has another OpenMP library than the one that PyTorch brings to Linux."""
    assert remote.call("have_threads", []) == remote.threads
