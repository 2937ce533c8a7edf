"""A video without prompts: starts, ends, no duplicates; with a tracker that cannot err, then with the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from helpers.oracle import Oracle, finder, found, make_video
from masklet.errors import InputError, SourceError
from masklet.media import open_video
from masklet.results import Results
from masklet.video import AutoTracker, AutoTrackOptions, AutoTrackStream, Detection, TrackOptions, auto_track
from masklet.video.track_history import MAX_ENDED_TRACKS, Track, TrackHistory

LEFT, RIGHT = (5, 10, 20, 25), (40, 10, 60, 30)


def two(t: int) -> dict[int, Any]:
    return {1: (5 + t, 10, 20 + t, 25), 2: (40, 10 + t // 2, 60, 30 + t // 2)}


def track_all(frames: Any, find: Any = None, oracle: Oracle | None = None, **options: Any) -> AutoTrackStream:
    chosen = AutoTrackOptions(**{"detect_every": 4, "max_missing_frames": 3, **options})
    return auto_track(oracle or Oracle(), open_video(frames), find or finder(), chosen)  # type: ignore[arg-type]


def painted_numbers(frame: Results) -> list[int]:
    """What is painted where each object is reported to be; 0: it is out of sight."""
    assert frame.masks is not None
    return [int(frame.orig_img[..., 0][mask].max(initial=0)) for mask in frame.masks.data]


def test_two_objects_keep_their_ids_and_classes() -> None:
    stream = track_all(make_video(12, two))
    for index, frame in enumerate(stream):
        assert frame.frame_idx == index
        assert frame.ids.tolist() == painted_numbers(frame) == [1, 2]
        assert frame.states == ("visible", "visible")
        assert [frame.class_name(i) for i in range(2)] == ["kind1", "kind2"]
        assert stream.track_history.started == ((1, 2) if index == 0 else ())
        assert stream.track_history.ended == ()
    assert [(track.first_frame, track.last_frame, track.visible_frames, track.end_reason) for track in stream.track_history] == [  # noqa: E501
        (0, 11, 12, "end of the video"), (0, 11, 12, "end of the video"),
    ]  # fmt: skip


def test_an_object_that_enters_later_starts_at_the_next_detection() -> None:
    stream = track_all(make_video(13, two, lambda t: {3: (30, 35, 40, 45)} if t >= 5 else {}))
    started = {frame.frame_idx: stream.track_history.started for frame in stream if stream.track_history.started}
    assert started == {0: (1, 2), 8: (3,)}
    assert stream.track_history[3].first_frame == 8


def test_the_detector_runs_on_the_first_frame_and_at_every_so_many() -> None:
    calls: list[int] = []
    detected = []
    for frame in track_all(make_video(12, two), finder(calls=calls), detect_every=5):
        detected += [frame.frame_idx] * len(calls)
        calls.clear()
    assert detected == [0, 5, 10]


def test_a_track_of_an_object_that_leaves_ends() -> None:
    oracle = Oracle()
    stream = track_all(make_video(12, lambda t: {1: LEFT} | ({2: RIGHT} if t < 4 else {})), oracle=oracle)
    ids = [frame.ids.tolist() for frame in stream]
    ended = stream.track_history[2]
    assert ids == [[1, 2]] * 6 + [[1]] * 6  # out of sight on 4, 5 and 6, the third of which ends it
    assert (ended.first_frame, ended.last_frame, ended.visible_frames, ended.end_reason) == (0, 3, 4, "out of sight")
    assert oracle.tracked == [2] * 6 + [1] * 5


def test_an_occluded_object_keeps_its_track() -> None:
    stream = track_all(make_video(10, lambda t: {1: LEFT} | ({} if 3 <= t < 5 else {2: RIGHT})))
    states = [frame.states[1] for frame in stream if frame.states is not None]
    assert states == ["visible"] * 3 + ["occluded"] * 2 + ["visible"] * 5
    assert stream.track_history.num_started == 2


def test_an_object_that_returns_after_its_track_ended_is_recognized() -> None:
    stream = track_all(make_video(20, lambda t: {1: LEFT} | ({} if 3 <= t < 14 else {2: RIGHT})))
    started = {frame.frame_idx: stream.track_history.started for frame in stream}
    assert {frame: ids for frame, ids in started.items() if ids} == {0: (1, 2), 16: (2,)}
    assert str(stream.track_history).splitlines() == [
        "object 1: kind1, frames 0 to 19, end of the video",
        "object 2: kind2, frames 0 to 19, end of the video",
    ]
    assert stream.track_history[2].visible_frames == 7
    assert stream.track_history.num_started == 2


def test_another_object_is_not_taken_for_a_lost_one() -> None:
    for new, ids in ({252: RIGHT}, [1, 3]), ({2: (24, 22, 60, 44)}, [1, 2]):
        stream = track_all(
            make_video(20, lambda t, new=new: {1: LEFT} | ({2: RIGHT} if t < 3 else {} if t < 14 else new))
        )
        assert [frame.ids.tolist() for frame in stream][-1] == ids


def test_an_object_that_returns_where_the_tracker_does_not_see_it_keeps_its_track() -> None:
    """Hidden for two frames, then detected before its track has ended, while the tracker still sees nothing."""
    oracle = Oracle(lost={2})
    stream = track_all(make_video(6, two), oracle=oracle, max_missing_frames=20, max_objects=2)
    ids = [frame.ids.tolist() for frame in stream]
    assert ids == [[1, 2]] * 6
    assert (stream.track_history.num_started, stream.track_history.rejected) == (2, 0)
    assert stream.track_history[2].visible_frames == 2  # where it was detected first and again
    stream = track_all(make_video(6, two), oracle=Oracle(lost={2}), max_missing_frames=20, reidentify=False)
    assert [frame.ids.tolist() for frame in stream][-1] == [1, 2, 3]


def test_a_track_that_has_drifted_to_something_else_returns_to_its_object() -> None:
    frames = make_video(6, lambda t: {2: RIGHT} | ({252: LEFT} if t else {}))
    for reidentify, expected in ((True, [252, 2]), (False, [252, 252])):
        stream = track_all(frames, finder([2, 252]), Oracle(swaps={2: 252}), reidentify=reidentify)
        painted = {frame.frame_idx: painted_numbers(frame)[0] for frame in stream}
        assert [painted[3], painted[4]] == expected


def test_without_recognition_an_object_that_returns_has_a_new_id() -> None:
    stream = track_all(make_video(20, lambda t: {1: LEFT} | ({} if 3 <= t < 14 else {2: RIGHT})), reidentify=False)
    ids = [frame.ids.tolist() for frame in stream]
    assert ids[-1] == [1, 3]
    assert str(stream.track_history).splitlines() == [
        "object 1: kind1, frames 0 to 19, end of the video",
        "object 2: kind2, frames 0 to 2, out of sight",
        "object 3: kind2, frames 16 to 19, end of the video",
    ]


def test_parts_of_a_track_start_no_track() -> None:
    def with_parts(rgb: np.ndarray) -> list[Detection]:
        whole = rgb[..., 0] > 0
        part = whole.copy()
        part[:, 12:] = False
        return [found(whole, 1, class_id=0), found(part, 9, class_id=0), found(whole, 8, class_id=0)]

    frames = make_video(9, lambda t: {1: LEFT})
    stream = track_all(frames, with_parts)
    assert all(frame.ids.tolist() == [1] for frame in stream)
    assert stream.track_history.num_started == 1
    assert track_all(frames, with_parts, parts=True, match_iou=0.9).__next__().ids.tolist() == [1, 2]


def test_duplicate_tracks_are_joined() -> None:
    oracle = Oracle(swaps={2: 1})  # from its second frame on, 2 is taken for 1
    stream = track_all(make_video(10, two), finder([1, 2]), oracle)
    ids = [frame.ids.tolist() for frame in stream]
    assert ids[:8] == [[1, 2]] * 4 + [[1, 2, 3]] * 4
    assert ids[8] == [1, 3, 4]
    assert stream.track_history[2].end_reason == "joined with 1"


def test_repeated_detections_start_one_track() -> None:
    def thrice(rgb: np.ndarray) -> list[Detection]:
        return [one for boxes in (False, True, False) for one in finder(boxes=boxes)(rgb)]

    stream = track_all(make_video(9, two), thrice, detect_every=1)
    assert all(sorted(painted_numbers(frame)) == [1, 2] for frame in stream)


def test_max_objects_keeps_active_tracks_and_new_objects_wait() -> None:
    def spots(t: int) -> dict[int, Any]:
        early = {2: (0, 0, 10, 10)} if t < 4 else {}
        return early | {3: (20, 0, 40, 20)} | ({1: (45, 20, 60, 40)} if t >= 2 else {})

    stream = track_all(make_video(13, spots), max_objects=2)
    shown = {frame.frame_idx: painted_numbers(frame) for frame in stream}
    assert shown[0] == [2, 3]
    assert shown[4] == [0, 3]  # 2 is hidden and has its place still
    assert shown[8] == [3, 1]
    assert stream.track_history.rejected == 1
    assert str(stream.track_history).splitlines()[-1] == "turned away for want of a place: 1"


@pytest.mark.parametrize(("first", "kept"), [("score", 1), ("area", 2)])
def test_sort_by_decides_which_object_is_tracked(first: str, kept: int) -> None:
    stream = track_all(make_video(2, two), max_objects=1, sort_by=first)
    assert [painted_numbers(frame) for frame in stream] == [[kept]] * 2


def test_max_undetected_ends_tracks_without_detections() -> None:
    runs: list[int] = []

    def once(rgb: np.ndarray) -> list[Detection]:
        runs.append(1)
        return finder([1, 2] if len(runs) == 1 else [1])(rgb)

    stream = track_all(make_video(12, two), once, max_undetected=2)
    assert [len(frame) for frame in stream] == [2] * 8 + [1] * 4
    assert stream.track_history[2].end_reason == "not found again"
    assert stream.track_history[2].missed_detections == 2


@pytest.mark.parametrize("again", [{}, {"parts": True}, {"reinit_on_match": True}, {"max_undetected": 3}])
def test_a_region_detector_searches_outside_the_tracks(again: dict[str, Any]) -> None:
    searched: list[int | None] = []

    class Searching:
        def __call__(self, rgb: np.ndarray) -> Any:
            searched.append(None)
            return finder()(rgb)

        def detect_outside(self, rgb: np.ndarray, covered: np.ndarray) -> Any:
            searched.append(int(covered.sum()))
            return [one for one in finder()(rgb) if not covered[one.mask].all()]

    frames = make_video(9, two, lambda t: {3: (30, 35, 40, 45)} if t >= 5 else {})
    stream = track_all(frames, Searching(), **again)
    assert [frame.ids.tolist() for frame in stream][-1] == [1, 2, 3]
    assert searched == ([None] * 3 if again else [None, 15 * 15 + 20 * 20, 15 * 15 + 20 * 20])
    assert stream.track_history.num_started == 3


def test_boxes_are_tracked_as_masks_are() -> None:
    frames = make_video(9, two, lambda t: {3: (30, 35, 40, 45)} if t >= 3 else {})
    by_mask, by_box = (list(track_all(frames, finder(boxes=boxes))) for boxes in (False, True))
    for one, other in zip(by_mask, by_box, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.classes.tolist() == other.classes.tolist()
        np.testing.assert_array_equal(one.masks.data, other.masks.data)  # type: ignore[union-attr]


def test_a_box_around_nothing_starts_no_track() -> None:
    stream = track_all(make_video(3, lambda t: {}), lambda rgb: [Detection(0.9, box=(1, 1, 20, 20))])
    assert [len(frame) for frame in stream] == [0, 0, 0]
    assert str(stream.track_history) == "nothing was found"


def test_a_detector_may_change_its_mind_and_the_class_of_an_id_stays() -> None:
    classes = iter([1, 4, 4])
    stream = track_all(
        make_video(9, lambda t: {1: LEFT}), lambda rgb: [found(rgb[..., 0] == 1, class_id=next(classes))]
    )
    assert {frame.class_name(0) for frame in stream} == {"kind1"}
    assert stream.track_history[1].class_scores == {
        1: pytest.approx(0.996, abs=1e-3),
        4: pytest.approx(1.992, abs=1e-3),
    }
    assert stream.track_history[1].likely_class == 4


def test_a_truncated_object_stays_one_track_when_more_of_it_enters() -> None:
    """What was cut is number 1, the rest of it number 2; prompted with all of it, the oracle sees it all."""

    def everything(rgb: np.ndarray) -> list[Detection]:
        return [found(rgb[..., 0] > 0, class_id=0)]

    frames = make_video(9, lambda t: {2: (0, 10, 40, 40), 1: (0, 10, 15, 40)} if t >= 4 else {1: (0, 10, 15, 40)})
    stream = track_all(frames, everything)
    shown = list(stream)
    assert all(frame.ids.tolist() == [1] for frame in shown)
    assert [int(shown[t].masks.data.sum()) for t in (0, 3, 4)] == [450, 450, 1200]  # type: ignore[union-attr]
    assert stream.track_history.num_started == 1
    assert stream.track_history[1].extensions == 2


@pytest.mark.parametrize("renew", [False, True])
def test_reinit_on_match_restarts_a_track_from_its_detection(renew: bool) -> None:
    """Number 1 becomes 2 rows wider on frame 4, of number 2: the oracle does not see that by itself."""

    def everything(rgb: np.ndarray) -> list[Detection]:
        return [found(rgb[..., 0] > 0, class_id=0)]

    frames = make_video(30, lambda t: {1: (20, 10, 40, 30)} | ({2: (20, 30, 40, 34)} if t >= 4 else {}))
    tracker = AutoTracker(Oracle(), everything, AutoTrackOptions(detect_every=4, reinit_on_match=renew))  # type: ignore[arg-type]
    shown = []
    for frame in open_video(frames):
        shown.append(tracker.step(frame))
        one = tracker.live.tracker.objects[1]
        assert set(one.prompts) == set(one.bank.prompted) <= {0, 4 * (frame.index // 4)}
    assert int(shown[3].masks.data.sum()) == 400
    assert int(shown[4].masks.data.sum()) == (480 if renew else 400)
    assert all(frame.ids.tolist() == [1] for frame in shown)


def test_reinit_on_match_works_with_corrections_as_in_sam2() -> None:
    """A renewed frame is then a tracked one: from the third on there was nothing prompted to be released."""

    def everything(rgb: np.ndarray) -> list[Detection]:
        return [found(rgb[..., 0] > 0, class_id=0)]

    frames = make_video(20, lambda t: {1: (20, 10, 40, 30)} | ({2: (20, 30, 40, 34)} if t >= 4 else {}))
    track = TrackOptions(corrections="sam2")
    options = AutoTrackOptions(detect_every=4, reinit_on_match=True)
    shown = list(auto_track(Oracle(), open_video(frames), everything, options, track))  # type: ignore[arg-type]
    assert [int(shown[t].masks.data.sum()) for t in (0, 4, 8, 12, 16)] == [400] + [480] * 4  # type: ignore[union-attr]


def test_without_identities_every_frame_stands_alone() -> None:
    calls: list[int] = []
    frames = make_video(5, lambda t: {2: RIGHT} | ({1: LEFT} if t in (1, 3) else {}))
    stream = track_all(frames, finder(calls=calls), identities=False)
    shown = list(stream)
    assert len(calls) == 5
    assert [frame.ids.tolist() for frame in shown] == [[1], [1, 2], [1], [1, 2], [1]]
    assert [painted_numbers(frame) for frame in shown] == [[2], [1, 2], [2], [1, 2], [2]]
    assert shown[1].names == {1: "kind1", 2: "kind2"}
    assert shown[1].classes.tolist() == [1, 2]
    assert shown[1].states == ("visible", "visible")
    assert len(stream.track_history) == 0


def test_without_identities_boxes_become_masks_and_overlaps_stay() -> None:
    frames = make_video(2, two)
    assert [painted_numbers(frame) for frame in track_all(frames, finder(boxes=True), identities=False)] == [[1, 2]] * 2
    twice = track_all(frames, lambda rgb: finder()(rgb) * 2, identities=False)
    assert [painted_numbers(frame) for frame in twice] == [[1, 2, 1, 2]] * 2


def test_without_detections_frames_are_empty_and_not_encoded() -> None:
    class Blind(Oracle):
        def encode_image(self, pixels_B3HW: Any) -> Any:
            raise AssertionError("no network is needed")

    for identities in (True, False):
        stream = track_all(make_video(6, two), lambda rgb: [], Blind(), identities=identities)
        frames = list(stream)
        assert [(len(frame), frame.states) for frame in frames] == [(0, ())] * 6
        assert all(frame.masks is not None and frame.masks.shape == (0, *frame.orig_shape) for frame in frames)


def test_speed_counts_the_stages_that_ran() -> None:
    stream = track_all(make_video(7, lambda t: {1: LEFT} if t < 2 else {}), max_missing_frames=1)
    spent = [frame.speed["track"] > 0 for frame in stream]
    assert spent == [False, True, True, False, False, False, False]


def test_a_video_without_frames_says_so_as_ever() -> None:
    with pytest.raises(SourceError, match="without a frame"):
        list(track_all(iter([])))


def test_a_stream_gives_what_the_video_gives_and_is_read_once_frame_by_frame() -> None:
    frames = make_video(9, two)
    given: list[int] = []

    def camera() -> Iterator[np.ndarray]:
        for index, frame in enumerate(frames):
            given.append(index)
            yield frame

    with track_all(camera()) as stream:
        next(stream)
        assert len(given) < 9  # a few are read ahead
        rest = list(stream)
    assert [frame.frame_idx for frame in rest] == list(range(1, 9))
    assert given == list(range(9))
    assert [frame.ids.tolist() for frame in rest] == [[1, 2]] * 8


def test_a_part_of_a_video_begins_with_a_detection() -> None:
    stream = auto_track(Oracle(), open_video(make_video(9, two)), finder(), start=3, stop=7)  # type: ignore[arg-type]
    assert [(frame.frame_idx, frame.ids.tolist()) for frame in stream] == [(t, [1, 2]) for t in range(3, 7)]


def test_stopping_early_closes_the_video_and_ends_no_track() -> None:
    with track_all(make_video(9, two)) as stream:
        next(stream)
    assert [track.end_reason for track in stream.track_history] == [None, None]
    assert list(stream) == []
    assert stream.video._closed


def test_memory_does_not_grow_with_the_video() -> None:
    def passers(t: int) -> dict[int, Any]:
        """Every ten frames another one comes by, for five."""
        return {1 + t // 10: LEFT} if t % 10 < 5 else {}

    tracker = AutoTracker(Oracle(), finder(), AutoTrackOptions(detect_every=1, max_missing_frames=3, reidentify=False))  # type: ignore[arg-type]
    sizes = []
    for frame in open_video(make_video(200, passers)):
        tracker.step(frame)
        objects = tracker.live.tracker.objects.values()
        sizes.append((len(objects), max((len(one.bank.tracked) for one in objects), default=0)))
    assert tracker.track_history.num_started == 20
    assert max(count for count, _ in sizes) == 1
    assert max(kept for _, kept in sizes) <= 16


def test_a_malformed_detection_stops_it_and_closes_the_video() -> None:
    stream = track_all(make_video(3, two), lambda rgb: [Detection(0.5, mask=np.ones((2, 2), bool))])
    with pytest.raises(InputError, match="frame"):
        next(stream)
    assert stream.video._closed


def test_track_history_in_plain_numbers() -> None:
    stream = track_all(make_video(3, two))
    list(stream)
    records = json.loads(json.dumps(stream.track_history.to_dicts()))
    assert records[1] == {
        "id": 2, "name": "kind2", "first": 0, "last": 2, "visible": 3, "reason": "end of the video", "class_id": 2,
        "score": 1 - 2 / 256,
    }  # fmt: skip
    with pytest.raises(KeyError):
        stream.track_history[3]


def test_the_history_of_an_endless_video_stays_bounded() -> None:
    history = TrackHistory()
    for id in range(1, MAX_ENDED_TRACKS + 10):
        history.start_track(Track(id, 0, "object", 0.5, 0, 0))
        history.end_track(id, "out of sight")
    assert len(history) == MAX_ENDED_TRACKS
    assert history.num_started == MAX_ENDED_TRACKS + 9


# the real tracker ---------------------------------------------------------------------------------------------------


def scene(t: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A red disc that goes right, a green square that goes up, and from frame 5 on a blue disc from below."""
    y, x = np.mgrid[:120, :160]
    red = (x - 30 - 2 * t) ** 2 + (y - 40) ** 2 < 18**2
    green = (abs(x - 110) < 16) & (abs(y - 80 + t) < 14)
    blue = (x - 50) ** 2 + (y - max(145 - 5 * t, 96)) ** 2 < 15**2
    rgb = np.repeat((90 + (x + y)[..., None] % 7).astype(np.uint8), 3, axis=2)
    for mask, color in ((red, (220, 40, 40)), (green, (40, 200, 60)), (blue, (40, 60, 230))):
        rgb[mask] = color
    return rgb, [red, green, blue]


@pytest.mark.slow
def test_the_built_in_model_tracks_detections() -> None:
    """What it is shown by masks first, and what comes later by boxes."""
    from masklet import SAM

    made = [scene(t) for t in range(8)]
    truth = {rgb.tobytes(): masks for rgb, masks in made}

    def find(rgb: np.ndarray) -> list[Detection]:
        return [found(mask, n + 1, boxes=n > 1) for n, mask in enumerate(truth[rgb.tobytes()]) if mask.sum() > 150]

    model = SAM(device="cpu")
    stream = model.track(iter([rgb for rgb, _ in made]), detector=find, auto_options=AutoTrackOptions(detect_every=5))
    for frame in stream:
        assert frame.masks is not None
        for mask, id, kind in zip(frame.masks.data, frame.ids, frame.classes, strict=True):
            true = made[frame.frame_idx or 0][1][kind - 1]
            assert id == kind
            assert (mask & true).sum() / (mask | true).sum() > 0.7, (frame.frame_idx, id)
    assert [track.first_frame for track in stream.track_history] == [0, 0, 5]
