"""Results of the frames of a small synthetic video, which the tests of the sinks write."""

from __future__ import annotations

import numpy as np

from masklet.results import Masks, Results

HEIGHT, WIDTH = 24, 37


def box_mask(box: tuple[int, int, int, int], size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    x1, y1, x2, y2 = box
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def frame(frame_idx: int | None, objects: dict[int, np.ndarray] | None = None, **options: object) -> Results:
    """Frame `frame_idx` with the masks of `objects` by id; by default two boxes, of which one moves."""
    if objects is None:
        left = (frame_idx or 0) % 20
        objects = {3: box_mask((left, 2, left + 9, 12)), 7: box_mask((30, 10, 36, 20))}
    size = next(iter(objects.values())).shape if objects else options.pop("size", (HEIGHT, WIDTH))
    image = np.full((*size, 3), (40, 90, 160), np.uint8)
    count = len(objects)
    rows: dict[str, object] = {
        "object_scores": np.linspace(4.7, -3.3, count).astype(np.float32),
        "states": ("visible", "occluded", "lost")[:count] if count < 4 else ("visible",) * count,
    }
    return Results(
        image,
        "clips/clip.mp4",
        Masks(np.stack(list(objects.values()))) if objects else None,
        np.linspace(0.9, 0.1, count).astype(np.float32),
        ids=np.array(list(objects), np.int32),
        frame_idx=frame_idx,
        **{**rows, **options},
    )


def empty(frame_idx: int, **options: object) -> Results:
    return frame(frame_idx, {}, **options)


SAMPLE_FRAMES = (
    frame(0, {3: box_mask((1, 1, 9, 9))}, time=0.0),
    empty(1, time=0.04),
    frame(2, {3: box_mask((0, 0, 0, 0)), 7: box_mask((20, 4, 30, 20))}, time=0.1),  # 3 is hidden
    frame(3, {7: np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.5}, time=0.2),
)
"""Four frames in which objects appear, hide and leave."""
