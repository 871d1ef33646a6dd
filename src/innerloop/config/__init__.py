"""The settings of a training run: config file schema and command line in one.

`parts.py` has every setting once, by part; `train_config.py` all of them together; `files.py` how
they stand in files.  None of them imports PyTorch or NumPy, so that `--help` is instant.
"""

from innerloop.config.files import read_settings
from innerloop.config.parts import PARTS, AlgorithmName, ModelName
from innerloop.config.train_config import TrainConfig, preset_names

__all__ = [
    "PARTS",
    "AlgorithmName",
    "ModelName",
    "TrainConfig",
    "preset_names",
    "read_settings",
]
