"""Tracking jobs as a library: events, early ends, resuming, and invalid settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers.cli_videos import FRAMES, played, write_video, written
from masklet import SAM
from masklet.errors import InputError, PromptError, SourceError
from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points
from masklet.video import AutoTrackStream, Detection, Session, job_files
from masklet.video.jobs import TrackingJob, first_tracked_frame, track_everything_to_files, track_to_files
from masklet.writers import SINKS, read_tracks

PROMPTS = {
    (1, 0): ObjectPrompt(points=Points(np.array([[20, 25]]), np.array([1]))),
    (2, 3): ObjectPrompt(box=Box(30, 10, 70, 50)),
}


@pytest.fixture
def video(tmp_path: Path, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """video.mp4 with ten frames of 96 x 64, in the current folder; the state is saved after every frame."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_files, "SAVE_EVERY_FRAMES", 1)
    monkeypatch.setattr(job_files, "SAVE_INTERVAL_FACTOR", 0)
    write_video(tmp_path / "video.mp4", small_video)
    return Path("video.mp4")


def run(job: TrackingJob, frames: int = FRAMES) -> list[int | None]:
    """Run a job for so many tracked frames, close it, and return their numbers."""
    numbers: list[int | None] = []
    with job:
        for progress in job:
            if progress.stage == "track":
                numbers.append(progress.frame_idx)
            if len(numbers) == frames:
                break
    return numbers


def test_every_format_is_a_sink() -> None:
    assert sorted(job_files.TRACK_FORMATS) == sorted(SINKS)


def test_a_job_yields_an_event_per_frame_and_ends_with_a_summary(tracker: SAM, video: Path) -> None:
    backward: list[int] = []
    job = track_to_files(
        tracker, video, PROMPTS, "out", ["coco", "video"], bidirectional=True, on_backward_frame=backward.append
    )
    with job:
        events = list(job)
    assert [event.frame_idx for event in events] == list(range(FRAMES))
    assert [event.frames_done for event in events] == list(range(1, FRAMES + 1))
    assert {event.num_frames for event in events} == {FRAMES}
    assert all(len(event.states) == 2 for event in events)
    assert events[-1].fps > 0
    assert backward == [3, 2, 1, 0]
    summary = job.summary
    assert summary.frames == FRAMES
    assert summary.paths == (Path("out/video_overlay.mp4"), Path("out/video_masks.jsonl"))
    assert list(summary.object_states) == [1, 2]
    assert 1 <= len(summary.doubts) <= 3
    assert {one.object_id for one in summary.doubts} <= {1, 2}
    assert not {0, 3} & {one.frame_idx for one in summary.doubts if one.object_id == {0: 1, 3: 2}.get(one.frame_idx)}
    assert all(sum(states.values()) == FRAMES for states in summary.object_states.values())
    assert (summary.resumable, summary.missing_frames, summary.dropped_frames) == (False, None, 0)


def test_a_job_that_is_closed_early_finishes_its_files_and_resumes(tracker: SAM, video: Path) -> None:
    job = track_to_files(tracker, video, PROMPTS, "out", ["coco", "video"])
    assert run(job, 4) == [0, 1, 2, 3]
    assert job.summary.resumable
    assert played(Path("out/video_overlay.mp4")) == 4
    resumed = track_to_files(tracker, video, PROMPTS, "out", ["coco", "video"], resume=True)
    with resumed:
        events = list(resumed)
    assert [event.stage for event in events] == ["notice", *["restore"] * 4, *["track"] * 6]
    assert resumed.summary.frames == FRAMES
    assert len(run(track_to_files(tracker, video, PROMPTS, "at_once", ["coco", "video"]), 99)) == FRAMES
    assert written(Path("out")) == written(Path("at_once"))


def test_an_error_finishes_the_files_and_is_raised(tracker: SAM, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    propagate = Session.propagate

    def broken(self: Session, *given: object, **options: object) -> Iterator[object]:
        yield from list(propagate(self, *given, **options))[:3]  # type: ignore[arg-type]
        raise SourceError("the video is broken")

    monkeypatch.setattr(Session, "propagate", broken)
    job = track_to_files(tracker, video, PROMPTS, "out", ["coco"])
    with pytest.raises(SourceError, match="the video is broken"):
        run(job)
    assert job.summary.frames == 3
    assert job.summary.resumable
    assert [record.frame_idx for record in read_tracks("out/video_masks.jsonl")] == [0, 1, 2]


@pytest.mark.parametrize("columns", [(20, 60), (30, 60)])
def test_a_job_with_another_mask_does_not_resume(tracker: SAM, video: Path, columns: tuple[int, int]) -> None:
    def prompts(first: int, last: int) -> dict[tuple[int, int], ObjectPrompt]:
        mask = np.zeros((64, 96), bool)
        mask[10:50, first:last] = True
        return {(1, 0): ObjectPrompt(mask=MaskPrompt(mask))}

    run(track_to_files(tracker, video, prompts(20, 60), "out", ["coco"]), 2)
    job = track_to_files(tracker, video, prompts(*columns), "out", ["coco"], resume=True)
    if columns == (20, 60):
        assert run(job, 99) == list(range(2, FRAMES))
        return
    with pytest.raises(InputError, match="other prompts"):
        run(job)


def test_a_job_of_another_model_does_not_resume(tracker: SAM, video: Path) -> None:
    run(track_to_files(tracker, video, PROMPTS, "out", description={"model": "a.pt"}), 2)
    with pytest.raises(InputError, match=r"model 'a.pt', now 'b.pt'"):
        run(track_to_files(tracker, video, PROMPTS, "out", description={"model": "b.pt"}, resume=True))


def test_invalid_settings_are_refused_before_the_model_is_needed(video: Path, small_video: np.ndarray) -> None:
    model = None  # never opened
    with pytest.raises(PromptError, match="no prompts"):
        track_to_files(model, video, {}, "out")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no format 'vidoe'.*did you mean 'video'"):
        track_to_files(model, video, PROMPTS, "out", ["vidoe"])  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"gone\.mp4"):
        track_to_files(model, "gone.mp4", PROMPTS, "out")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="come once"):
        track_to_files(model, iter(small_video), PROMPTS, "out", resume=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="first prompt is on frame 3"):
        track_to_files(model, iter(small_video), {(2, 3): PROMPTS[2, 3]}, "out")  # type: ignore[arg-type]


def test_the_first_frame_depends_on_the_direction() -> None:
    assert first_tracked_frame(PROMPTS) == 0
    assert first_tracked_frame(PROMPTS, reverse=True) == 3
    assert first_tracked_frame({(2, 3): PROMPTS[2, 3]}) == 3
    assert first_tracked_frame({(2, 3): PROMPTS[2, 3]}, bidirectional=True) == 0
    assert first_tracked_frame(PROMPTS, start=5) == 5


def test_everything_is_tracked_to_files(tracker: SAM, video: Path) -> None:
    def detect(rgb: np.ndarray) -> list[Detection]:
        return [Detection(0.9, mask=rgb[..., 0].astype(int) - rgb[..., 1] > 100)]

    def open_stream(source: object, *, start: int | None, stop: int | None) -> AutoTrackStream:
        return tracker.track(source, detector=detect, start=start, stop=stop)

    job = track_everything_to_files(open_stream, video, "out", ["coco"], stop=6)  # type: ignore[arg-type]
    assert run(job) == [0, 1, 2, 3, 4, 5]
    summary = job.summary
    assert summary.paths == (Path("out/video_masks.jsonl"), Path("out/video_tracks.json"))
    assert summary.history is not None
    assert len(summary.history) == 1
    assert summary.num_masks == 6
