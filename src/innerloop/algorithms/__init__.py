"""Meta-learning algorithms; one file each."""

from innerloop import registry
from innerloop.algorithms.anil import ANIL, BOIL
from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.fine_tune import FineTune
from innerloop.algorithms.gradient_based import GradientBased
from innerloop.algorithms.imaml import IMAML
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.maml_pp import MAMLPlusPlus
from innerloop.algorithms.meta_sgd import MetaSGD
from innerloop.algorithms.options import AlgorithmOptions, GradientBasedOptions, MAMLOptions
from innerloop.algorithms.protonet import ProtoNet
from innerloop.algorithms.reptile import Reptile
from innerloop.algorithms.scores import Metric
from innerloop.algorithms.support import Support
from innerloop.rates import InnerRates

# Each must have its row in the table of tests/algorithms/contracts.py.
ALGORITHMS: dict[str, type[Algorithm]] = {
    name: globals()[cls] for name, cls in registry.OURS.items()
}
"""The algorithms of this package, by the names that config files and the command line use."""

__all__ = [
    "ALGORITHMS",
    "ANIL",
    "BOIL",
    "IMAML",
    "MAML",
    "Algorithm",
    "AlgorithmOptions",
    "FineTune",
    "GradientBased",
    "GradientBasedOptions",
    "InnerRates",
    "MAMLOptions",
    "MAMLPlusPlus",
    "MetaSGD",
    "Metric",
    "ProtoNet",
    "Reptile",
    "Support",
]
