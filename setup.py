"""The one thing that pyproject.toml cannot say: kernels that may fail to compile."""

import platform
from glob import glob

from setuptools import Extension, setup

CPU = "src/innerloop/ops/cpu"
# One build for each kind of processor; the package takes the best one at hand.
VARIANTS = {"avx512": ["-mavx512f", "-mavx2", "-mfma"], "generic": ["-mavx2", "-mfma"]}
ON_X86 = platform.machine().lower() in ("x86_64", "amd64")

setup(
    ext_modules=[
        Extension(
            f"innerloop.ops.cpu._{name}",
            [f"{CPU}/kernels.c"],
            depends=[name for end in ("h", "inc") for name in sorted(glob(f"{CPU}/*.{end}"))],
            # -fopenmp is not for the linker: PyTorch brings the OpenMP library that counts.
            extra_compile_args=["-O3", "-ffp-contract=fast", "-fopenmp", *flags],
            # Without names for debuggers, which would be two thirds of the wheel.
            extra_link_args=["-s"],
            optional=True,
        )
        for name, flags in VARIANTS.items()
        if ON_X86
    ]
)
