"""What the authors' code of SAM2Long and DAM4SAM attended to and found on the golden clip, frame after frame.

`tests/golden/portable/memory_policies.json` says how its numbers were made.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from helpers.reference import GOLDEN, encoding_once, module_at
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2, FastSAM2Encoder
from masklet.models.sam2 import CONFIGS, SAM2, build
from masklet.models.sam2.state_dict import expected_shapes
from masklet.models.types import ImageFeatures
from masklet.video import AvailableMemory, MemorySelection, Session, TrackOptions, track_options
from masklet.video.distractors import AnchorRule
from masklet.video.memory_policies import MEMORY_POLICIES

CASES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "portable" / "memory_policies.json").read_text())["cases"]
TIE = 5e-3
"""Object scores closer than this may change places on another machine."""


@dataclass(frozen=True)
class Scores:
    iou: float
    object_score: float
    area: int
    is_anchor: bool
    box_agreement: float | None = None


def history(frames: list[dict[str, Any]]) -> dict[int, Scores]:
    return {
        row["frame"]: Scores(row["iou"], row["object_score"], row["area"], row.get("anchor", False)) for row in frames
    }


def check_selection(selection: MemorySelection, row: dict[str, Any], scores: dict[int, Scores]) -> None:
    """Both attend to the same frames with the same ages, offsets and weights; weights of a tie may be exchanged."""
    assert sorted(selection.spatial) == sorted(map(tuple, row["spatial"])), row["frame"]
    assert sorted(selection.pointers) == sorted(map(tuple, row["pointers"])), row["frame"]
    if "spatial_weights" not in row:
        assert not selection.spatial_weights
        assert not selection.pointer_weights
        return
    for part in ("spatial", "pointer"):
        chosen = getattr(selection, "spatial" if part == "spatial" else "pointers")
        found = dict(
            zip([f for f, _ in chosen], getattr(selection, f"{part}_weights") or [1.0] * len(chosen), strict=True)
        )
        frames = [frame for frame, _ in row["spatial" if part == "spatial" else "pointers"]]
        expected = dict(zip(frames, row[f"{part}_weights"], strict=True))
        np.testing.assert_allclose(sorted(found.values()), sorted(expected.values()), atol=2e-3)
        for first in frames:
            for second in frames:
                if expected[first] > expected[second] and found[first] <= found[second]:
                    assert abs(scores[first].object_score - scores[second].object_score) < TIE, row["frame"]


@pytest.mark.parametrize("name", CASES)
def test_rules_select_the_frames_that_the_authors_code_attended_to(name: str) -> None:
    frames, policy = CASES[name]["frames"], name.split("/")[0]
    scores = history(frames)
    for row in frames:
        before = {frame: each for frame, each in scores.items() if frame < row["frame"]}
        available = AvailableMemory((0,), tuple(before), None, before)
        selection = MEMORY_POLICIES[policy].selector.select(
            row["frame"], available, reverse=False, length=CASES[name]["case"]["frames"]
        )
        check_selection(selection, row, scores)


def test_the_reference_has_what_the_rules_decide() -> None:
    """Frames that are rejected, absent, and anchors: more of these than there are slots."""
    for name, minimums in {
        "sam2long/some_rejected": {"rejected": 5, "absent": 2},
        "dam4sam/often_absent": {"absent": 8},
        "dam4sam/anchors": {"anchor": 5},
        "dam4sam/anchors_then_absent": {"anchor": 2, "absent": 5},
    }.items():
        scores = history(CASES[name]["frames"]).values()
        counts = {
            "rejected": sum(each.iou <= 0.3 for each in scores),
            "absent": sum(each.object_score <= 0 for each in scores),
            "anchor": sum(each.is_anchor for each in scores),
        }
        assert all(counts[what] >= least for what, least in minimums.items()), name


CONFIG = CONFIGS["sam2.1_hiera_tiny"]
Filled = tuple[dict[str, Tensor], Callable[[Tensor], ImageFeatures]]


def build_network(weights: dict[str, Tensor]) -> SAM2:
    model = build(CONFIG, weights)
    model.image_size = 256
    return model


@pytest.fixture(scope="module")
def filled() -> Callable[[str], Filled]:
    """The weights of a salt, and the encoder that they make, which encodes a frame once; kept for the next case."""

    @lru_cache(maxsize=1)
    def fill(salt: str) -> Filled:
        weights = module_at(GOLDEN / "fill.py").fill_state_dict(expected_shapes(CONFIG), salt)
        return weights, encoding_once(FastSAM2Encoder(build_network(weights)))

    return fill


def network(case: dict[str, Any], filled: Filled) -> FastSAM2:
    """The network of a case, whose factors and shifts change heads of the mask decoder and not the image encoder."""
    weights, encode = filled[0].copy(), filled[1]
    changes = [*case.get("factors", {}), *case.get("shifts", {})]
    assert all(name.startswith(("sam_mask_decoder.iou_pre", "sam_mask_decoder.pred_obj")) for name in changes)
    for tensor, factor in case.get("factors", {}).items():
        weights[tensor] = weights[tensor] * factor
    for tensor, shift in case.get("shifts", {}).items():
        weights[tensor] = weights[tensor] + shift
    return FastSAM2(build_network(weights), encode_image=encode)


def expected_mask(row: dict[str, Any]) -> np.ndarray:
    packed = np.frombuffer(zlib.decompress(base64.b64decode(row["mask"])), np.uint8)
    return np.unpackbits(packed).reshape(64, 64).astype(bool)


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", CASES)
def test_tracking_finds_the_masks_that_the_authors_code_found(
    name: str, filled: Callable[[str], Filled], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, frames, policy = CASES[name]["case"], CASES[name]["frames"], name.split("/")[0]
    if "max_agreement" in case:
        rule = AnchorRule(max_agreement=case["max_agreement"])
        monkeypatch.setattr(track_options, "MEMORY_POLICIES", {policy: replace(MEMORY_POLICIES[policy], anchors=rule)})
    clip = module_at(GOLDEN / "portable" / "scene.py").clip(case["frames"])
    options = TrackOptions(memory=policy, retain="all", corrections="sam2", fill_hole_area=0).as_published()  # type: ignore[arg-type]
    if "mask" in case:
        x1, y1, x2, y2 = case["mask"]
        mask = np.zeros(clip.shape[1:3], bool)
        mask[y1:y2, x1:x2] = True
        prompt: dict[str, Any] = {"mask": mask}
    else:
        prompt = {"points": case["points"], "labels": case["labels"]}
    scores = history(frames)
    with Session(network(case, filled(case["salt"])), open_video(clip), options) as session:
        session.add_prompt(1, frame_idx=0, **prompt)
        overlaps = []
        for result, row in zip(session.propagate(0), [None, *frames], strict=True):
            if row is None:
                continue
            one = session.tracker.objects[1]
            state = one.bank[result.frame_idx]
            assert state.is_anchor == row.get("anchor", False), result.frame_idx
            assert state.iou == pytest.approx(row["iou"], abs=1e-2)
            assert state.object_score == pytest.approx(row["object_score"], abs=2e-2)
            assert state.logits_11HW is not None
            found, expected = state.logits_11HW[0, 0].numpy() > 0, expected_mask(row)
            either = (found | expected).sum()
            overlaps.append((found & expected).sum() / either if either else 1.0)
            selection = session.tracker._select_memory(one, result.frame_idx, reverse=False)
            check_selection(selection, row, scores)
    assert min(overlaps) > 0.98
    assert np.mean(overlaps) > 0.995
