"""Pictures of a few pixels, which are left as they are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from innerloop import FewShotClassifier


@pytest.mark.parametrize("side", [8, 10, 12])
def test_pictures_of_a_dozen_pixels_are_left_as_they_are(side, episode):
    """Cutting out what is left of their strokes cost up to 14 points."""
    support, labels, query, truth = episode
    small, asked = (
        np.stack([Image.fromarray(x).resize((side, side), Image.Resampling.BOX) for x in images])
        for images in (support, query)
    )
    classifier = FewShotClassifier().fit(small, labels)
    assert classifier.prepare_ == "none"
    cut = FewShotClassifier(prepare="ink").fit(small, labels)
    assert classifier.score(asked, truth) >= cut.score(asked, truth)
