"""Tracking with copied labels: the same in a batch, backward, and after a session was saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.reference import reference_model
from masklet import SAM
from masklet.errors import CheckpointError
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.sam2 import MatchingConfig
from masklet.models.sam2.label_matching import match_labels
from masklet.models.types import ImageFeatures
from masklet.video import LiveSession, Session, TrackOptions
from masklet.video.memory_bank import FrameState, MemoryBank
from masklet.video.tracker import Tracker


def state(mask: bool = True) -> FrameState:
    return FrameState(0.9, 5.0, torch.zeros(1, 4), torch.full((1, 1, 8, 8), 3.0) if mask else None)


def test_the_first_prompted_the_nearest_prompted_and_the_last_frames_are_matched() -> None:
    tracked = {frame: state(frame != 27) for frame in range(10, 35)}
    bank = MemoryBank({frame: state() for frame in (0, 5, 9, 40)}, tracked)
    config = MatchingConfig(recent=4, prompted=3)
    assert bank.labeled_frames(30, config, reverse=False) == (0, 9, 40, 26, 28, 29)
    assert bank.labeled_frames(30, config, reverse=True) == (0, 9, 40, 34, 33, 32, 31)
    assert bank.label(29).unique().tolist() == [1.0]


def rectangle(size: tuple[int, int], y1: int, y2: int, x1: int, x2: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def rows(frames: Any) -> list[tuple[int, bytes, bytes]]:
    return [(frame.frame_idx, frame.masks.data.tobytes(), frame.object_scores.tobytes()) for frame in frames]


def test_objects_get_the_same_masks_together_as_alone(session: Callable[..., Session], video: np.ndarray) -> None:
    boxes = {1: (30, 60, 20, 70), 7: (70, 110, 90, 150)}
    size, alone = video.shape[1:3], {}
    for number, box in boxes.items():
        with session(video[:6]) as one:
            one.add_prompt(number, 0, mask=rectangle(size, *box))
            alone[number] = [frame.masks.data[0] for frame in one.propagate()]
            assert one.tracker.objects[number].bank.tracked[1].label_11HW is not None
    with session(video[:6], non_overlapping=False) as both:
        for number, box in boxes.items():
            both.add_prompt(number, 0, mask=rectangle(size, *box))
        for t, frame in enumerate(both.propagate()):
            for row, number in enumerate(boxes):
                assert (frame.masks.data[row] != alone[number][t]).mean() < 1e-3


def test_a_pass_backward_mirrors_a_pass_forward(session: Callable[..., Session], video: np.ndarray) -> None:
    mask, clip = rectangle(video.shape[1:3], 30, 60, 20, 70), video[:5]
    with session(clip) as forward:
        forward.add_prompt(1, 0, mask=mask)
        expected = [frame.masks.data.tobytes() for frame in forward.propagate()]
    with session(clip[::-1].copy()) as backward:
        backward.add_prompt(1, 4, mask=mask)
        assert [frame.masks.data.tobytes() for frame in backward.propagate(4, reverse=True)] == expected


def test_a_live_view_matches_as_a_session_does(
    session: Callable[..., Session], live: Callable[..., LiveSession], video: np.ndarray
) -> None:
    mask, clip = rectangle(video.shape[1:3], 30, 60, 20, 70), video[:13]
    with session(clip) as whole:
        whole.add_prompt(1, 0, mask=mask)
        expected = rows(whole.propagate())
        assert set(whole.tracker.keys) == {*range(6), *range(7, 13)}
    view = live(13)
    view.add_prompt(1, mask=mask)
    assert rows(view.step(rgb) for rgb in clip) == expected


def test_a_frame_of_a_live_view_that_has_gone_by_is_not_matched(
    live: Callable[..., LiveSession], video: np.ndarray
) -> None:
    view = live()
    view.add_prompt(1, mask=rectangle(video.shape[1:3], 30, 60, 20, 70))
    for rgb in video[:3]:
        view.step(rgb)
    view.tracker.keys.clear()
    assert view.step(video[3]).ids.tolist() == [1]
    assert set(view.tracker.keys) == {3}


def test_blocks_track_as_the_plain_comparison_does(
    network: FastSAM2, video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, found = rectangle(video.shape[1:3], 30, 60, 20, 70), []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(
                network, "match_labels", lambda q, k, labels: match_labels(q, k, labels, network.matching)
            )
        with Session(network, open_video(video[:6]), TrackOptions()) as opened:
            opened.add_prompt(1, 0, mask=mask)
            found.append(np.concatenate([frame.masks.data for frame in opened.propagate()]))
    assert (found[0] != found[1]).mean() < 1e-3


def test_keys_are_computed_again_after_a_session_was_resumed(
    tracker: SAM, small_video: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = rectangle((64, 96), 15, 40, 10, 35)
    with tracker.session(small_video) as session:
        session.add_prompt(1, 0, mask=mask)
        complete = rows(session.propagate())
    with tracker.session(small_video) as session:
        session.add_prompt(1, 0, mask=mask)
        frames = session.propagate()
        first = rows([next(frames) for _ in range(8)])
        session.save(tmp_path / "s.safetensors")
    encoded: list[int] = []
    encode = Tracker.encode_frame
    monkeypatch.setattr(Tracker, "encode_frame", lambda self, f: encoded.append(f.index) or encode(self, f))
    with tracker.session(small_video, resume=tmp_path / "s.safetensors") as session:
        assert first + rows(session.resume()) == complete
    assert set(encoded) == {0, 3, 4, 5, 6, 7, 8, 9}


def test_a_session_of_another_input_size_is_one_clear_error(
    tracker: SAM, tracking_file: Path, small_video: np.ndarray, tmp_path: Path
) -> None:
    with tracker.session(small_video) as session:
        session.add_prompt(1, 0, mask=rectangle((64, 96), 15, 40, 10, 35))
        session.save(tmp_path / "s.safetensors")
    with pytest.raises(CheckpointError, match=r"made with frames of 128 x 64 .* and now they are 192 x 128"):
        SAM(tracking_file, image_size=160).session(small_video, resume=tmp_path / "s.safetensors")


def test_a_network_without_matching_stores_no_labels(video: np.ndarray) -> None:
    network = FastSAM2(reference_model("sam2.1_hiera_tiny", 64, "v", small_trunk=True))
    assert network.matching is None
    assert network.frame_input_size((120, 160)) == (64, 64)
    with Session(network, open_video(video[:3]), TrackOptions()) as session:
        session.add_prompt(1, 0, box=[20, 30, 70, 60])
        list(session.propagate())
        assert session.tracker.keys == {}
        assert all(one.label_11HW is None for one in session.tracker.objects[1].bank.tracked.values())


def test_keys_in_bf16_find_nearly_the_same_prior() -> None:
    model = reference_model("builtin", 96, "v")
    exact, rounded = FastSAM2(model), FastSAM2(model, torch.bfloat16)
    torch.manual_seed(1)
    features = ImageFeatures(torch.zeros(1), (), torch.randn(4, model.config.trunk.channels[1], 14, 20))
    labels_NFHW = torch.zeros(1, 3, 14, 20)
    labels_NFHW[:, :, 4:9, 5:12] = 1
    with torch.inference_mode():
        keys = [network.matching_keys(features) for network in (exact, rounded)]
        torch.testing.assert_close(keys[0], model.matching_keys(features))
        torch.testing.assert_close(keys[1].float(), keys[0], atol=0.02, rtol=0)
        priors = [
            network.match_labels(k[3], k[:3], labels_NFHW) for network, k in zip((exact, rounded), keys, strict=True)
        ]
    assert float(priors[0].max()) > 0.2
    assert float((priors[0] - priors[1]).abs().mean()) < 0.01


def test_the_built_in_model_tracks_in_bf16_where_the_processor_multiplies_it(
    builtin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for native, precision, dtype in ((False, "fp32", None), (True, "bf16", torch.bfloat16)):
        monkeypatch.setattr("masklet.nn.fused_ops.has_native_bfloat16", lambda native=native: native)
        monkeypatch.setattr("masklet.nn.fused_ops.has_fused_operators", lambda _, native=native: native)
        model = SAM(builtin_file)
        assert (model.predictor.precision, model.video_precision) == ("fp32", precision)
        network = model.live().tracker.network
        assert isinstance(network, FastSAM2)
        assert network.condition_on_memory.dtype is dtype
        assert (network.encode_image is model.predictor.encode) == (not native)
    assert SAM(builtin_file, precision="fp32").video_precision == "fp32"
