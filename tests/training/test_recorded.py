"""When a meta-gradient may be recorded; the recordings themselves are in test_gpu.py."""

import pytest
import torch

from innerloop import ANIL, IMAML, MAML, MAMLPlusPlus, MetaSGD, ProtoNet, Reptile
from innerloop.algorithms import Algorithm
from innerloop.models import Conv4
from innerloop.training.recorded import RecordedMetaGradient
from tests.helpers import random_episodes


def network():
    return Conv4(3, width=16, image_size=16, head="random")


def phases(algorithm):
    return [algorithm.phase(share) for share in (0.0, 0.05, 0.3, 0.7, 1.0)]


@pytest.mark.parametrize("make", [MAML, ANIL, MetaSGD, Reptile, IMAML, ProtoNet])
def test_what_never_changes_has_one_phase(make):
    assert len(set(phases(make(network())))) == 1


def test_annealing_has_two():
    assert (
        phases(MAML(network(), second_order_from=0.5))
        == [(True, 0.0, 1.0)] * 3 + [(False, 0.0, 1.0)] * 2
    )


def test_weights_of_the_losses_that_change_in_every_step():
    found = phases(MAMLPlusPlus(network(), multi_step_loss_until=0.2))
    assert len(set(found)) == 3
    assert found[2] == found[3] == found[4]


def test_an_algorithm_of_others_is_never_recorded_unless_it_says_more():
    class Own(MAML):
        phase = Algorithm.phase

    assert len(set(phases(Own(network())))) == 5


def test_on_a_cpu_it_is_the_algorithm_itself():
    maml, warnings = MAML(network().double()), []
    recorded, params, episodes = (
        RecordedMetaGradient(maml, warnings.append),
        maml.init_params(),
        random_episodes(),
    )
    expected, _ = maml.meta_gradient(params, episodes)
    for _ in range(3):
        grads, metrics = recorded(params, episodes, 1.0)
        assert all(torch.equal(grads[n], g) for n, g in expected.items())
        assert set(metrics) == {"loss", "accuracy"}
    assert not warnings
