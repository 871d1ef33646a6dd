"""Compiled episodes, to the last bit those of NumPy."""

import numpy as np
import pytest
import torch

from innerloop import EpisodeSampler
from innerloop.data.base import ImageClasses
from innerloop.ops import kernels


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 7), (1, 16, 16), (2, 1, 1)])
@pytest.mark.parametrize("inputs", ["ink", "unit", "raw"])
def test_episodes(build, shape, inputs, threads):
    """The drawn indices, every byte and every rotation equal NumPy's to the last bit."""
    random = np.random.default_rng(0)
    counts = random.integers(9, 14, 12)
    images = random.integers(0, 256, (counts.sum(), *shape), dtype=np.uint8)
    images.flat[:256] = np.arange(256)[: images.size]
    data = ImageClasses(
        images,
        np.cumsum(counts) - counts,
        counts,
        [f"class {i}" for i in range(12)],
        groups=[("a", "b", "c")[i % 3] for i in range(12)],
    )
    old = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rotate in (False, True):
            for within_group in (False, True):
                for labels in ("task", "class"):
                    s = EpisodeSampler(
                        data,
                        [11, 3, 8, 0, 6, 1, 7, 2, 9],
                        n_way=3,
                        k_shot=2,
                        k_query=7,
                        seed=-5,
                        rotate=rotate,
                        within_group=within_group,
                        labels=labels,
                        inputs=inputs,
                    )
                    for start, count in ((0, 5), (3, 1), (10**6, 4)):
                        found = s.batch(start, count)
                        with kernels.without():
                            expected = s.batch(start, count)
                        for one, other in zip(found, expected, strict=True):
                            assert one.dtype == other.dtype
                            assert torch.equal(one, other)
                        (source,) = s._sources.values()
                        plan = source.compiled.plan(start, count)
                        for one, other in zip(plan, source.plan.batch(start, count), strict=True):
                            assert np.array_equal(one, other)
    finally:
        torch.set_num_threads(old)


def test_episodes_of_pictures_that_are_not_square(build):
    data = ImageClasses.from_square(np.arange(4 * 3 * 45, dtype=np.uint8).reshape(4, 3, 1, 5, 9))
    s = EpisodeSampler(data, n_way=2, k_query=1, inputs="unit")
    with kernels.without():
        expected = s.batch(0, 6)
    assert all(torch.equal(a, b) for a, b in zip(s.batch(0, 6), expected, strict=True))
