"""What `masklet batch` wrote becomes masks of a model in a project or a loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.cheap_stages import BrightPixels, make_images
from helpers.loop_model import FRAMES, SquareModel, write_squares
from masklet.data_engine import LoopOptions, LoopState, open_loop, run_loop
from masklet.data_engine.import_batch import ImportedItem, import_batch, is_batch
from masklet.errors import InputError, MaskletWarning, SourceError
from masklet.projects import open_project
from masklet.scale.items import ItemSource
from masklet.scale.run_batch import run_batch


def batch(source: Path, out: Path, task: str = "track", model: str | None = None) -> Path:
    kind = "videos" if task == "track" else "images"
    for _ in run_batch(ItemSource([source], kind), BrightPixels(), out, settings={"task": task, "model": model}):
        pass
    return out


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name, shift in (("a", 0), ("b", 5)):
        write_squares(tmp_path / "clips" / f"{name}.mp4", shift)
    return tmp_path / "clips"


def imported(tmp_path: Path, out: Path) -> list[ImportedItem]:
    with open_project(tmp_path / "p.masklet") as project:
        return list(import_batch(project, out))


@pytest.fixture
def tracks(clips: Path, tmp_path: Path) -> Path:
    """A batch of the clips whose rows have the columns of `VideoTracker`."""
    out = batch(clips, tmp_path / "tracks")
    for file in (out / "items").iterdir():
        row = json.loads(file.read_text())
        row["frames"] = list(range(len(row["masks"])))
        file.write_text(json.dumps(row))
    return out


def test_videos_come_with_the_masks_of_their_model(clips: Path, tracks: Path, tmp_path: Path) -> None:
    assert is_batch(tracks)
    assert not is_batch(clips)
    found = imported(tmp_path, tracks)
    assert [(one.item, one.num_objects, one.num_masks, one.problem) for one in found] == [
        ("a.mp4", 1, FRAMES, ""), ("b.mp4", 1, FRAMES, ""),
    ]  # fmt: skip
    with open_project(tmp_path / "p.masklet") as project:
        [first, _] = project.sources
        masks = project.masks(first)
        with project.open_source(first) as video:
            for frame, mask in zip(video, masks, strict=True):
                np.testing.assert_array_equal(mask.mask, frame.rgb.max(axis=2) > 128)
        assert {(one.author, one.origin, one.is_of_person) for one in masks} == {("builtin", "track", False)}
        assert {one.score for one in masks} == {0.5}
        project.verify(masks[0].object_id, 3)
    again = imported(tmp_path, tracks)
    assert [(one.is_known, one.num_masks) for one in again] == [(True, 0)] * 2
    with open_project(tmp_path / "p.masklet") as project:
        project.undo()  # of the verified mask
        project.undo()  # of all that b.mp4 brought
        assert [len(project.objects(one)) for one in project.sources] == [1, 0]
    assert [one.is_known for one in imported(tmp_path, tracks)] == [True, False]


def test_images_have_the_classes_of_their_rows(tmp_path: Path) -> None:
    out = batch(make_images(tmp_path / "in", 2), tmp_path / "out", "annotate", "sam2.1_t.pt")
    for file in (out / "items").iterdir():
        row = json.loads(file.read_text())
        file.write_text(json.dumps({**row, "names": ["dog"], "classes": [4], "scores": [1.5]}))
    assert [one.num_masks for one in imported(tmp_path, out)] == [1, 1]
    with open_project(tmp_path / "p.masklet") as project:
        assert [cls.name for cls in project.classes] == ["dog"]
        assert {one.class_id for one in project.objects()} == {project.classes[0].id}
        [mask] = project.masks(project.sources[1])
        assert (mask.author, mask.score, mask.frame) == ("sam2.1_t", 1.0, 0)


def test_what_cannot_be_imported_says_why(clips: Path, tracks: Path, tmp_path: Path) -> None:
    (clips / "a.mp4").rename(tmp_path / "moved.mp4")
    write_squares(clips / "b.mp4", 9)
    first, second = imported(tmp_path, tracks)
    assert "there is no file" in first.problem
    assert "has changed since the batch" in second.problem
    (tracks / "items" / "b.mp4.json").write_text('{"item": "b.mp4", "cut')
    assert "is missing" in imported(tmp_path, tracks)[1].problem
    with pytest.raises(SourceError):
        imported(tmp_path, clips)
    with open_project(tmp_path / "p.masklet") as project:
        out = batch(make_images(tmp_path / "in", 1), tmp_path / "out", "everything")
        with pytest.raises(InputError, match="no masks of videos"):
            list(import_batch(project, out, only_videos=True))
        with pytest.raises(InputError, match="has no masks"):
            list(import_batch(project, batch(tmp_path / "in", tmp_path / "embedded", "embed")))


def test_a_loop_reviews_the_masks_of_a_batch(
    clips: Path, tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masklet.sam.SAM", SquareModel)
    write_squares(clips / "b.mp4", 9)
    with pytest.warns(MaskletWarning, match=r"masks of b\.mp4 are left out: .*changed since"):
        state = open_loop(tmp_path / "loop", (), LoopOptions(reviews=100), [tracks])
    assert state.current.labeled == ("a",)
    events = [(event.step, event.text) for event in run_loop(state)]
    assert {text for step, text in events if step == "label"} == {"b", "2 video(s) labeled by squares"}
    waiting = LoopState.read(tmp_path / "loop")
    assert waiting is not None
    assert {one.source for one in waiting.current.queue} == {"a", "b"}
    with open_project(state.project_folder) as project:
        assert {one.author for one in project.masks(project.sources[0])} == {"builtin"}
        assert {one.author for one in project.masks(project.sources[1])} == {"squares"}
    assert open_loop(tmp_path / "loop", (), None, [tracks]).current == waiting.current
