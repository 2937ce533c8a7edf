"""The benchmark of made clips: which clips they are, and that they are measured as videos of DAVIS are.

The fingerprint of a clip is a thumbnail of its first, middle and last frame and the areas of its objects there, in
`synthetic_v1.json`. It is written again, with another version, by: python tests/evaluate/test_synthetic.py
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from masklet import SAM
from masklet.cli.main import run
from masklet.errors import InputError
from masklet.evaluate.semi_supervised_vos import SequenceResult
from masklet.evaluate.synthetic import (
    BENCHMARK_CLIPS,
    VERSION,
    SyntheticClip,
    benchmark_clips,
    evaluate_synthetic,
    synthetic_report,
)
from masklet.synthetic import SCENARIOS, Clip

STORED = Path(__file__).with_name(f"synthetic_v{VERSION}.json")
THUMBNAIL = (16, 9)
TONES, SHARE = 2, 0.03
"""How much a library may round otherwise: tones of a thumbnail, and part of an area."""


def fingerprint(clip: Clip) -> dict[str, Any]:
    moments = (0, len(clip.frames_THW3) // 2, -1)
    small = [cv2.resize(clip.frames_THW3[t], THUMBNAIL, interpolation=cv2.INTER_AREA).mean(-1) for t in moments]
    return {
        "frames": len(clip.frames_THW3),
        "tones": [frame.round().astype(int).ravel().tolist() for frame in small],
        "areas": [clip.masks_TNHW[t].sum((1, 2)).tolist() for t in moments],
    }


def test_the_suite_has_every_difficulty() -> None:
    assert list(dict.fromkeys(scene.scenario for scene in BENCHMARK_CLIPS)) == list(SCENARIOS)
    assert len(BENCHMARK_CLIPS) == 2 * len(SCENARIOS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scene", [scene for scene in BENCHMARK_CLIPS if scene.scenario != "long"], ids=lambda s: s.name
)
def test_a_clip_is_the_one_whose_figures_were_published(scene: SyntheticClip) -> None:
    """And its first frame shows every object, on which a person could tell them."""
    clip = scene.render()
    kept, now = json.loads(STORED.read_text())[scene.name], fingerprint(clip)
    assert now["frames"] == kept["frames"] == scene.num_frames
    assert np.abs(np.subtract(now["tones"], kept["tones"])).max() <= TONES
    assert np.shape(now["areas"]) == np.shape(kept["areas"])
    allowed = 4 + SHARE * np.array(kept["areas"])
    assert (np.abs(np.subtract(now["areas"], kept["areas"])) <= allowed).all()
    assert clip.masks_TNHW[0].any((1, 2)).all()
    assert clip.frames_THW3[0].std() > 15


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_long_clip_is_the_one_whose_figures_were_published(number: int) -> None:
    test_a_clip_is_the_one_whose_figures_were_published(SyntheticClip("long", number))


def test_a_change_would_be_noticed() -> None:
    kept, clip = json.loads(STORED.read_text())["twins-0"], SyntheticClip("twins", 0).render()
    moved = fingerprint(Clip(np.roll(clip.frames_THW3, 8, 2), clip.masks_TNHW))
    assert np.abs(np.subtract(moved["tones"], kept["tones"])).max() > TONES


def test_difficulties_are_chosen_by_name() -> None:
    assert [scene.name for scene in benchmark_clips(["twins", "fast"])] == ["twins-0", "twins-1", "fast-0", "fast-1"]
    assert benchmark_clips() == BENCHMARK_CLIPS
    with pytest.raises(InputError, match="scenario 'slow' is unknown; choose among occlusion, twins"):
        benchmark_clips(["slow"])


def test_every_difficulty_counts_the_same() -> None:
    rows = [
        SequenceResult("twins-0", {1: 1.0, 2: 1.0}, {1: 1.0, 2: 0.0}, 30, 1.0),
        SequenceResult("twins-1", {1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}, 30, 1.0),
        SequenceResult("fast-0", {1: 1.0}, {1: 1.0}, 30, 1.0),
    ]
    report = synthetic_report(rows)
    assert report.version == VERSION
    assert (report.per_scenario["twins"].j, report.per_scenario["twins"].f) == (0.5, 0.25)
    assert (report.mean_metrics.j, report.mean_metrics.f, report.mean_metrics.jf) == (0.75, 0.625, 0.6875)
    assert (report.mean_metrics.objects, report.mean_metrics.frames, report.mean_metrics.fps) == (5, 90, 30)


class Knowing:
    """A tracker that answers with the truth of whatever clip it is shown, found by its first frame."""

    def __init__(self) -> None:
        self.prompts: dict[int, Any] = {}

    def session(self, source: list[Path]) -> Knowing:
        from masklet.evaluate.davis_sequences import DavisSequence, load_ground_truth

        masks = tuple(path.parents[3] / "Annotations" / "480p" / path.parent.name / path.name for path in source)
        self.labels = load_ground_truth(DavisSequence("clip", tuple(source), masks))
        self.video = SimpleNamespace(size=self.labels.shape[1:])
        return self

    def __enter__(self) -> Knowing:
        return self

    def __exit__(self, *problem: object) -> None:
        self.prompts.clear()

    def add_object_prompt(self, object_id: int, frame_idx: int, prompt: Any) -> None:
        self.prompts[object_id] = prompt

    def propagate(self) -> Any:
        from masklet.results import Masks, Results

        ids = np.array(sorted(self.prompts), np.int32)
        for t, labels in enumerate(self.labels):
            yield Results(
                np.zeros((*labels.shape, 3), np.uint8),
                f"{t:05d}.png",
                Masks(np.stack([labels == number for number in ids])),
                np.ones(len(ids), np.float32),
                ids=ids,
                classes=np.zeros(len(ids), np.int32),
                names={0: "object"},
                speed={},
                frame_idx=t,
                object_scores=np.ones(len(ids), np.float32),
                states=("visible",) * len(ids),
            )


@pytest.mark.slow
def test_the_truth_scores_one() -> None:
    steps: list[None] = []
    rows = list(evaluate_synthetic(Knowing(), "box", ["occlusion"], lambda: steps.append(None)))
    assert [row.name for row in rows] == ["occlusion-0", "occlusion-1"]
    report = synthetic_report(rows)
    assert report.mean_metrics.jf == 1
    assert report.presence.frames == 28 * report.mean_metrics.objects
    assert report.presence.correct == report.presence.visible < report.presence.frames  # it always says: in sight
    assert len(steps) == 60


@pytest.mark.slow
def test_the_command_prints_a_line_a_difficulty_and_writes_the_figures(
    tmp_path: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr("masklet.SAM", lambda model, **_: loaded.append(model) or tracker)
    monkeypatch.setattr("masklet.evaluate.synthetic.NUM_FRAMES", 8)
    with pytest.raises(SystemExit) as left:
        run(["eval", "synthetic", "--scenario", "small", "--model", "mine.pt", "--report", str(tmp_path / "out.json")])
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    lines = output.out.splitlines()
    assert [line[:22].strip() for line in lines] == ["", "small", "mean of scenarios", "visible or not: correc"]
    assert loaded == ["mine.pt"]
    stored = json.loads((tmp_path / "out.json").read_text())
    assert (stored["model"], stored["options"]["prompt"], stored["version"]) == ("mine.pt", "mask", VERSION)
    assert lines[2].split()[3:] == lines[1].split()[1:]
    seen = stored["presence"]
    assert seen["frames"] == 6 * stored["mean_metrics"]["objects"]
    shares = (
        f"{seen['correct'] / seen['frames']:.3f} of {seen['frames']} frames",
        f"{seen['visible'] / seen['frames']:.3f})",
    )
    assert all(share in lines[3] for share in shares)
    assert stored["mean_metrics"]["jf"] == stored["per_scenario"]["small"]["jf"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenario", "slow"], "scenario 'slow' is unknown"),
        (["--prompt", "scribble"], "prompt='scribble' is unknown"),
        (["--memory", "sam3"], "memory='sam3' is unknown; choose 'sam2' or 'sam2long' or 'samurai' or 'dam4sam'"),
    ],
)
def test_an_unknown_option_is_named_before_a_model_is_read(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("masklet.SAM", lambda model, **_: pytest.fail("a model was read"))
    with pytest.raises(SystemExit) as left:
        run(["eval", "synthetic", *words])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


if __name__ == "__main__":
    STORED.write_text(json.dumps({scene.name: fingerprint(scene.render()) for scene in BENCHMARK_CLIPS}) + "\n")
