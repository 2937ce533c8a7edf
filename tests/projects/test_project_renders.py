"""Projects exported as overlays, MOTS text, label maps, and one PNG for each object and frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import played, write_video
from helpers.project_files import SIZE, save_image, small_project, square
from masklet.errors import InputError, MaskletWarning
from masklet.masks import rle
from masklet.masks.label_map import davis_palette
from masklet.projects import open_project


def files(folder: Path) -> list[str]:
    return sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*.*") if not one.name.startswith("."))


def test_an_overlay_has_every_frame_of_a_video(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    with small_project(tmp_path / "a") as project:
        result = project.export("overlay", tmp_path / "out", progress=lambda *step: steps.append(step))
        assert (result.num_images, result.num_objects, result.issues) == (7, 7, ())
    assert files(tmp_path / "out") == ["clip_overlay.mp4", "photo_overlay.png"]
    assert played(tmp_path / "out" / "clip_overlay.mp4") == 6
    assert steps[-1] == (7, 7)
    photo = np.asarray(Image.open(tmp_path / "out" / "photo_overlay.png")).astype(int)
    assert (np.abs(photo - 90).sum(-1) > 0)[square()].all()
    assert photo[-1, -1].tolist() == [90, 90, 90]


def test_mots_has_numbers_of_class_and_object(tmp_path: Path) -> None:
    with small_project(tmp_path / "a") as project:
        result = project.export("mots", tmp_path / "out")
    assert files(tmp_path / "out") == ["clip_mots.txt", "photo_mots.txt"]
    lines = [line.split() for line in (tmp_path / "out" / "clip_mots.txt").read_text().splitlines()]
    assert [line[:5] for line in lines[:2]] == [["0", "1001", "1", "24", "32"], ["0", "2002", "2", "24", "32"]]
    assert (rle.decode({"size": list(SIZE), "counts": lines[0][5]}) == square(2, 4)).all()
    assert result.loss.is_lossless == (not (square(4, 4) & square(15, 12)).any())


def test_label_maps_have_the_palette_and_count_what_overlaps(tmp_path: Path) -> None:
    with small_project(tmp_path / "a") as project:
        project.set_mask(3, 0, square(6, 6), origin="edit")  # over the first object
        with pytest.warns(MaskletWarning, match="object 1 of frame 0: the label map keeps IoU 0.57"):
            result = project.export("png", tmp_path / "out")
    assert files(tmp_path / "out") == ["clip/00000.png", "clip/00001.png", "clip/00002.png", "photo.png"]
    image = Image.open(tmp_path / "out" / "clip" / "00000.png")
    labels, palette = np.asarray(image), np.reshape(image.getpalette() or [], (-1, 3))
    assert (labels == 2).sum() + (labels == 1).sum() == (square(2, 4) | square(6, 6)).sum()
    assert (palette[:3] == davis_palette()[:3]).all()
    assert result.loss.objects == 7
    assert result.loss.exact == 6


def test_masks_are_one_lossless_file_for_each_object_and_frame(tmp_path: Path) -> None:
    with small_project(tmp_path / "a") as project:
        project.verify(3, 1)
        assert project.export("masks", tmp_path / "out").loss.is_lossless
        project.export("masks", tmp_path / "checked", verified_only=True)
    names = files(tmp_path / "out")
    assert names == [f"clip/{number}/0000{frame}.png" for number in (1, 2) for frame in range(3)] + ["photo_mask_0.png"]
    assert (np.asarray(Image.open(tmp_path / "out" / "clip/1/00002.png")) == 255 * square(4, 4)).all()
    assert files(tmp_path / "checked") == ["clip/2/00001.png"]


def test_a_video_file_keeps_its_length_and_a_missing_file_is_an_issue(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, np.stack([np.full((*SIZE, 3), 40 * number, np.uint8) for number in range(5)]))
    with open_project(tmp_path / "zoo.masklet", durable=False) as project:
        for number, source in enumerate([project.add_source(path), project.add_source(save_image(tmp_path / "x.png"))]):
            project.set_mask(project.add_object(source), 0, square(number))
        (tmp_path / "x.png").unlink()
        result = project.export("overlay", tmp_path / "out")
        assert [issue.sample for issue in result.issues] == ["x"]
        assert files(tmp_path / "out") == ["clip_overlay.mp4"]
        assert played(tmp_path / "out" / "clip_overlay.mp4") == 5
        with pytest.raises(InputError, match="overlays"):
            project.export("overlays", tmp_path / "other")
