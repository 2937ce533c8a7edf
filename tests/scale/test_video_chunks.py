"""Long videos in chunks: how they are cut, handed over and joined, and what the seams say."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from helpers.reference import encode_images_once
from masklet import SAM
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import PRESETS
from masklet.masks.rle import decode, encode
from masklet.media import open_video
from masklet.scale.stage_rows import ObjectMask
from masklet.scale.video_chunks import Chunk, ChunkOptions, TrackedVideo, join_chunks, plan_chunks, track_video

SIZE = (8, 8)


@pytest.fixture(autouse=True)
def _frames_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encode_images_once(monkeypatch)


def square(frame_idx: int, id: int, left: int, top: int = 0) -> ObjectMask:
    mask = np.zeros(SIZE, bool)
    mask[top : top + 4, left : left + 4] = True
    return ObjectMask(encode(mask), (left, top, left + 4, top + 4), 0.9, id, frame_idx=frame_idx)


@pytest.mark.parametrize("stop", [1, 9, 10, 11, 18, 19, 50])
def test_chunks_cover_every_frame_and_overlap(stop: int) -> None:
    chunks = plan_chunks(0, stop, ChunkOptions(10, 2))
    assert {frame for one in chunks for frame in range(one.start, one.stop)} == set(range(stop))
    assert all(b.start == a.stop - 2 for a, b in pairwise(chunks))
    assert all(one.stop - one.start > 2 or len(chunks) == 1 for one in chunks)


@pytest.mark.parametrize("options", [{"chunk": 4, "overlap": 2}, {"chunk": 9, "overlap": 0}])
def test_chunks_are_longer_than_two_overlaps(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="500 and 8"):
        ChunkOptions(**options)


def test_objects_are_joined_by_their_masks() -> None:
    chunks = [Chunk(0, 4), Chunk(2, 6)]
    first = TrackedVideo(SIZE, 4, tuple(square(f, id, left) for f in range(4) for id, left in ((1, 0), (2, 4))))
    # the later chunk numbers the right one first, sees the left one a pixel lower, and has a new one at the bottom
    rows = [square(f, 1, 4) for f in range(2, 6)] + [square(f, 2, 0, 1) for f in range(2, 6)] + [square(5, 3, 4, 4)]
    joined = join_chunks([first, TrackedVideo(SIZE, 4, tuple(rows))], chunks, same_ids=False)
    assert joined.num_frames == 6
    by_id = {id: [one for one in joined.objects if one.id == id] for id in (1, 2, 3)}
    assert [one.frame_idx for one in by_id[1]] == list(range(6))
    assert [one.box[0] for one in by_id[2]] == [4] * 6
    assert [one.frame_idx for one in by_id[3]] == [5]
    assert [(one.id, one.iou) for one in joined.seams] == [(1, 0.6), (2, 1.0)]


def test_an_object_that_a_chunk_lost_has_a_seam_of_zero() -> None:
    first = TrackedVideo(SIZE, 4, tuple(square(f, 1, 0) for f in range(4)))
    joined = join_chunks([first, TrackedVideo(SIZE, 4, ())], [Chunk(0, 4), Chunk(2, 6)], same_ids=False)
    assert [(one.frame_idx, one.id, one.iou) for one in joined.seams] == [(2, 1, 0.0)]


@pytest.mark.slow
def test_prompted_objects_keep_their_ids_through_chunks(memory_tracker: SAM, small_video: np.ndarray) -> None:
    video = np.concatenate([small_video, small_video[::-1]])
    prompts = {"points": [[20, 25], [60, 50]], "object_ids": [5, 9]}
    tracked = track_video(memory_tracker, partial(open_video, video), prompts, ChunkOptions(8, 2))
    assert tracked.num_frames == 20
    assert {one.id for one in tracked.objects} <= {5, 9}
    first = [decode(one.rle) for one in tracked.objects if one.frame_idx < 8 and one.id == 5]
    whole = list(memory_tracker.track(video, **prompts))[:8]
    assert np.array_equal(first, [one.masks.data[0] for one in whole])
    assert [one.frame_idx for one in tracked.seams if one.id == 5] == [6, 12]
    assert len(tracked.objects) == len({(one.frame_idx, one.id) for one in tracked.objects})


def test_memory_is_handed_over(memory_tracker: SAM, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    video = np.concatenate([small_video, small_video[::-1]])
    prompts = {"points": [[20, 25]]}
    chunks = ChunkOptions(12, 2)

    def last_mask() -> np.ndarray:
        return decode(track_video(memory_tracker, partial(open_video, video), prompts, chunks).objects[-1].rle)

    handed_over = last_mask()
    monkeypatch.setattr("masklet.scale.video_chunks.HANDED_OVER_FRAMES", 0)
    assert not np.array_equal(handed_over, last_mask())


def test_everything_is_tracked_through_chunks(
    tracker: SAM, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "fast", replace(PRESETS["fast"], points_per_side=4))
    cut = track_video(tracker, partial(open_video, small_video), {}, ChunkOptions(6, 2))
    assert cut.num_frames == 10
    assert {one.frame_idx for one in cut.objects} == set(range(10))
    assert cut.seams


def test_a_stream_is_not_cut(tracker: SAM, small_video: np.ndarray) -> None:
    with pytest.raises(InputError, match="leave chunk out"):
        track_video(tracker, lambda: open_video(iter(small_video)), {}, ChunkOptions(6, 2))
