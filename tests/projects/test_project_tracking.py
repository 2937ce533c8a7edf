"""Tracking into a project: prompts and masks of people go in, masks come out, and what people made stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.project_files import SIZE, small_project, square
from masklet.errors import InputError, MaskletWarning, StateError
from masklet.media import Video
from masklet.projects import open_project
from masklet.results import Results
from masklet.results.boxes_masks import Masks

if TYPE_CHECKING:
    from masklet import SAM


class OneMaskModel:
    """A model whose every object has the mask of a square on every frame, and that remembers its prompts."""

    def __init__(self) -> None:
        self.prompts: dict[tuple[int, int], dict[str, Any]] = {}

    def info(self) -> SimpleNamespace:
        return SimpleNamespace(name="squares 1")

    def session(self, source: Video) -> OneMaskModel:
        self.frames = [frame.rgb for frame in source]
        return self

    def __enter__(self) -> OneMaskModel:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def add_prompt(self, object_id: int, frame_idx: int, **prompt: Any) -> Results:
        self.prompts[object_id, frame_idx] = prompt
        return next(self.propagate())

    def propagate(
        self, start: int | None = None, stop: int | None = None, *, bidirectional: bool = False
    ) -> Iterator[Results]:
        ids = sorted({object_id for object_id, _ in self.prompts})
        for number, rgb in list(enumerate(self.frames))[start:stop]:
            yield Results(
                rgb,
                "clip",
                Masks(np.stack([square(20)] * len(ids))),
                np.full(len(ids), 0.5, np.float32),
                ids=np.array(ids),
                frame_idx=number,
                states=("visible",) * len(ids),
            )


def test_masks_are_stored_with_their_model_and_people_keep_theirs(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        first, second = project.objects(2)
        project.verify(first, 1)
        project.verify(first, 4)  # its absence
        model = OneMaskModel()
        assert [one.frame_idx for one in project.track(2, model)] == list(range(6))
        masks = {(mask.object_id, mask.frame): mask for mask in project.masks(2)}
        assert [frame for (object_id, frame) in masks if object_id == first.id] == [0, 1, 2, 3, 5]
        assert [masks[second.id, frame].origin for frame in range(6)] == ["edit"] * 3 + ["track"] * 3
        assert np.array_equal(masks[first.id, 1].mask, square(3, 4))
        assert masks[first.id, 1].is_verified
        new = masks[first.id, 5]
        assert (new.author, new.origin, new.score, new.state) == ("squares 1", "track", 0.5, "visible")
        assert model.prompts[first.id, 0] == {"points": ((5.0, 5.0), (30.0, 2.0)), "labels": (1, 0)}
        assert sorted(model.prompts) == [(first.id, 0), (first.id, 1), *((second.id, frame) for frame in range(3))]
        assert np.array_equal(model.prompts[first.id, 1]["mask"], square(3, 4))
        assert len(project.undo()) == 1
        assert project.history(1)[0].summary == "clip: frames 0 to 5"


def test_a_pass_that_is_stopped_keeps_what_it_has_and_is_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masklet.projects.project_tracking.FRAMES_PER_ACTION", 2)
    with small_project(tmp_path) as project:
        before = {(mask.object_id, mask.frame, mask.author) for mask in project.masks(2)}
        frames = project.track(2, OneMaskModel(), objects=[2], author="me")
        for _ in range(5):
            next(frames)
        assert len([mask for mask in project.masks(2) if mask.author == "me"]) == 4  # the fifth is on its way
        frames.close()  # type: ignore[attr-defined]
        assert len([mask for mask in project.masks(2) if mask.author == "me"]) == 5
        assert len(project.undo()) == 3
        assert {(mask.object_id, mask.frame, mask.author) for mask in project.masks(2)} == before


def test_locked_and_deleted_objects_are_left_out(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        project.update_object(3, locked=True)
        frames = project.track(2, OneMaskModel())
        next(frames)
        project.delete_object(2, author="bo")  # while it is tracked
        assert len(list(frames)) == 5
        assert {mask.object_id for mask in project.masks(2)} == {3}
        with pytest.raises(StateError, match="nothing to track"):
            project.track(2, OneMaskModel())
        with pytest.raises(InputError, match="no object 2"):
            project.track(2, OneMaskModel(), objects=[2])


def test_points_off_an_object_refine_the_mask_that_is_there(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        project.set_prompt(2, 2, points=[[1, 1]], labels=[0])
        model = OneMaskModel()
        list(project.track(2, model, objects=[2]))
        assert np.array_equal(model.prompts[2, 2]["mask"], square(4, 4))
        project.set_mask(2, 2, None)
        with pytest.warns(MaskletWarning, match="only points off it"):
            project.track(2, OneMaskModel(), objects=[2])


@pytest.mark.slow
def test_a_real_session_tracks_into_a_project(tmp_path: Path, tracker: SAM, small_video: np.ndarray) -> None:
    from PIL import Image

    for number, rgb in enumerate(small_video):
        (tmp_path / "clip").mkdir(exist_ok=True)
        Image.fromarray(rgb).save(tmp_path / "clip" / f"{number}.png")
    with open_project(tmp_path / "zoo.masklet", durable=False) as project:
        clip = project.add_source(tmp_path / "clip")
        obj = project.add_object(clip)
        project.set_prompt(obj, 0, points=[[20, 25]])
        expected = [one.masks.data for one in tracker.track(tmp_path / "clip", points=[20, 25]) if one.masks]
        list(project.track(clip, tracker))
        masks = project.masks(clip)
        assert len(masks) == 10
        assert masks[0].author == tracker.info().name
        assert clip.size != SIZE
        for mask, one in zip(masks, expected, strict=True):
            assert np.array_equal(mask.mask, one[0])


class RememberingModel(OneMaskModel):
    """As `OneMaskModel`, and it notes what it should remember."""

    def __init__(self) -> None:
        super().__init__()
        self.remembered: dict[tuple[int, int], np.ndarray] = {}

    def remember(self, object_id: int, frame_idx: int, mask: np.ndarray) -> None:
        self.remembered[object_id, frame_idx] = mask


def test_a_pass_is_continued_from_the_masks_before_it(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        first = project.objects(2)[0].id
        project.set_mask(first, 3, square(1), origin="track", score=0.9)
        model = RememberingModel()
        assert [one.frame_idx for one in project.track(2, model, start=4)] == [4, 5]
        assert sorted(model.remembered) == [(first, 1), (first, 2), (first, 3)]  # after its prompt; the other has none
        assert np.array_equal(model.remembered[first, 3], square(1))
        project.set_mask(first, 2, square(5), origin="track", score=0.3)  # unsure: perhaps it went wrong there
        model = RememberingModel()
        list(project.track(2, model, start=4))
        assert sorted(model.remembered) == [(first, 3)]
        project.set_prompt(first, 4, points=[[8, 8]])  # a correction: what was tracked up to it was wrong
        for options in ({}, {"start": 3, "bidirectional": True}, {"start": 4}):
            model = RememberingModel()
            list(project.track(2, model, objects=[first], **options))
            assert model.remembered == {}
