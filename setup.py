"""The one thing that pyproject.toml cannot say: kernels that may fail to compile.

`INNERLOOP_BUILD_KERNELS=0` leaves them out, for a wheel that runs everywhere; with `1` a build
without them fails, for a wheel that has to have them.
"""

import os
import platform
import subprocess
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CPU = "src/innerloop/ops/cpu"
# One build for each kind of processor; the package takes the best one at hand.
X86 = {"avx512": ["-mavx512f", "-mavx2", "-mfma"], "generic": ["-mavx2", "-mfma"]}
ARM = {"neon": []}
VARIANTS = {"x86_64": X86, "amd64": X86, "aarch64": ARM, "arm64": ARM}
WANTED = os.environ.get("INNERLOOP_BUILD_KERNELS", "")
# The sources speak the dialect of GCC and Clang, and use POSIX threads.
POSSIBLE = sys.platform != "win32" and WANTED != "0"
# The libraries know nothing of Python, so that one serves every version of it.
ANY_PYTHON = not sysconfig.get_config_var("Py_GIL_DISABLED")


class BuildKernels(build_ext):
    """With OpenMP where that of the compiler is the one that PyTorch brings.

    It is GNU's on Linux and LLVM's on a Mac.  The linker hears nothing of it: the kernels take the
    library that PyTorch has loaded.
    """

    def build_extensions(self) -> None:
        """Compile, once the compiler is known."""
        if sys.platform == "darwin":
            openmp = ["-Xclang", "-fopenmp"]
        else:
            openmp = [] if self._is_clang() else ["-fopenmp"]
        for extension in self.extensions:
            extension.extra_compile_args += openmp
        super().build_extensions()

    def _is_clang(self) -> bool:
        command = [self.compiler.compiler[0], "--version"]
        try:
            told = subprocess.run(command, capture_output=True, text=True).stdout
        except OSError:  # there is none; what follows says so
            return False
        return "clang" in told


setup(
    ext_modules=[
        Extension(
            f"innerloop.ops.cpu._{name}",
            [f"{CPU}/kernels.c"],
            depends=[name for end in ("h", "inc") for name in sorted(glob(f"{CPU}/*.{end}"))],
            extra_compile_args=["-O3", "-ffp-contract=fast", *flags],
            # Without names for debuggers, which would be two thirds of the wheel.
            extra_link_args=["-s"] if sys.platform == "linux" else [],
            optional=WANTED != "1",
            py_limited_api=ANY_PYTHON,
        )
        for name, flags in VARIANTS.get(platform.machine().lower(), {}).items()
        if POSSIBLE
    ],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if POSSIBLE and ANY_PYTHON else {},
)
