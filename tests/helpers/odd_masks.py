"""Masks that encodings get wrong: holes, single pixels, the borders of the image, chessboards, noise."""

from __future__ import annotations

import numpy as np

SIZE = (37, 53)


def odd_masks() -> dict[str, np.ndarray]:
    """Masks of (37, 53) by name, none of them empty."""
    random = np.random.default_rng(3)
    masks = {name: np.zeros(SIZE, bool) for name in ("hole", "pixel", "corner", "bottom", "right", "diagonal", "parts")}
    masks["hole"][5:30, 4:50] = True
    masks["hole"][10:20, 10:40] = False
    masks["hole"][12:15, 20:30] = True  # an island in it
    masks["pixel"][17, 23] = True
    masks["corner"][0, 0] = masks["corner"][-1, -1] = True
    masks["bottom"][-1] = True
    masks["right"][:, -1] = True
    masks["diagonal"][np.arange(30), np.arange(30)] = True
    masks["parts"][2:6, 3:9] = masks["parts"][20:25, 40:52] = True
    masks["full"] = np.ones(SIZE, bool)
    masks["chessboard"] = np.indices(SIZE).sum(axis=0) % 2 == 0
    masks["noise"] = random.random(SIZE) < 0.5
    masks["sparse"] = random.random(SIZE) < 0.02
    return masks
