"""Meta-learning algorithms; one file each."""

from innerloop.algorithms.anil import ANIL, BOIL
from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.fine_tune import FineTune
from innerloop.algorithms.imaml import IMAML
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.maml_pp import MAMLPlusPlus
from innerloop.algorithms.meta_sgd import MetaSGD
from innerloop.algorithms.protonet import ProtoNet
from innerloop.algorithms.reptile import Reptile

# By the names that config files and the command line use.  Each must have its row in the
# table of tests/algorithms/contracts.py.
ALGORITHMS: dict[str, type[Algorithm]] = {
    "maml": MAML,
    "anil": ANIL,
    "boil": BOIL,
    "reptile": Reptile,
    "meta-sgd": MetaSGD,
    "maml++": MAMLPlusPlus,
    "imaml": IMAML,
    "protonet": ProtoNet,
    "fine-tune": FineTune,
}

__all__ = [
    "ALGORITHMS",
    "ANIL",
    "BOIL",
    "IMAML",
    "MAML",
    "Algorithm",
    "FineTune",
    "MAMLPlusPlus",
    "MetaSGD",
    "ProtoNet",
    "Reptile",
]
