"""Corrections of doubted frames, by a model that knows the truth except on some frames."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from masklet.cli.main import run
from masklet.errors import InputError
from masklet.evaluate.doubt_corrections import DoubtOptions, DoubtResult, doubts_report, evaluate_doubts
from masklet.results import Masks, Results

FRAMES, WRONG = 12, (4, 7)
TRUTH = np.zeros((FRAMES, 2, 24, 32), bool)
TRUTH[:, 0, 4:14, 4:14] = TRUTH[:9, 1, 10:20, 18:28] = True


class HalfKnowing:
    """Knows the truth but on frames `WRONG`, until they are corrected; it is its own session, and doubts them."""

    def __init__(self) -> None:
        self.prompted: dict[int, list[Any]] = {}

    def session(self, frames: Any, *, options: Any) -> HalfKnowing:
        assert (len(frames), options.retain) == (FRAMES, "all")
        return self

    def __enter__(self) -> HalfKnowing:
        return self

    def __exit__(self, *error: object) -> None: ...

    def cache_features(self, start: int, stop: int) -> None:
        assert (start, stop) == (0, FRAMES)

    def snapshot(self) -> dict[int, list[Any]]:
        return dict(self.prompted)

    def restore_snapshot(self, snapshot: dict[int, list[Any]]) -> None:
        self.prompted = dict(snapshot)

    def doubts(self, *, check_backward: bool) -> list[Any]:
        named = [t for t in (7, 7, 10, 4) if t != 10 or 7 not in self.prompted]  # 10 is in order once 7 is
        return [SimpleNamespace(frame_idx=t) for t in named]

    def add_object_prompt(self, object_id: int, frame_idx: int, prompt: Any) -> Results:
        self.prompted.setdefault(frame_idx, []).append((object_id, prompt))
        return self.results_at(frame_idx)

    def propagate(self, start: int) -> Iterator[Results]:
        return (self.results_at(t) for t in range(start, FRAMES))

    def results_at(self, t: int) -> Results:
        masks = TRUTH[t].copy()
        if t in WRONG and t not in self.prompted:
            masks[:] = False
        rgb, scores = np.zeros((24, 32, 3), np.uint8), np.ones(2, np.float32)
        return Results(
            rgb, "", Masks(masks), scores, ids=np.array([1, 2], np.int32), classes=np.zeros(2, np.int32), frame_idx=t
        )


CLIP = SimpleNamespace(
    name="small-0", render=lambda: SimpleNamespace(frames_THW3=np.zeros((FRAMES, 24, 32, 3)), masks_TNHW=TRUTH)
)


@pytest.mark.parametrize("correction", ["mask", "clicks"])
def test_correcting_what_is_wrong_gains_and_other_frames_do_not(correction: str) -> None:
    steps: list[None] = []
    model: Any = HalfKnowing()
    result = evaluate_doubts(model, CLIP, DoubtOptions(correction, frames=2), lambda: steps.append(None))  # type: ignore[arg-type]
    assert result.doubt_frames == (7, 4)  # 7 is named again, and is corrected once
    assert result.at_once_frames == (7, 10)
    assert result.even_frames == (4, 8)
    assert len(result.random_frames) == 2
    assert result.before == pytest.approx(9 / 11)
    assert result.even == pytest.approx(10 / 11)
    assert result.at_once == pytest.approx(10 / 11)
    assert result.doubts == 1
    assert result.objects == 2
    assert len(steps) == (4 + 2) * FRAMES


def test_scenarios_weigh_the_same() -> None:
    rows = [DoubtResult(name, 1, 0.5, score, 0.7, 0.6, 0.4, (1,), (1,), (2,), (3,)) for name, score in
            (("twins-0", 1.0), ("twins-1", 0.8), ("fast-0", 0.5))]  # fmt: skip
    report = doubts_report(rows)
    assert (report.clips, report.doubts, report.even) == (3, pytest.approx(0.7), pytest.approx(0.6))


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="frames=0"):
        DoubtOptions(frames=0)
    monkeypatch.setattr("masklet.SAM", lambda model, **_: pytest.fail("a model was read"))
    with pytest.raises(SystemExit):
        run(["eval", "doubts", "--correction", "box"])
    assert "correction='box' is unknown" in capsys.readouterr().err


def test_nothing_is_corrected_when_nothing_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HalfKnowing, "doubts", lambda self, check_backward: [])
    model: Any = HalfKnowing()
    result = evaluate_doubts(model, CLIP)  # type: ignore[arg-type]
    assert result.doubt_frames == result.at_once_frames == ()
    assert result.doubts == result.at_once == result.before
