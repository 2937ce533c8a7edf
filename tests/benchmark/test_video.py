"""Frames of the benchmark video: seconds after the warm-up, memory over time."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from masklet import SAM
from masklet.benchmark import machine, subprocess_runner, video
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.video import MEMORY_RISE_CASE, WARMUP_FRAMES, VideoBenchmarkJob, measure_video
from masklet.errors import InputError, ModelError

SMALL = VideoBenchmarkJob("small", objects=3, frames=2, frame_size=(48, 64), precision="fp32")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tracker: SAM) -> list[float]:
    """A clock that advances one second at each reading; the model is the small one."""
    readings: list[float] = []

    def clock() -> float:
        readings.append(float(len(readings)))
        return readings[-1]

    monkeypatch.setattr(video, "SAM", lambda *_, **__: tracker)
    monkeypatch.setattr(tracker, "video_precision", "fp32")
    monkeypatch.setattr(machine.time, "perf_counter", clock)
    return readings


@pytest.mark.slow
def test_frames_after_the_warm_up_are_counted(steps: list[float]) -> None:
    found = [case for case in measure_video(SMALL).cases if case.unit == "s"]
    assert [(case.name, case.setting) for case in found] == [("a frame", "3 objects, fp32")]
    assert len(found[0].samples) == 2
    assert found[0].work is not None
    assert found[0].work.flops > 0
    assert len(steps) >= 2 * (WARMUP_FRAMES + 2)


@pytest.mark.usefixtures("steps")
def test_the_parts_of_a_frame_and_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock counts its readings, so that every part takes whole seconds and all of them the frame."""
    cases = {case.name: case for case in measure_video(replace(SMALL, breakdown=True)).cases}
    parts = [cases[name] for name in ("encode", "track", "remember", "masks at full size", "rest of a frame")]
    assert {(case.setting, case.unit, len(case.samples)) for case in parts} == {("3 objects, fp32", "s", 2)}
    assert all(value > 0 for case in parts for value in case.samples)
    wholes = [sum(values) for values in zip(*(case.samples for case in parts), strict=True)]
    assert wholes == pytest.approx(cases["a frame"].samples)


def memory_cases(
    monkeypatch: pytest.MonkeyPatch, readings: list[float], **options: object
) -> tuple[BenchmarkCase, ...]:
    given = iter(readings)
    monkeypatch.setattr(video, "resident_mb", lambda: next(given))
    return measure_video(replace(SMALL, **options)).cases


@pytest.mark.usefixtures("steps")
def test_memory_is_read_at_these_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory_cases(monkeypatch, [100.0, 101.0, 99.0], memory_at=(2, 8, 10), objects=2)
    assert [(case.name, case.setting, case.samples) for case in found if case.unit == "MB"] == [
        ("resident memory at frame 2", "2 objects, fp32", (100.0,)),
        ("resident memory at frame 8", "2 objects, fp32", (101.0,)),
        ("resident memory at frame 10", "2 objects, fp32", (99.0,)),
        (MEMORY_RISE_CASE, "2 objects, fp32", ()),
    ]
    frames = {case.name: len(case.samples) for case in found if case.unit == "s"}
    assert frames == {"a frame up to frame 8": 1, "a frame up to frame 10": 3}  # the warm-up frames do not count


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize(("last", "word"), [(107.5, "flat: at most 7.5 MB"), (108.5, "NOT FLAT: at most 8.5 MB")])
def test_memory_is_flat_below_the_tolerance(monkeypatch: pytest.MonkeyPatch, last: float, word: str) -> None:
    """A rise before `memory_from_frame` does not count, and a later fall does not help."""
    monkeypatch.setattr(video, "WARMUP_FRAMES", 1)
    case = memory_cases(
        monkeypatch,
        [50.0, 100.0, last, 90.0],
        memory_at=(1, 2, 3, 4),
        memory_from_frame=2,
        memory_tolerance_mb=8,
        objects=1,
    )[-1]
    assert (case.name, case.samples) == (MEMORY_RISE_CASE, (last - 100.0,))
    assert case.note is not None
    assert case.note.startswith(word)


@pytest.mark.usefixtures("steps")
def test_one_reading_gives_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "WARMUP_FRAMES", 1)
    case = memory_cases(monkeypatch, [50.0, 100.0], memory_at=(1, 2), memory_from_frame=2, objects=1)[-1]
    assert (case.samples, case.note) == ((), "unknown: that takes two readings from frame 2 on")


def test_a_session_gives_the_same_results_as_a_live_view(monkeypatch: pytest.MonkeyPatch, tracker: SAM) -> None:
    """It also releases its video, which is generated in another thread."""
    views = [video._timed_frames(tracker, replace(SMALL, api=api)) for api in ("live", "session")]
    for live, session in islice(zip(*views, strict=True), 4):
        assert live.results.ids.tolist() == [1, 2, 3]
        assert (live.results.masks.data == session.results.masks.data).all()
    for view in views:
        view.close()
    assert replace(SMALL, api="session").setting == "3 objects, fp32, session"
    with pytest.raises(InputError, match="api 'hope' is unknown; choose from live, session"):
        replace(SMALL, api="hope")


@pytest.mark.usefixtures("steps")
def test_unknown_memory_has_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "resident_mb", lambda: None)
    case, rise = measure_video(VideoBenchmarkJob("small", memory_at=(1,), frame_size=(48, 64))).cases
    assert rise.samples == ()
    assert case.samples == ()
    assert case.note is not None
    assert case.note.startswith("not here: ")


@pytest.mark.slow
def test_a_published_model_that_is_not_here_has_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "is_downloaded", lambda card: False)
    job = VideoBenchmarkJob("efficienttam_ti_1.pt", frames=1, image_size=64, frame_size=(48, 64), names_model=True)
    monkeypatch.setattr(video, "WARMUP_FRAMES", 1)
    [frame] = [case for case in measure_video(job).cases if case.unit == "s"]
    assert frame.setting == "efficienttam_ti_1, 1 object, fp32"


@pytest.mark.slow
def test_a_separate_process_answers(tracking_file: Path) -> None:
    job = VideoBenchmarkJob(str(tracking_file), frames=1, image_size=96, threads=1, frame_size=(48, 64))
    reported: list[BenchmarkCase] = []
    found = subprocess_runner.run_in_subprocess(job, reported.append)
    assert found.cases[0].name == "a frame"
    assert reported == list(found.cases)
    with pytest.raises(ModelError, match="sam7"):
        subprocess_runner.run_in_subprocess(VideoBenchmarkJob("sam7"))


def test_invalid_numbers_are_refused() -> None:
    for wrong in ({"objects": 0}, {"objects": 65}, {"frames": 0}):
        with pytest.raises(InputError, match="must be 1 to 64"):
            VideoBenchmarkJob("builtin", **wrong)
