"""The `transformers` package as a second reference for tracking: the same weights, the same video, frame by frame.

Its `Sam2VideoModel` knows nothing of ours but the tensors' names. Of what it does by itself, these things are not what
the published tracker does; the cases here keep clear of them:
- it gives the memory of every object hard edges on a frame on which any object is prompted;
- it does not start from the earlier mask when a tracked frame is corrected;
- it reads the pointer of a mask prompt from the best of three candidates, not from the unambiguous one;
- it cannot pass frames that lie before an object's first prompt.
So a late object has a separate session there. It fills no holes, so ours fills none either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from helpers.reference import GOLDEN, encoding_once, module_at, reference_model
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2, FastSAM2Encoder
from masklet.models.sam2 import SAM2
from masklet.models.sam2.state_dict import to_transformers
from masklet.transforms import preprocess_frame
from masklet.video import Session, TrackOptions

transformers = pytest.importorskip("transformers", reason="transformers (extra 'test') is not installed")

SIDE, FRAMES = 256, 20
LARGEST, MEAN, OVERLAP = 2e-3, 3e-4, 0.999
"""Of the logits' deviation, largest and mean; of masks at the video's size, all frames of an object together."""

pytestmark = [pytest.mark.golden, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@dataclass(frozen=True)
class PromptSpec:
    """One prompt, in pixels of the video; a box is two points with labels 2 and 3."""

    id: int
    frame: int
    points: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]

    def onto(self, session: Session) -> None:
        box = np.ravel(self.points[:2]).tolist() if self.labels[:2] == (2, 3) else None
        rest = 0 if box is None else 2
        points, labels = list(self.points[rest:]), list(self.labels[rest:])
        session.add_prompt(self.id, frame_idx=self.frame, points=points or None, labels=labels or None, box=box)


DISC = PromptSpec(1, 0, ((90, 130),), (1,))
BOX = PromptSpec(2, 0, ((150, 60), (250, 150)), (2, 3))
Tracked = dict[int, dict[int, tuple[np.ndarray, float]]]
"""Id to frame to logits and score of presence."""


class Both:
    """The two trackers with the same weights, and one video; each frame is encoded once by each of them."""

    def __init__(self, name: str, frames: int) -> None:
        self.clip = module_at(GOLDEN / "portable" / "scene.py").clip(frames)
        self.ours = reference_model(name, SIDE, "c")
        self.theirs = their_tracker(self.ours)
        self.encode = encoding_once(FastSAM2Encoder(self.ours))
        self.pixels = torch.cat([preprocess_frame(frame, (SIDE, SIDE)) for frame in self.clip])
        self.cache = self._session().cache

    def track(self, prompts: list[PromptSpec], *, late: tuple[PromptSpec, ...] = (), reverse: bool = False) -> Tracked:
        """Ours; those that are `late` are added when the frame before theirs has come."""
        network = FastSAM2(self.ours, encode_image=self.encode)
        with Session(
            network,
            open_video(list(self.clip)),
            TrackOptions(fill_hole_area=0).as_published(),
        ) as session:
            for one in prompts:
                one.onto(session)
            found: Tracked = {}
            for shown in session.propagate(reverse=reverse):
                for number in shown.ids.tolist():
                    kept = session.tracker.objects[number].bank[shown.frame_idx]
                    assert kept.logits_11HW is not None
                    found.setdefault(number, {})[shown.frame_idx] = (kept.logits_11HW[0, 0].numpy(), kept.object_score)
                for one in late:
                    if one.frame == shown.frame_idx + 1:
                        one.onto(session)
        return found

    def reference(self, prompts: list[PromptSpec], *, reverse: bool = False) -> Tracked:
        """Theirs, all objects in one session."""
        session = self._session()
        for frame in sorted({one.frame for one in prompts}):
            now = [one for one in prompts if one.frame == frame]
            for one in now:
                session.add_point_inputs(session.obj_id_to_idx(one.id), frame, self._tensors(one))
            session.obj_with_new_inputs = [one.id for one in now]
            self.theirs(session, frame_idx=frame)
        start = max(one.frame for one in prompts) if reverse else min(one.frame for one in prompts)
        found: Tracked = {}
        for reply in self.theirs.propagate_in_video_iterator(session, start_frame_idx=start, reverse=reverse):
            scores = reply.object_score_logits.ravel().tolist()
            for number, logits, score in zip(reply.object_ids, reply.pred_masks[:, 0].numpy(), scores, strict=True):
                found.setdefault(number, {})[reply.frame_idx] = (logits, score)
        return found

    def _session(self) -> Any:
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        height, width = self.clip.shape[1:3]
        session = Sam2VideoInferenceSession(
            self.pixels, height, width, dtype=torch.float32, max_vision_features_cache_size=len(self.clip)
        )
        session.cache = getattr(self, "cache", session.cache)
        return session

    def _tensors(self, one: PromptSpec) -> dict[str, torch.Tensor]:
        height, width = self.clip.shape[1:3]
        points = torch.tensor(one.points, dtype=torch.float32) * torch.tensor([SIDE / width, SIDE / height])
        return {"point_coords": points[None, None], "point_labels": torch.tensor(one.labels)[None, None]}


def their_tracker(ours: SAM2) -> Any:
    assert ours.config.memory is not None
    prompts = transformers.Sam2VideoConfig().prompt_encoder_config
    prompts.image_size = SIDE
    config = transformers.Sam2VideoConfig(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=transformers.Sam2HieraDetConfig(image_size=[SIDE, SIDE]),
            backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        ),
        prompt_encoder_config=prompts,
        image_size=SIDE,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
        enable_temporal_pos_encoding_for_object_pointers=ours.config.memory.temporal_pointers,
        enable_occlusion_spatial_embedding=ours.config.memory.absent_embedding,
    )
    theirs = transformers.Sam2VideoModel(config).eval()
    theirs.load_state_dict(to_transformers(ours.state_dict()), strict=True)
    return theirs


@pytest.fixture(scope="module")
def both() -> Both:
    return Both("sam2.1_hiera_tiny", FRAMES)


@pytest.fixture(scope="module")
def two(both: Both) -> Tracked:
    """Theirs, for the disc and the box."""
    return both.reference([DISC, BOX])


@contextmanager
def harder_to_see(both: Both, by: float) -> Iterator[None]:
    """Scores of presence are lower by so much, so that objects get out of sight."""
    biases = (
        both.ours.sam_mask_decoder.pred_obj_score_head.layers[-1].bias,
        both.theirs.mask_decoder.pred_obj_score_head.proj_out.bias,
    )
    with torch.no_grad():
        before = [bias.clone() for bias in biases]
        for bias in biases:
            bias.sub_(by)
        yield
        for bias, old in zip(biases, before, strict=True):
            bias.copy_(old)


def agree(found: Tracked, reference: Tracked) -> None:
    assert {number: sorted(frames) for number, frames in found.items()} == {
        number: sorted(frames) for number, frames in reference.items()
    }
    for number, frames in reference.items():
        order = sorted(frames)
        theirs = np.stack([frames[frame][0] for frame in order])
        mine = np.stack([found[number][frame][0] for frame in order])
        seen = np.array([frames[frame][1] > 0 for frame in order])
        difference = np.abs(mine - theirs) / theirs[seen].std()
        worst = order[int(difference.max((1, 2)).argmax())]
        assert difference.max() < LARGEST, f"object {number}, frame {worst}: {difference.max():.1e}"
        assert difference.mean() < MEAN, f"object {number}: {difference.mean():.1e}"
        assert overlap(mine, theirs) > OVERLAP, f"object {number}: {overlap(mine, theirs)}"
        scores = ([side[number][frame][1] for frame in order] for side in (found, reference))
        np.testing.assert_allclose(*scores, atol=1e-3)


def overlap(mine: np.ndarray, theirs: np.ndarray) -> float:
    """IoU of masks at the video's size, all frames together."""
    a, b = (
        torch.nn.functional.interpolate(torch.from_numpy(x)[:, None], (240, 320), mode="bilinear") > 0
        for x in (mine, theirs)
    )
    return float((a & b).sum() / (a | b).sum())


