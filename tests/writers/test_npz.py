"""NumPy arrays of a video: they survive the round trip, and one frame at a time is in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from helpers.frame_results import HEIGHT, SAMPLE_FRAMES, WIDTH, box_mask, frame
from masklet.results import Results
from masklet.writers import open_sink


def write(folder: Path, *frames: Results) -> dict[str, np.ndarray]:
    with open_sink("numpy", folder, stem="clip") as sink:
        for results in frames:
            sink.write(results)
    with np.load(sink.paths[0]) as arrays:
        assert len(set(arrays.files)) == len(arrays.files)
        return dict(arrays)


def test_arrays_round_trip(tmp_path: Path) -> None:
    arrays = write(tmp_path, *SAMPLE_FRAMES)
    assert arrays["frames"].tolist() == [0, 1, 2, 3]
    assert arrays["times"].tolist() == [0.0, 0.04, 0.1, 0.2]
    for results in SAMPLE_FRAMES:
        masks = arrays[f"masks_{results.frame_idx:05d}"]
        assert (masks.dtype, masks.shape) == (np.dtype(bool), (len(results), HEIGHT, WIDTH))
        assert results.masks is None or np.array_equal(masks, results.masks.data)
        assert np.array_equal(arrays[f"ids_{results.frame_idx:05d}"], results.ids)
        assert np.array_equal(arrays[f"scores_{results.frame_idx:05d}"], results.scores)


def test_frames_in_any_order_and_written_twice(tmp_path: Path) -> None:
    arrays = write(tmp_path, frame(5), frame(2), frame(5, {3: box_mask((0, 0, 2, 2))}, time=0.5))
    assert arrays["frames"].tolist() == [2, 5]
    assert np.isnan(arrays["times"][0])
    assert arrays["times"][1] == 0.5
    assert np.array_equal(arrays["masks_00005"], [box_mask((0, 0, 2, 2))])
    assert sorted(arrays) == sorted(
        ["frames", "times", *(f"{name}_{n}" for n in ("00002", "00005") for name in ("ids", "masks", "scores"))]
    )


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((200, 300)) > 0.5
    with open_sink("numpy", tmp_path, stem="clip") as sink:
        sink.write(frame(0, {1: masks}))
        tracemalloc.start()
        for number in range(1, 101):
            sink.write(frame(number, {1: masks}))
        allocated, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert allocated < 20 * masks.nbytes  # 100 frames are 100 times as much
