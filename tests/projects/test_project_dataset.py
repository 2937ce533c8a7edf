"""Projects exported to every format and imported again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers.cli_videos import write_video
from helpers.project_files import SIZE, save_image, small_project, square
from masklet.datasets import DATASET_WRITERS, WriteOptions, open_dataset
from masklet.errors import InputError, SourceError
from masklet.projects import Project, open_project

Seen = Counter[tuple[str, str | None, bytes]]


def content(project: Project, *, with_classes: bool) -> Seen:
    """The masks of a project that have pixels, by name of the image or frame, with class."""
    names = {cls.id: cls.name for cls in project.classes}
    classes = {obj.id: names.get(obj.class_id or 0) for obj in project.objects()}
    seen: Seen = Counter()
    for source in project.sources:
        for mask in project.masks(source):
            frame = f"{source.files[mask.frame][:-4]}" if source.files else source.name.split("/")[-1]
            if mask.mask.any():
                seen[(frame, classes[mask.object_id] if with_classes else None, mask.mask.tobytes())] += 1
    return seen


@pytest.mark.parametrize("data_format", DATASET_WRITERS)
def test_a_project_comes_back_from_every_format(tmp_path: Path, data_format: str) -> None:
    steps: list[tuple[int, int]] = []
    with small_project(tmp_path / "a") as project:
        result = project.export(data_format, tmp_path / "out", progress=lambda *step: steps.append(step))
        assert result.issues == ()
        assert result.num_images == 4
        assert result.num_objects == 7
        assert steps == [(number, 4) for number in range(1, 5)]
        expected = content(project, with_classes=data_format != "davis")
    with open_project(tmp_path / "b.masklet", author="bo") as again:
        report = again.import_dataset(tmp_path / "out")
        assert report.issues == ()
        assert report.num_skipped == 0
        assert report.num_masks == 7
        assert report.account.is_balanced
        found = content(again, with_classes=data_format != "davis")
        if data_format == "davis":  # an image is a video of one frame there
            photo = ("00000", None, square().tobytes())
            found[("photo", *photo[1:])] = found.pop(photo)
        assert found == expected
        assert {mask.origin for source in again.sources for mask in again.masks(source)} == {"import"}
        revision = again.revision
        assert again.import_dataset(tmp_path / "out").num_skipped == report.num_sources
        assert again.revision == revision  # nothing was there to do
        assert again.undo()
        assert again.sources == again.classes == []


def test_ids_scores_splits_and_videos_come_back(tmp_path: Path) -> None:
    with small_project(tmp_path / "a") as project:
        other = project.add_source(save_image(tmp_path / "a" / "b" / "x.png", 3), name="b/x", split="val", video="tape")
        project.set_mask(project.add_object(other, 1, track_id=40), 0, square(), score=0.25)
        project.export("coco", tmp_path / "out")
    with open_project(tmp_path / "b.masklet") as again:
        again.import_dataset(tmp_path / "out")
        (source,) = [one for one in again.sources if one.split == "val"]
        assert source.video == "tape"
        assert source.name.endswith("b/x")
        assert again.objects(source)[0].track_id == 40
        assert again.masks(source)[0].score == 0.25


def test_the_frames_of_a_video_file_are_exported_and_imported(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, np.stack([np.full((*SIZE, 3), 40 * number, np.uint8) for number in range(4)]))
    with open_project(tmp_path / "zoo.masklet", durable=False) as project:
        clip = project.add_source(path)
        assert (clip.kind, clip.size) == ("video", SIZE)
        obj = project.add_object(clip)
        for frame, mask in ((1, square()), (3, np.zeros(SIZE, bool))):
            project.set_mask(obj, frame, mask, state="visible" if mask.any() else "lost")
        data = project.dataset()
        assert data.samples[0].frame_indices == (1, 3)
        frames = data.samples[0].read([1, 3])
        assert [list(frame.masks) for frame in frames] == [[1], []]  # out of sight: no mask
        result = project.export("davis", tmp_path / "out")
        assert (result.num_images, result.num_objects, result.issues) == (2, 1, ())


def test_only_what_is_verified_and_images_without_objects(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        project.add_source(save_image(tmp_path / "empty.png", 7))
        project.verify(2, 1)
        project.verify(3, 4)  # its absence
        data = project.dataset(verified_only=True)
        assert [(sample.name, sample.frame_indices) for sample in data.samples] == [("clip", (1, 4))]
        assert [list(frame.masks) for frame in data.samples[0].read([1, 4])] == [[1], []]
        names = [sample.name for sample in project.dataset(include_empty=True).samples]
        assert names == ["photo", "clip", "empty"]
        assert [sample.name for sample in project.dataset([1]).samples] == ["photo"]


def test_dropped_masks_and_missing_files_are_issues_of_an_export(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        project.drop_masks()
        (tmp_path / "photo.png").unlink()
        result = project.export("coco", tmp_path / "out")
        reasons = " ".join(issue.reason for issue in result.issues)
        assert len(result.issues) == 4
        assert "is missing" in reasons
        assert "track the object again" in reasons
        assert result.num_objects == 3  # those of people


def test_another_revision_needs_another_folder(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        options = WriteOptions(images="copy")
        project.export("coco", tmp_path / "out", options=options)
        assert project.export("coco", tmp_path / "out", options=options).num_images == 4
        project.set_mask(1, 0, square(9))
        with pytest.raises(InputError, match="revision"):
            project.export("coco", tmp_path / "out", options=options)
        assert (tmp_path / "out" / "images").is_dir()
        with pytest.raises(InputError, match="coco"):
            project.export("cocoa", tmp_path / "other")


def test_broken_objects_of_a_dataset_cost_only_themselves(tmp_path: Path) -> None:
    with small_project(tmp_path / "a") as project:
        project.export("coco", tmp_path / "out", options=WriteOptions(images="copy"))
    file = next((tmp_path / "out").rglob("*.json"))
    text = file.read_text()
    counts = open_dataset(tmp_path / "out").samples[0].read([0])[0]
    assert len(counts.masks)
    file.write_text(text.replace('"counts"', '"count"', 1))
    with open_project(tmp_path / "b.masklet") as again:
        report = again.import_dataset(tmp_path / "out")
        assert len(report.issues) == 1
        assert report.num_masks == 6
        assert sum(report.account.broken.values()) == 1
        with pytest.raises(SourceError):
            again.import_dataset(tmp_path / "nothing")
