from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.oracle import Oracle, finder, make_video
from masklet.errors import CheckpointError
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors
from masklet.video import AutoTracker, AutoTrackOptions, SavedSession, Session, TrackOptions
from masklet.video.scene_cuts import SceneCuts, color_distance, color_signature, feature_distance
from masklet.video.tracker import Tracker

Open = Callable[..., Session]


@pytest.fixture
def two_shots(video: np.ndarray) -> np.ndarray:
    """Five frames, and five of the same scene upside down in other colors."""
    return np.concatenate([video[:5], 255 - video[5:10, ::-1]])


@pytest.fixture(autouse=True)
def small_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of a made-up network hardly differ: colors alone decide."""
    monkeypatch.setattr("masklet.video.scene_cuts.MIN_FEATURE_DISTANCE", -1.0)


def prompted(session: Session, frame: int = 0) -> Session:
    session.add_prompt(1, frame_idx=frame, points=[45, 65])
    return session


def shown(session: Session, **way: Any) -> list[tuple[int | None, bytes]]:
    return [(frame.frame_idx, frame.object_scores.tobytes()) for frame in session.propagate(**way)]  # type: ignore[union-attr]


def test_frames_of_one_shot_and_of_two() -> None:
    cuts = SceneCuts([10, 20])
    assert cuts.same_shot(10, 19)
    assert cuts.same_shot(0, 9)
    assert not cuts.same_shot(9, 10)
    assert not cuts.same_shot(25, 19)
    assert [cuts.frames_in_shot_before(frame, reverse=False) for frame in (4, 10, 13, 22)] == [4, 0, 3, 2]
    assert [cuts.frames_in_shot_before(frame, reverse=True) for frame in (4, 9, 13)] == [5, 0, 6]
    assert cuts.frames_in_shot_before(22, reverse=True) > 1000


def test_both_colors_and_features_have_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.video.scene_cuts.MIN_FEATURE_DISTANCE", 0.25)
    red, blue = (np.full((40, 60, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
    for after, distance, expected in ((blue, 0.5, [1]), (blue, 0.2, []), (red, 0.5, []), (blue, None, [])):
        cuts = SceneCuts()
        for index, rgb in enumerate((red, after)):
            cuts.notice(index, rgb, reverse=False, read_rgb=lambda _: None, distance_to=lambda _, d=distance: d)
        assert cuts.frames == expected


def test_backward_a_cut_has_the_number_that_it_has_forward() -> None:
    red, blue = (np.full((40, 60, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
    frames, cuts = [red] * 3 + [blue] * 3, SceneCuts()
    for index in (5, 4, 3, 2, 1):
        cuts.notice(index, frames[index], reverse=True, read_rgb=lambda _: None, distance_to=lambda _: 1.0)
    assert cuts.frames == [3]


def test_features_are_compared_place_by_place() -> None:
    map_1CHW = torch.rand(1, 8, 12, 20) + 0.1
    assert feature_distance(map_1CHW, 3 * map_1CHW) == pytest.approx(0, abs=1e-6)
    assert feature_distance(map_1CHW, -map_1CHW) == pytest.approx(2, abs=1e-6)
    map_1CHW = torch.rand(1, 8, 3, 5) + 0.1  # smaller than the grid, and not divisible by it
    assert feature_distance(map_1CHW, 3 * map_1CHW) == pytest.approx(0, abs=1e-6)
    smooth = torch.eye(8)[:, None, :].expand(8, 12, 8)[None]
    assert feature_distance(smooth, smooth.flip(3)) > 0.5


def test_colors_do_not_depend_on_where_they_are(video: np.ndarray) -> None:
    assert color_distance(color_signature(video[0]), color_signature(video[0][:, ::-1])) < 0.01
    assert color_distance(color_signature(video[0]), color_signature(255 - video[0])) > 0.1


@pytest.mark.parametrize("reverse", [False, True])
def test_after_a_cut_memory_of_prompts_alone_is_attended_to(
    session: Open, two_shots: np.ndarray, reverse: bool
) -> None:
    at, first = (4, 9) if reverse else (5, 0)
    with prompted(session(two_shots), first) as one:
        selected: dict[int, list[int]] = {}
        select = one.tracker._select_memory

        def recorded(obj: Any, frame_idx: int, reverse: bool) -> Any:
            selection = select(obj, frame_idx, reverse)
            selected[frame_idx] = [frame for frame, _ in selection.spatial]
            return selection

        one.tracker._select_memory = recorded  # type: ignore[method-assign]
        list(one.propagate(reverse=reverse))
        assert one.tracker.cuts.frames == [5]
        one.tracker._select_memory = select  # type: ignore[method-assign]
    after = -1 if reverse else 1
    assert selected[at] == [first]
    assert selected[at + 2 * after] == ([9, 4, 3] if reverse else [0, 5, 6])


def test_the_switch_turns_it_off_and_a_video_without_cuts_does_not_care(
    session: Open, two_shots: np.ndarray, video: np.ndarray
) -> None:
    with prompted(session(two_shots)) as on, prompted(session(two_shots, scene_cuts=False)) as off:
        with_cuts, without = shown(on), shown(off)
        assert not off.tracker.cuts.frames
    assert with_cuts[:6] == without[:6]  # the prompted frame and the first shot
    assert with_cuts[6:] != without[6:]
    with prompted(session(video[:8])) as on, prompted(session(video[:8], scene_cuts=False)) as off:
        assert shown(on) == shown(off)


def test_a_session_resumes_after_a_cut_and_across_one(
    session: Open, network: FastSAM2, two_shots: np.ndarray, tmp_path: Path
) -> None:
    with prompted(session(two_shots)) as one:
        complete = shown(one)
    for stop in (5, 7):
        with prompted(session(two_shots)) as one:
            run = one.propagate()
            first = [next(run) for _ in range(stop)]
            saved = SavedSession.read(one.save(tmp_path / f"{stop}.safetensors"))
        with Session(network, open_video(two_shots), saved.options(None)) as again:
            again.restore_saved(saved)
            rest = [(frame.frame_idx, frame.object_scores.tobytes()) for frame in again.resume()]  # type: ignore[union-attr]
        assert [(frame.frame_idx, frame.object_scores.tobytes()) for frame in first] + rest == complete  # type: ignore[union-attr]


def test_after_a_cut_objects_are_detected_at_once() -> None:
    first = make_video(6, lambda t: {1: (5, 10, 20, 25)})
    second = make_video(4, lambda t: {1: (5, 10, 20, 25), 255: (22, 0, 64, 48)})
    frames = np.concatenate([first, second])
    calls: list[int] = []
    find = finder()
    tracker = AutoTracker(  # type: ignore[arg-type]
        Oracle(), lambda rgb: calls.append(1) or find(rgb), AutoTrackOptions(detect_every=100)
    )
    ran = []
    for frame in open_video(frames):
        calls.clear()
        tracker.step(frame)
        ran += [frame.index] * len(calls)
    assert ran == [0, 6]


class Unmoved(FastSAM2):
    """Predicts a rectangle on every frame, whatever is there."""

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
        if prompts is not None:
            return super().decode(features, prompts)
        count, channels = len(features.embed_BCHW), features.embed_BCHW.shape[1]
        logits = torch.full((count, 4, 24, 24), -5.0)
        logits[..., 6:18, 4:16] = 5.0
        scores = torch.full((count, 1), 4.0)
        return MaskPrediction(logits, torch.ones(count, 4), scores, torch.zeros(count, 4, channels))


@pytest.mark.parametrize(("verify", "absent"), [(True, "occluded"), (False, "visible")])
def test_in_another_shot_only_what_looks_like_an_object_is_the_object(
    verify: bool, absent: str, network: FastSAM2, two_shots: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Tracker, "match_labels", lambda *_: ({}, {}))
    monkeypatch.setattr(Tracker, "recall_labels", lambda *_: {})
    frames, mask = np.concatenate([two_shots, two_shots[:3]]), np.zeros(two_shots.shape[1:3], bool)
    mask[30:90, 27:107] = True
    with Session(Unmoved(network.model), open_video(frames), TrackOptions(verify_returns=verify)) as one:
        one.add_prompt(1, 0, mask=mask)
        states, run = [], one.propagate()
        for results in run:
            states += results.states or ()
            if len(states) == 7:  # it was absent on two frames
                saved = SavedSession.read(one.save(tmp_path / "saved.safetensors"))
                stored = one.tracker.objects[1].bank.tracked[6]
        assert one.tracker.cuts.frames == [5, 10]
    assert states == ["visible"] * 5 + [absent] * 5 + ["visible"] * 3
    assert (stored.object_score > 0) == (not verify)
    with Session(Unmoved(network.model), open_video(frames), saved.options(None)) as again:
        again.restore_saved(saved)
        assert [state for results in again.resume() for state in results.states or ()] == states[7:]


def test_a_look_in_a_saved_session_has_to_fit_the_model(
    session: Open, network: FastSAM2, video: np.ndarray, tmp_path: Path
) -> None:
    with session(video[:3]) as one:
        one.add_prompt(1, 0, mask=np.pad(np.ones((60, 80), bool), ((30, 30), (27, 53))))
        [look] = one.tracker.objects[1].looks
        assert look.features is not None
        one.tracker.objects[1].looks = [replace(look, features=look.features[:-1])]
        saved = SavedSession.read(one.save(tmp_path / "saved.safetensors"))
    with session(video[:3]) as again, pytest.raises(CheckpointError, match="looks"):
        again.restore_saved(saved)
