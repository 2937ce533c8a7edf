"""The benchmark video: every object is a disc at its click."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from masklet.benchmark.sample_video import object_centers, sample_video


@pytest.mark.parametrize("objects", [1, 2, 5, 64])
def test_every_object_is_a_disc_at_its_click(objects: int) -> None:
    size = (240, 320)
    first, second = islice(sample_video(size, objects), 2)
    assert (first == next(sample_video(size, objects))).all()
    assert (first != second).any()
    middles = [(round(x), round(y)) for x, y in object_centers(size, objects, 0)]
    assert len(set(middles)) == objects
    for x, y in middles:
        disc = first[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert len(np.unique(disc, axis=0)) == 1  # the background is noise
