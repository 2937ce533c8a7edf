"""Rounds of a data engine: label, review, train, and what is remembered between the steps."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.loop_model import FRAMES, SquareModel, write_squares
from masklet import SAM
from masklet.data_engine import LoopOptions, LoopState, open_loop, run_loop
from masklet.data_engine.review_queue import build_queue, open_entries
from masklet.data_engine.simulated_reviewer import SimulatedReviewer
from masklet.data_engine.train_round import is_held_out, score_model, train_model
from masklet.datasets import open_dataset
from masklet.errors import InputError, StateError
from masklet.masks.rle import decode
from masklet.projects import open_project

OPTIONS = LoopOptions(reviews=8, val_fraction=0.0, train_steps=1)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> type[SquareModel]:
    monkeypatch.setattr("masklet.sam.SAM", SquareModel)
    return SquareModel


@pytest.fixture
def truth(tmp_path: Path) -> dict[str, np.ndarray]:
    return {name: write_squares(tmp_path / f"{name}.mp4", shift) for name, shift in (("a", 0), ("b", 5))}


@pytest.fixture
def state(model: type[SquareModel], truth: dict[str, np.ndarray], tmp_path: Path) -> LoopState:
    return open_loop(tmp_path / "loop", [tmp_path / f"{name}.mp4" for name in truth], OPTIONS)


def texts(state: LoopState, **options: bool) -> list[str]:
    return [f"{event.step}: {event.text}" for event in run_loop(state, **options) if event.total is None]


def review(state: LoopState, truth: dict[str, np.ndarray]) -> SimulatedReviewer:
    reviewer = SimulatedReviewer(SquareModel(), truth)
    with open_project(state.project_folder) as project:
        reviewer.review(project, state.current.queue)
    return reviewer


def test_a_round_stops_for_people_and_goes_on_after_them(state: LoopState, truth: dict[str, np.ndarray]) -> None:
    folder = state.folder
    assert texts(state) == ["label: 2 video(s) labeled by squares"]
    waiting = LoopState.read(folder)
    assert waiting is not None
    assert waiting.current.step == "review"
    [event] = run_loop(waiting)
    assert (event.step, event.done, event.total) == ("review", 0, 8)
    review(waiting, truth)
    done = texts(waiting)
    assert done[0] == "review: 8 of 8 mask(s) were reviewed"
    assert "is the model of the next round (not measured" in done[1]
    finished = LoopState.read(folder)
    assert finished is not None
    assert [one.step for one in finished.rounds] == ["finished"]
    assert (finished.current.number, finished.current.step) == (2, "label")
    assert finished.current.model == str(folder / "round-01" / "train" / "model.safetensors")
    assert texts(finished)[0] == "label: 2 video(s) labeled by trained squares"


def test_the_doubtful_mask_is_in_the_queue(state: LoopState) -> None:
    list(run_loop(state))
    queue = LoopState.read(state.folder).current.queue
    doubted = {(one.source, one.frame) for one in queue if "uncertain mask" in one.reasons}
    assert doubted & {(name, frame) for name in ("a", "b") for frame in (6, 7, 8)}
    assert [one.score for one in queue] == sorted((one.score for one in queue), reverse=True)
    with open_project(state.project_folder) as project:
        again = build_queue(project, replace(OPTIONS, selection="random"), 1)
        assert again == build_queue(project, replace(OPTIONS, selection="random"), 1)
        assert again != build_queue(project, replace(OPTIONS, selection="random"), 2)


def test_labeling_resumes_with_the_video_that_was_stopped(state: LoopState) -> None:
    for event in run_loop(state):
        if event.text == "b":
            break
    stopped = LoopState.read(state.folder)
    assert stopped.current.labeled == ("a",)
    assert {event.text for event in run_loop(stopped) if event.step == "label" and event.total} == {"b"}
    with open_project(state.project_folder) as project:
        for source in project.sources:
            assert len(project.objects(source)) == 2
            assert len(project.masks(source)) == 2 * FRAMES


def test_what_people_verified_stays_and_prompts_the_next_model(state: LoopState, truth: dict[str, np.ndarray]) -> None:
    list(run_loop(state))
    reviewer = review(LoopState.read(state.folder), truth)
    assert reviewer.clicks >= 8
    with open_project(state.project_folder) as project:
        before = {key for source in project.sources for key in project.verified(source)}
        assert open_entries(project, LoopState.read(state.folder).current.queue) == []
    list(run_loop(LoopState.read(state.folder)))
    list(run_loop(LoopState.read(state.folder)))
    with open_project(state.project_folder) as project:
        assert before == {key for source in project.sources for key in project.verified(source)}
        authors = {one.author for source in project.sources for one in project.masks(source) if not one.is_of_person}
        assert authors == {"trained squares"}


def test_a_deleted_object_counts_as_reviewed(state: LoopState) -> None:
    list(run_loop(state))
    queue = LoopState.read(state.folder).current.queue
    with open_project(state.project_folder) as project:
        project.delete_object(queue[0].object_id)
        assert queue[0] not in open_entries(project, queue)


def test_training_needs_verified_masks(state: LoopState) -> None:
    list(run_loop(state))
    for _ in range(2):  # the second time too: nothing of the first is taken for data
        with pytest.raises(StateError, match="no verified mask"):
            list(run_loop(LoopState.read(state.folder), skip_review=True))


def test_a_model_that_is_worse_is_left_out(
    state: LoopState, truth: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.8, 0.7])
    monkeypatch.setattr(sys.modules["masklet.data_engine.run_loop"], "score_model", lambda *_: next(scores))
    list(run_loop(state))
    review(LoopState.read(state.folder), truth)
    assert "is worse and is left out (mean IoU 0.800 before, 0.700 after)" in texts(LoopState.read(state.folder))[1]
    assert LoopState.read(state.folder).current.model is None


def test_masklets_have_their_provenance_and_open_as_sav(state: LoopState, truth: dict[str, np.ndarray]) -> None:
    list(run_loop(state))
    review(LoopState.read(state.folder), truth)
    list(run_loop(LoopState.read(state.folder)))
    folder = state.folder / "masklets"
    document = json.loads((folder / "a_manual.json").read_text())
    assert document["masklet_num"] == len(document["masklet_provenance"]) == len(document["masklet"][0])
    verified = [one for masklet in document["masklet_provenance"] for one in masklet["verified"]]
    assert {one["person"] for one in verified} == {"simulated"}
    assert {name for masklet in document["masklet_provenance"] for name in masklet["models"]} == {"squares"}
    data = open_dataset(folder, data_format="sav")
    [sample] = [one for one in data.samples if one.name.endswith("a")]
    assert sample.frame_indices == (0, 4, 8)
    frames = sample.read([4])
    stored = [decode(code) for code in document["masklet"][1]]
    assert np.array_equal(frames[0].masks[1], stored[0])


def test_videos_are_held_out_by_their_content(state: LoopState) -> None:
    with open_project(state.project_folder) as project:
        assert not any(is_held_out(one, 0.0) for one in project.sources)
        assert all(is_held_out(one, 1.0) for one in project.sources)


def test_the_score_is_of_verified_masks_of_held_out_videos(
    tracker: SAM, state: LoopState, truth: dict[str, np.ndarray]
) -> None:
    options = replace(OPTIONS, val_fraction=0.9999)
    with open_project(state.project_folder) as project:
        assert score_model(project, tracker, options) is None
        source = project.sources[0]
        obj = project.add_object(source)
        project.set_mask(obj, 3, truth[source.name][3, 0])
        assert score_model(project, tracker, options) is None
        project.verify(obj, 3)
        score = score_model(project, tracker, options)
    assert score is not None
    assert 0 <= score <= 1


@pytest.mark.slow
def test_a_model_learns_from_verified_masks(
    state: LoopState, truth: dict[str, np.ndarray], tracking_file: Path, tmp_path: Path
) -> None:
    options = replace(OPTIONS, train_steps=2, image_size=128)
    with open_project(state.project_folder) as project:
        source = project.sources[0]
        obj = project.add_object(source)
        for frame in (0, 5):
            project.set_mask(obj, frame, truth[source.name][frame, 0])
            project.verify(obj, frame)
        file = train_model(project, SAM(tracking_file), tmp_path / "round", options)
    assert file.is_file()
    assert SAM(file).info().name


def test_a_folder_without_videos_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos yet"):
        open_loop(tmp_path / "loop")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "loop.json").write_text("[]")
    with pytest.raises(InputError, match="no file of a data engine"):
        open_loop(tmp_path / "loop")
