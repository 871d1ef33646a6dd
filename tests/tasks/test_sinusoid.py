"""Sine waves: that they are what the paper says, and functions of (seed, split, i)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from innerloop import SinusoidSampler, UserError


def test_waves_are_those_of_the_paper():
    sampler = SinusoidSampler(k_shot=5, k_query=30)
    amplitude, phase = sampler.waves(0, 2000)
    for value, low, high in ((amplitude, 0.1, 5.0), (phase, 0.0, math.pi)):
        assert low <= value.min() < low + 0.02 * (high - low)
        assert high >= value.max() > high - 0.02 * (high - low)
        assert value.mean() == pytest.approx((low + high) / 2, rel=0.05)
    episodes = sampler.batch(0, 2000)
    assert episodes.support_x.shape == episodes.support_y.shape == (2000, 5, 1)
    assert episodes.query_x.shape == episodes.query_y.shape == (2000, 30, 1)
    assert episodes.query_y.dtype == torch.float32
    x = episodes.query_x[..., 0].numpy()
    assert -5 <= x.min() < -4.99 < 4.99 < x.max() <= 5
    np.testing.assert_allclose(
        episodes.query_y[..., 0].numpy(), amplitude * np.sin(x - phase), atol=1e-5
    )


def test_episodes_do_not_depend_on_how_they_are_drawn():
    sampler = SinusoidSampler(seed=3, split="val")
    whole = sampler.batch(0, 10)
    for a, b in zip(sampler.batch(4, 2), whole, strict=True):
        assert torch.equal(a, b[4:6])
    for other in (SinusoidSampler(seed=4, split="val"), SinusoidSampler(seed=3)):
        assert not torch.equal(other.batch(0, 10).support_x, whole.support_x)
    # Support points do not depend on how many queries there are.
    more = SinusoidSampler(k_query=50, seed=3, split="val").batch(0, 10)
    assert torch.equal(more.support_y, whole.support_y)


@pytest.mark.parametrize(
    "wrong", [{"k_shot": 0}, {"k_query": 0}, {"amplitude": (1.0, 1.0)}, {"span": (2.0, -2.0)}]
)
def test_values_out_of_range(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SinusoidSampler(**wrong)
