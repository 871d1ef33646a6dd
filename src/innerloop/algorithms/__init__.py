"""Meta-learning algorithms; one file each."""

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.maml import MAML

__all__ = ["MAML", "Algorithm"]
