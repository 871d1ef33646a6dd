"""Images on a device: here the processor's own memory stands for a GPU's."""

import gc

import pytest
import torch

import innerloop
from innerloop.data import on_device
from innerloop.data.on_device import DeviceImages

CPU = torch.device("cpu")


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("inputs", ["ink", "unit", "raw"])
@pytest.mark.parametrize("size", [28, 7])
def test_episodes_are_the_same_to_the_last_bit(monkeypatch, rotate, inputs, size):
    data = innerloop.data.random_images(classes=20)
    cut = innerloop.data.ImageClasses(
        data.images[:, :, :size, :size].copy(), data.starts, data.counts, data.names, dark_ink=True
    )
    sampler = innerloop.EpisodeSampler(cut, n_way=5, k_query=2, rotate=rotate, inputs=inputs)
    expected = sampler.batch(3, 4)
    images = DeviceImages(cut, CPU, sampler._fetch.zero, sampler._fetch.unit)
    monkeypatch.setattr(sampler._fetch, "_on_device", images)
    # Avoid the compiled path that makes episodes on a CPU.
    monkeypatch.setattr(sampler, "device", torch.device("meta"))
    monkeypatch.setattr(sampler._fetch, "send", lambda tensor: tensor)
    found = sampler.batch(3, 4)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_images_that_are_not_square_and_in_colour():
    data = innerloop.data.random_images(classes=3)
    wide = innerloop.data.ImageClasses(
        data.images.reshape(-1, 2, 14, 28), data.starts, data.counts, data.names
    )
    fetched = DeviceImages(wide, CPU, 0.0, 255.0).fetch(torch.tensor([4, 0, 4]), None)
    expected = torch.from_numpy(wide.images[[4, 0, 4]]).float() / 255
    assert torch.equal(fetched, expected)


def test_one_copy_for_all_samplers_and_only_while_they_live():
    data = innerloop.data.random_images(classes=3)
    one, other = (DeviceImages(data, CPU, 0.0, 1.0) for _ in range(2))
    assert one._images is other._images
    before = len(on_device._copies)
    del one, other
    gc.collect()
    assert len(on_device._copies) == before - 1


def test_elsewhere_than_on_a_gpu_there_is_no_need():
    assert not DeviceImages.fit(innerloop.data.random_images(classes=3), CPU)
