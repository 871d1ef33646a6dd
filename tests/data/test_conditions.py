"""`Conditions`: what it does to tasks of drawings, and that it can be asked for by name."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop import EpisodeSampler, TrainConfig, UserError
from innerloop.data import conditions, glyphs, random_images
from innerloop.data.augment import Conditions, named
from innerloop.data.conditions import _grown, _Style


@pytest.fixture(scope="module")
def drawings() -> torch.Tensor:
    """`[30, 1, 28, 28]`, 1 for ink."""
    images = glyphs(300).images[:600:20]
    return 1 - torch.from_numpy(images.copy()).float() / 255


def changed(drawings, seed=0, **settings):
    return Conditions(**settings)(drawings, torch.Generator().manual_seed(seed))


def test_a_share_of_the_tasks_is_changed(drawings):
    found = [torch.equal(changed(drawings, i, share=0.3), drawings) for i in range(100)]
    assert 0.55 < np.mean(found) < 0.85
    assert torch.equal(changed(drawings, share=0.0), drawings)
    assert all(not torch.equal(changed(drawings, i, share=1.0), drawings) for i in range(10))


def test_images_stay_images_and_nothing_is_written_to(drawings):
    before = drawings.clone()
    for seed in range(20):
        found = changed(drawings, seed, share=1.0)
        assert found.shape == drawings.shape
        assert found.dtype == drawings.dtype
        assert found.isfinite().all()
        assert found.min() >= 0
        assert found.max() <= 1
        # Nearly every drawing is still visible.
        contrast = found.amax(dim=(1, 2, 3)) - found.amin(dim=(1, 2, 3))
        assert (contrast > 0.1).float().mean() > 0.8
    assert torch.equal(drawings, before)


def test_a_shared_style_gives_all_images_one_paper(drawings):
    def spread(together):
        papers = [
            changed(drawings, i, share=1.0, together=together).flatten(1).median(dim=1).values
            for i in range(30)
        ]
        return float(torch.stack(papers).std(dim=1).mean())

    assert spread(1.0) < 0.5 * spread(0.0)


@pytest.mark.parametrize("size", [(8, 8), (28, 40), (33, 31)])
def test_any_size_and_empty_images(size):
    x = torch.zeros(6, 1, *size)
    x[:3, :, 2:6, 3:5] = 1
    for seed in range(15):
        assert changed(x, seed, share=1.0).shape == x.shape


def test_a_style_without_changes_leaves_a_drawing_nearly_as_it_is(drawings):
    style = _Style(torch.full((len(drawings), _Style.numbers), 0.999))
    style.turn, style.warp = 0 * style.turn, 0 * style.warp
    x = conditions._placed(
        drawings, style, torch.full((len(drawings), 7), 0.5), torch.rand(len(drawings), 2, 4, 4)
    )
    x = torch.nn.functional.avg_pool2d(x, 2)
    assert float((x - drawings).abs().mean()) < 0.03


def test_strokes_grow_as_by_max_pooling():
    x = torch.rand(3, 1, 9, 7)
    assert torch.equal(_grown(x), torch.nn.functional.max_pool2d(x, 3, 1, 1))
    thick = conditions._stroked(x, torch.full((3, 1, 1, 1), 1.5))
    thin = conditions._stroked(x, torch.full((3, 1, 1, 1), -1.0))
    assert (thick >= x).all()
    assert (thin <= x).all()


def test_jpeg_is_that_of_pillow():
    y, x = np.mgrid[0:16, 0:24]
    picture = (127 + 90 * np.sin(x / 3) * np.cos(y / 2)).astype(np.uint8)
    file = BytesIO()
    # At quality 50 the tables are the standard's own.
    Image.fromarray(picture).save(file, "JPEG", quality=50)
    theirs = np.asarray(Image.open(file)).astype(float)
    mine = conditions._compressed(
        torch.from_numpy(picture)[None, None].float() / 255, torch.ones(1, 1, 1, 1)
    )
    assert np.abs(255 * mine[0, 0].numpy() - theirs).max() < 3
    assert np.abs(picture - theirs).max() > 3


def test_few_pixels_lose_what_is_fine():
    stripes = (torch.arange(28) % 2).float().expand(2, 1, 28, 28)
    coarse = conditions._coarse(stripes, torch.tensor([0.0, -1.0]))
    assert coarse[0].std() < 0.1
    assert torch.equal(coarse[1], stripes[1])


def test_it_is_named_and_goes_alone():
    assert named("conditions", (1, 28, 28)) == Conditions()
    assert named("conditions=0.7", (1, 28, 28)) == Conditions(0.7)
    assert TrainConfig(augment="conditions=0.25").augment == "conditions=0.25"
    for text, shape, message in (
        ("conditions,crop", (1, 28, 28), "goes alone"),
        ("conditions=2", (1, 28, 28), "share must be between 0 and 1"),
        ("conditions", (3, 28, 28), "not for colour"),
    ):
        with pytest.raises(UserError, match=message):
            named(text, shape)
    with pytest.raises(UserError, match="set inputs to ink"):
        TrainConfig(augment="conditions", inputs="raw")
    with pytest.raises(UserError, match="together must be a number"):
        Conditions(together=math.nan)
    with pytest.raises(UserError, match="grey drawings"):
        changed(torch.zeros(2, 3, 8, 8), share=1.0)


def test_episodes_depend_on_seed_split_and_number_alone():
    def sampler(seed=0):
        return EpisodeSampler(glyphs(300), k_query=2, augment=Conditions(1.0), seed=seed)

    whole = sampler().batch(3, 4)
    pieces = [sampler().batch(3, 1), sampler().batch(4, 3)]
    for a, *parts in zip(whole, *pieces, strict=True):
        assert torch.equal(a, torch.cat(parts))
    assert not torch.equal(sampler(1).batch(3, 4).query_x, whole.query_x)


def test_results_say_what_was_done():
    sampler = EpisodeSampler(random_images(20, 8), k_query=2, augment=Conditions(0.7))
    assert sampler.protocol()["augment"] == "Conditions(share=0.7, together=0.5)"
