"""The made film: every object is a disc where the click is."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from masklet.benchmark.sample_video import made_film, places


@pytest.mark.parametrize("objects", [1, 2, 5, 64])
def test_every_object_is_a_disc_where_the_click_is(objects: int) -> None:
    size = (240, 320)
    first, second = islice(made_film(size, objects), 2)
    assert (first == next(made_film(size, objects))).all()
    assert (first != second).any()
    middles = [(round(x), round(y)) for x, y in places(size, objects, 0)]
    assert len(set(middles)) == objects
    for x, y in middles:
        disc = first[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert len(np.unique(disc, axis=0)) == 1  # the ground is noise
