"""How many files one meta-gradient runs through: a change that scatters them is noticed."""

from __future__ import annotations

import pytest

pytest.importorskip("tools.crossed_files", reason="not a checkout")

from tools.crossed_files import crossed, networks

from innerloop.ops import kernels

MOST = {"Conv4": 12, "a network of torch.nn": 15}


@pytest.mark.parametrize("name", MOST)
def test_files_of_a_meta_gradient(name):
    if not kernels.ready():
        pytest.skip("without kernels it goes another way")
    files = crossed(networks()[name])
    assert len(files) <= MOST[name], "\n".join(files)
