"""The published trackers' numbers: every step of every stored scenario, of SAM 2, EdgeTAM and EfficientTAM."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from helpers.reference import GOLDEN, encoding_once, module_at, reference_model
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2, FastSAM2Encoder
from masklet.models.types import ImageFeatures
from masklet.video import Session, TrackOptions

PORTABLE = GOLDEN / "portable"
SHARED = Path(__file__).parents[3] / "shared" / "golden"
AS_IN_SAM2 = TrackOptions(retain="all", corrections="sam2", fill_hole_area=0).as_published()
NAMES = ("sam2.1_hiera_tiny", "sam2_hiera_tiny")


class ScenarioPlayer:
    """Plays scenarios on a session and compares every stored number."""

    def __init__(self, network: FastSAM2, stored: Path, clip: np.ndarray) -> None:
        self.network, self.clip = network, clip
        with np.load(stored) as file:
            self.stored = dict(file)
        self.seen: set[str] = set()

    def play(self, scenario: str, steps: list[list[Any]], options: TrackOptions = AS_IN_SAM2) -> None:
        with Session(self.network, open_video(self.clip), options) as session:
            for number, step in enumerate(steps):
                self.one(session, f"{scenario}/{number}", step)

    def one(self, session: Session, where: str, step: list[Any]) -> None:
        kind = step[0]
        if kind == "remove":
            session.remove_object(step[1])
        elif kind == "propagate":
            _, start, count, reverse = step
            stop = start - count - 1 if reverse else min(start + count + 1, len(self.clip))
            for frame in session.propagate(start, stop if stop >= 0 else None, reverse=reverse):
                self.compare(session, f"{where}-propagate{'-reverse' * reverse}", frame.frame_idx)
        else:
            _, frame, number, *prompt = step
            session.add_prompt(number, frame_idx=frame, **self.prompt_arguments(kind, prompt))
            self.compare(session, f"{where}-{kind}", frame)

    def prompt_arguments(self, kind: str, prompt: list[Any]) -> dict[str, Any]:
        if kind == "points":
            return {"points": prompt[0], "labels": prompt[1]}
        if kind == "box":
            return {"box": prompt[0]}
        x1, y1, x2, y2 = prompt[0]
        mask = np.zeros(self.clip.shape[1:3], bool)
        mask[y1:y2, x1:x2] = True
        return {"mask": mask}

    def compare(self, session: Session, where: str, frame: int) -> None:
        for number, one in session.tracker.objects.items():
            key = f"{where}/frame{frame}/obj{number}"
            kept = one.bank.get(frame)
            if kept is None and f"{key}/pointer" not in self.stored:
                continue
            assert kept is not None, key
            self.seen.add(key)
            expected = self.stored[f"{key}/low_res_logits"].astype(np.float32)
            found = kept.logits_11HW[0, 0].float().numpy()
            difference = np.abs(found - expected)
            assert difference.max() < 2e-2 * expected.std(), key
            assert difference.mean() < 2e-3 * expected.std(), key
            assert overlap(found, expected, self.clip.shape[1:3]) > 0.999, key
            assert kept.object_score == pytest.approx(float(self.stored[f"{key}/object_score"][0]), abs=2e-3), key
            np.testing.assert_allclose(kept.pointer_1C[0].numpy(), self.stored[f"{key}/pointer"], atol=1e-2)

    def all_seen(self) -> None:
        assert self.seen == {key.rsplit("/", 1)[0] for key in self.stored}


def overlap(found: np.ndarray, expected: np.ndarray, size: tuple[int, ...]) -> float:
    """IoU of two masks at the size of the frame."""
    both = torch.from_numpy(np.stack([found, expected]))[:, None]
    first, second = interpolate(both, size, mode="bilinear")[:, 0] > 0
    either = int((first | second).sum())
    return 1.0 if either == 0 else int((first & second).sum()) / either


@pytest.fixture(scope="module")
def networks() -> Callable[[str, int, str], FastSAM2]:
    """The network of a name, a size and a salt, which encodes a frame once; the last one is kept for the next test.

    SAM 2 and 2.1 have the same tensors in their image encoder, so with one salt the same features.
    """
    kept: list[tuple[int, dict[str, torch.Tensor], Callable[[torch.Tensor], ImageFeatures]]] = []

    @lru_cache(maxsize=1)
    def network(name: str, image_size: int, salt: str) -> FastSAM2:
        model = reference_model(name, image_size, salt)
        parts = ("image_encoder.", "sam_mask_decoder.conv_s")
        weights = {key: value for key, value in model.state_dict().items() if key.startswith(parts)}
        if not (kept and kept[0][0] == image_size and same_tensors(kept[0][1], weights)):
            kept[:] = [(image_size, weights, encoding_once(FastSAM2Encoder(model)))]
        return FastSAM2(model, encode_image=kept[0][2])

    return network


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", NAMES[::-1])
def test_every_portable_scenario(name: str, networks: Callable[[str, int, str], FastSAM2]) -> None:
    scenarios = json.loads((PORTABLE / "video_scenarios.json").read_text())
    clip = module_at(PORTABLE / "scene.py").clip()
    checked = ScenarioPlayer(networks(name, 256, "c"), PORTABLE / f"video_{name}.npz", clip)
    for scenario, steps in scenarios.items():
        checked.play(scenario, steps)
    checked.all_seen()


@pytest.mark.slow
@pytest.mark.golden
def test_a_session_that_retains_recent_frames_agrees_too(networks: Callable[[str, int, str], FastSAM2]) -> None:
    """Forward, then back from the same frame: what the second pass attends to is still stored.

    It follows the portable scenarios, whose last network has encoded these frames.
    """
    name = NAMES[0]
    scenarios = json.loads((PORTABLE / "video_scenarios.json").read_text())
    clip = module_at(PORTABLE / "scene.py").clip()
    checked = ScenarioPlayer(networks(name, 256, "c"), PORTABLE / f"video_{name}.npz", clip)
    little = TrackOptions(retain="recent", fill_hole_area=0).as_published()
    for scenario in ("two_objects_forward", "late_prompt_both_ways", "add_and_remove", "mask_prompt"):
        checked.play(scenario, scenarios[scenario], little)
    assert len(checked.seen) > 40


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", ["efficienttam_ti", "efficienttam_ti_1", "efficienttam_ti_2"])
def test_every_scenario_of_efficienttam(name: str, networks: Callable[[str, int, str], FastSAM2]) -> None:
    scenarios = json.loads((PORTABLE / "video_scenarios.json").read_text())
    clip = module_at(PORTABLE / "scene.py").clip()
    checked = ScenarioPlayer(networks(name, 256, "h"), PORTABLE / f"video_{name}.npz", clip)
    for scenario, steps in scenarios.items():
        checked.play(scenario, steps)
    checked.all_seen()


@pytest.mark.slow
@pytest.mark.golden
def test_every_scenario_of_edgetam(networks: Callable[[str, int, str], FastSAM2]) -> None:
    """The `correction` as SAM 2's newer tracker makes it, which tracks a corrected frame again; EdgeTAM's does not."""
    scenarios = json.loads((PORTABLE / "video_scenarios.json").read_text())
    clip, network = module_at(PORTABLE / "scene.py").clip(), networks("edgetam", 256, "c")
    checked = ScenarioPlayer(network, PORTABLE / "video_edgetam.npz", clip)
    correction = scenarios.pop("correction")
    for scenario, steps in scenarios.items():
        checked.play(scenario, steps)
    checked.play("correction", correction[:3])  # up to the click
    left = {key.rsplit("/", 1)[0] for key in checked.stored} - checked.seen
    assert {key.split("/")[1] for key in left} == {"3-propagate"}
    assert {key.split("/")[0] for key in left} == {"correction"}
    by_object = ScenarioPlayer(network, PORTABLE / "video_edgetam_per_object.npz", clip)
    by_object.play("correction", correction)
    by_object.all_seen()


@pytest.mark.slow
@pytest.mark.golden
def test_windows_of_edgetams_perceiver(networks: Callable[[str, int, str], FastSAM2]) -> None:
    """At 256 pixels every window is one cell; at 512 windows have four."""
    scenarios = json.loads((PORTABLE / "video_scenarios.json").read_text())
    clip = module_at(PORTABLE / "scene.py").clip()
    checked = ScenarioPlayer(networks("edgetam", 512, "c"), PORTABLE / "video_edgetam_512.npz", clip)
    checked.play("late_prompt_both_ways", scenarios["late_prompt_both_ways"])
    checked.all_seen()


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the photographs beside the project")
@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_on_photographs(name: str, networks: Callable[[str, int, str], FastSAM2]) -> None:
    clip = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted((SHARED / "frames").iterdir())])
    scenarios = json.loads((SHARED / "video_scenarios.json").read_text())
    checked = ScenarioPlayer(networks(name, 512, ""), SHARED / f"video_{name}_512.npz", clip)
    for scenario, steps in scenarios.items():
        checked.play(scenario, steps)
    checked.all_seen()
