"""Messages name a way out only where there is one."""

from __future__ import annotations

import pytest

import innerloop
from innerloop.errors import UserError


@pytest.mark.parametrize(
    ("classes", "message"),
    [(4, "has 4: lower n_way to 4 or less, or use another split"), (1, "has 1: use another split")],
)
def test_too_few_classes(classes, message):
    data = innerloop.data.random_images(classes=10)
    with pytest.raises(UserError, match=message):
        innerloop.EpisodeSampler(data, range(classes), n_way=5 if classes > 1 else 2)