def test_two_objects_through_seven_memories_and_sixteen_pointers(both: Both, two: Tracked) -> None:
    found = both.track([DISC, BOX])
    agree(found, two)
    areas = [(logits > 0).mean() for logits, _ in found[1].values()]
    assert min(areas) > 0.01
    assert max(areas) < 0.9


def test_an_object_that_is_added_while_another_is_tracked(both: Both, two: Tracked) -> None:
    late = PromptSpec(2, 5, ((150, 110),), (1,))
    agree(both.track([DISC], late=(late,)), {1: two[1]} | both.reference([late]))


def test_backwards_from_the_last_frame(both: Both) -> None:
    prompts = [PromptSpec(7, FRAMES - 1, ((240, 168), (60, 60)), (1, 0))]
    agree(both.track(prompts, reverse=True), both.reference(prompts, reverse=True))


def test_an_object_that_is_prompted_on_two_frames(both: Both) -> None:
    """On the way to the second, its memory is attended to and its pointer, which lies ahead, is not."""
    prompts = [DISC, PromptSpec(1, 10, ((170, 150), (20, 20)), (1, 0))]
    agree(both.track(prompts), both.reference(prompts))


def test_an_object_that_gets_out_of_sight(both: Both) -> None:
    with harder_to_see(both, 0.53):
        found, reference = both.track([DISC]), both.reference([DISC])
    agree(found, reference)
    hidden = [score <= 0 for _, score in found[1].values()]
    assert 3 < sum(hidden) < FRAMES - 3, hidden


def test_the_first_generation() -> None:
    both = Both("sam2_hiera_tiny", 10)
    agree(both.track([DISC, BOX]), both.reference([DISC, BOX]))
