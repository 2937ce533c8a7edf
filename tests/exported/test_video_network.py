"""Tracking by an exported network: what the network in PyTorch tracks, prompt by prompt and frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.exported_folder import eager_network, write_folder
from helpers.networks import CONVNET, HIERA, small_network
from helpers.reference import encoding_once, reference_model
from masklet.errors import CheckpointError, MaskletWarning, ModelError
from masklet.export.graph_parts import MEMORY_SLOTS, pointer_slots, video_parts
from masklet.exported import ExportedNetwork
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.sam2 import SAM2, MemoryConfig
from masklet.video import LiveSession, SavedSession, Session, TrackOptions
from masklet.video.auto_tracker import AutoTracker
from masklet.video.memory_selection import MemorySelection, RecentFrames


def sam2_0() -> SAM2:
    """The first version: pointers without time, memories that do not say that an object is absent."""
    config = small_network(HIERA).config
    assert isinstance(config.memory, MemoryConfig)
    memory = replace(config.memory, temporal_pointers=False, absent_embedding=False)
    network = SAM2(replace(config, memory=memory))
    network.load_state_dict(small_network(HIERA).state_dict(), strict=False)
    return network


NETWORKS: dict[str, Callable[[], SAM2]] = {
    "builtin": lambda: reference_model("builtin", 96, "v"),
    "hiera": lambda: small_network(HIERA),
    "convnet": lambda: small_network(CONVNET),
    "sam2.0": sam2_0,
}
Both = tuple[FastSAM2, ExportedNetwork]


def make_both(network: SAM2, folder: Path) -> Both:
    network = network.eval().requires_grad_(False)
    parts = {part.name: part for part in video_parts(network)}
    slots = {memories: pointer_slots(memories) for memories in MEMORY_SLOTS}
    ours, exported = FastSAM2(network), eager_network(write_folder(folder, network, slots=slots), network, parts)
    for each in (ours, exported):  # the same frames are tracked again and again
        vars(each)["encode_image"] = encoding_once(each.encode_image)
    return ours, exported


@pytest.fixture(scope="module", params=NETWORKS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return make_both(NETWORKS[request.param](), tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="module")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return make_both(NETWORKS["builtin"](), tmp_path_factory.mktemp("exported") / "model")


def track(network: Any, video: np.ndarray, prompt: Callable[[Session], object], **options: Any) -> list[np.ndarray]:
    """Logits of all objects by frame, (N, H, W)."""
    found = []
    with Session(network, open_video(video), TrackOptions(fill_hole_area=0, **options)) as session:
        prompt(session)
        for frame in session.propagate(bidirectional=True):
            assert frame.ids is not None
            banks = [session.tracker.objects[int(number)].bank for number in frame.ids]
            found.append(np.concatenate([bank[frame.frame_idx].logits_11HW.float().numpy() for bank in banks]))
    return found


def is_equal(both: Both, video: np.ndarray, prompt: Callable[[Session], object], **options: Any) -> None:
    ours, exported = (track(network, video, prompt, retain="all", **options) for network in both)
    assert len(ours) == len(exported) == len(video)
    for one, other in zip(ours, exported, strict=True):
        assert np.abs(one - other).mean() < 5e-2  # memories are rounded to bfloat16; other inputs differ by whole units
        assert np.mean((one > 0) != (other > 0)) < 1e-2


def test_clicks_and_boxes_are_tracked_in_both_directions(both: Both, small_video: np.ndarray) -> None:
    def prompt(session: Session) -> None:
        session.add_prompt(1, frame_idx=3, points=[30, 25])
        session.add_prompt(2, frame_idx=3, box=[19, 15, 44, 40])

    is_equal(both, small_video, prompt)


def test_masks_are_tracked(both: Both, small_video: np.ndarray) -> None:
    mask = np.zeros((64, 96), bool)
    mask[15:40, 10:35] = True
    is_equal(both, small_video, lambda session: session.add_prompt(5, frame_idx=0, mask=mask), non_overlapping=True)


@pytest.mark.parametrize("memory", ["samurai", "dam4sam"])
def test_memory_policies_select_the_same(memory: str, both: Both, small_video: np.ndarray) -> None:
    is_equal(both, small_video, lambda session: session.add_prompt(1, frame_idx=2, box=[19, 15, 44, 40]), memory=memory)


def test_a_policy_that_weights_keys_is_refused(builtin: Both, small_video: np.ndarray) -> None:
    with pytest.raises(ModelError, match="memory='sam2long' weights the keys"):
        Session(builtin[1], open_video(small_video), TrackOptions(memory="sam2long"))


def test_a_mask_of_a_few_pixels_is_tracked(builtin: Both, small_video: np.ndarray) -> None:
    mask = np.zeros((64, 96), bool)
    mask[20:23, 30:32] = True

    is_equal(builtin, small_video, lambda session: session.add_prompt(1, frame_idx=0, mask=mask))


def test_corrections_attend_to_memory(both: Both, small_video: np.ndarray) -> None:
    found = []
    for network in both:
        with Session(network, open_video(small_video), TrackOptions(retain="all", fill_hole_area=0)) as session:
            session.add_prompt(1, frame_idx=0, points=[20, 25])
            list(session.propagate())
            session.add_prompt(1, frame_idx=6, points=[[40, 30]], labels=[0])
            logits = session.tracker.objects[1].bank[6].logits_11HW
            assert logits is not None
            found.append(logits.numpy())
    np.testing.assert_allclose(found[1], found[0], atol=5e-3, rtol=1e-3)


def test_more_prompted_frames_than_slots_are_tracked_by_the_nearest(both: Both, small_video: np.ndarray) -> None:
    def prompt(session: Session) -> None:
        for frame in range(0, 18, 2):
            session.add_prompt(1, frame_idx=frame, box=[10 + 3 * (frame % 10), 15, 35 + 3 * (frame % 10), 40])

    video = np.concatenate([small_video, small_video])
    with pytest.warns(MaskletWarning, match="object 1 has .* memories .* slots for 7: the farthest prompted") as caught:
        found = track(both[1], video, prompt, retain="all")
    assert len(caught) == 1  # not once for each frame
    assert len(found) == len(video)
    assert all(np.isfinite(each).all() for each in found)


def test_prompted_frames_that_have_slots_beside_fewer_others_are_attended_to(
    both: Both, small_video: np.ndarray
) -> None:
    def prompt(session: Session) -> None:
        for frame in (0, 2):
            session.add_prompt(1, frame_idx=frame, box=[10 + 3 * frame, 15, 35 + 3 * frame, 40])

    with pytest.warns(MaskletWarning, match=r"RecentFrames\(memories=5\), --memories 5"):
        track(both[1], small_video, prompt, retain="all")
    is_equal(both, small_video, prompt, memory_selector=RecentFrames(memories=5))


def test_a_selection_is_limited_to_the_nearest_prompted_frames() -> None:
    spatial = (*((frame, 0) for frame in (0, 10, 20, 30)), (38, 2), (39, 1))
    pointers = (*((frame, 40 - frame) for frame in (0, 10, 20, 30)), (39, 1), (38, 2))
    limited = MemorySelection(spatial, pointers, 16).limit(40, 4, 3)
    assert limited.spatial == ((20, 0), (30, 0), (38, 2), (39, 1))
    assert limited.pointers == ((30, 10), (39, 1), (38, 2))
    assert MemorySelection(spatial, pointers, 16).limit(40, 9, 9) == MemorySelection(spatial, pointers, 16)
    assert MemorySelection(spatial, pointers, 16).limit(40, 1, 1).spatial == ((39, 1),)


def test_live_frames_are_tracked(builtin: Both, small_video: np.ndarray) -> None:
    found = []
    for network in builtin:
        live = LiveSession(network, TrackOptions(fill_hole_area=0))
        live.add_prompt(1, points=[20, 25])
        found.append([live.step(frame).masks.data for frame in small_video])  # type: ignore[union-attr]
    assert np.mean([np.mean(one != other) for one, other in zip(*found, strict=True)]) < 1e-3


def test_everything_is_tracked(builtin: Both, small_video: np.ndarray) -> None:
    from masklet.video import AutoTrackOptions, Detection

    mask = np.zeros((64, 96), bool)
    mask[15:40, 10:35] = True
    found = []
    for network in builtin:
        tracker = AutoTracker(network, lambda rgb: [Detection(0.9, mask=mask)], AutoTrackOptions(detect_every=4))
        results = [tracker.step(frame) for frame in open_video(small_video).frames()]
        found.append([(frame.ids.tolist(), frame.masks.data) for frame in results])
    for (ids, masks), (other_ids, other_masks) in zip(*found, strict=True):
        assert ids == other_ids
        assert np.mean(masks != other_masks) < 1e-2  # the bound of `is_equal`


def test_a_session_is_resumed_by_an_exported_network_of_the_same_files(
    builtin: Both, small_video: np.ndarray, tmp_path: Path
) -> None:
    path, exported = tmp_path / "clip.npy", builtin[1]
    np.save(path, small_video)
    frames = tmp_path / "frames"
    frames.mkdir()
    from PIL import Image

    for index, frame in enumerate(small_video):
        Image.fromarray(frame).save(frames / f"{index:02d}.png")
    with Session(exported, open_video(frames), TrackOptions(retain="all")) as session:
        session.add_prompt(1, frame_idx=0, points=[20, 25])
        whole = list(session.propagate())
    with Session(exported, open_video(frames), TrackOptions(retain="all")) as session:
        session.add_prompt(1, frame_idx=0, points=[20, 25])
        passing = session.propagate()
        first = [next(passing) for _ in range(4)]
        session.save(tmp_path / "saved.safetensors")
    saved = SavedSession.read(tmp_path / "saved.safetensors")
    with Session(exported, open_video(frames), TrackOptions(retain="all")) as session:
        session.restore_saved(saved)
        rest = list(session.resume())
    assert [frame.frame_idx for frame in first + rest] == list(range(len(small_video)))
    for one, other in zip(whole, first + rest, strict=True):
        np.testing.assert_array_equal(one.masks.data, other.masks.data)  # type: ignore[union-attr]
    with (
        Session(builtin[0], open_video(frames), TrackOptions(retain="all")) as session,
        pytest.raises(CheckpointError, match=r"saved with (other weights|the model)"),
    ):
        session.restore_saved(saved)
