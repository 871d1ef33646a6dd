"""Derivatives of blocks: finite differences."""

import pytest

from innerloop import ops
from tests.ops.autograd.derivatives import checked, rand


@pytest.mark.parametrize("tasks", [(), (2,)])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(("inputs", "slope"), [(1, 0.0), (16, 0.0), (1, 0.2), (16, 0.2)])
def test_derivatives_of_a_block(tasks, pool, inputs, slope):
    x, w = rand(*tasks, 3, inputs, 5, 4), rand(*tasks, 16, inputs, 3, 3)
    gamma, beta = rand(*tasks, 16), rand(*tasks, 16, seed=1)

    def function(x, *rest):
        how = {"stride": 1, "padding": 1, "pool": pool, "slope": slope}
        return ops.conv_block(x, *rest, 1e-5, **how)

    checked(function, x, w, gamma, beta)
    checked(lambda *rest: function(x.detach(), *rest), w, gamma, beta)
