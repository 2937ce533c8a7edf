"""Frames of a made film, seconds of those behind the first seven, memory at the lengths that are asked for."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from masklet import SAM
from masklet.bench import video, worker
from masklet.bench.video import WARM, VideoJob, made_film, measure_video, places
from masklet.errors import InputError, ModelError

SMALL = VideoJob("small", objects=3, frames=2, picture=(48, 64))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tracker: SAM) -> list[float]:
    """The clock is one second later at each reading; the model is the small one."""
    readings: list[float] = []

    def clock() -> float:
        readings.append(float(len(readings)))
        return readings[-1]

    monkeypatch.setattr(video, "SAM", lambda *_, **__: tracker)
    monkeypatch.setattr(video.time, "perf_counter", clock)
    return readings


def test_frames_behind_the_first_seven_are_counted(steps: list[float]) -> None:
    found = [case for case in measure_video(SMALL).cases if case.unit == "s"]
    assert [(case.name, case.setting) for case in found] == [("a frame", "3 objects, fp32")]
    assert len(found[0].samples) == 2
    assert len(steps) >= 2 * (WARM + 2)


@pytest.mark.usefixtures("steps")
def test_memory_is_read_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([100.0, 101.0])
    monkeypatch.setattr(video, "resident_mb", lambda: next(readings))
    found = measure_video(VideoJob("small", lengths=(2, 4), picture=(48, 64))).cases
    assert [(case.name, case.samples) for case in found] == [
        ("resident memory at frame 2", (100.0,)),
        ("resident memory at frame 4", (101.0,)),
    ]


@pytest.mark.usefixtures("steps")
def test_where_memory_is_not_known_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "resident_mb", lambda: None)
    (case,) = measure_video(VideoJob("small", lengths=(1,), picture=(48, 64))).cases
    assert case.samples == ()
    assert case.note is not None
    assert case.note.startswith("not here: ")


@pytest.mark.parametrize("objects", [1, 2, 5, 64])
def test_every_object_is_a_disc_where_the_click_is(objects: int) -> None:
    size = (240, 320)
    first, second = islice(made_film(size, objects), 2)
    assert (first == next(made_film(size, objects))).all()
    assert (first != second).any()
    middles = [(round(x), round(y)) for x, y in places(size, objects, 0)]
    assert len(set(middles)) == objects
    for x, y in middles:
        disc = first[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert len(np.unique(disc, axis=0)) == 1  # the ground is noise


def test_a_process_of_its_own_answers(tracking_file: Path) -> None:
    job = VideoJob(str(tracking_file), frames=1, image_size=96, threads=1, picture=(48, 64))
    assert worker.ask_video(job).cases[0].name == "a frame"
    with pytest.raises(ModelError, match="sam7"):
        worker.ask_video(VideoJob("sam7"))


def test_what_cannot_be_followed_is_refused() -> None:
    for wrong in ({"objects": 0}, {"objects": 65}, {"frames": 0}):
        with pytest.raises(InputError, match="must be 1 to 64"):
            VideoJob("builtin", **wrong)
