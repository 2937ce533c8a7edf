"""scripts/builtin_data.py: archives become data that the trainer reads, without marked or unclear images."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.scripts import load_script
from masklet.datasets import open_dataset
from masklet.errors import InputError
from masklet.masks import rle

RENDERER = """
import numpy as np
def clip(seed, photos, cutouts, width, height, frames):
    assert [p.rsplit("/", 1)[1] for p in photos] == ["003f38058fbe4fb3_a.jpg"] and len(cutouts) == 1
    images = [np.full((height, width, 3), (0, 0, 90 + seed % 99), np.uint8) for _ in range(frames)]
    masks = []
    for t in range(frames):
        one, two = np.zeros((2, height, width), bool)
        one[2:8, t:t + 6], two[10:16, 4:10] = True, True
        masks.append({"1": one, "2": two} if seed % 2 else {"1": one})
    return images, masks
"""


@pytest.fixture
def script() -> ModuleType:
    return load_script("builtin_data")


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Two sources of images, one cutout, one video of three frames of which the last has no masks."""
    made, box = tmp_path / "made", np.zeros((32, 48), bool)
    box[8:24, 10:30] = True
    image = Image.fromarray(np.full((32, 48, 3), 80, np.uint8))
    for name, stems in (("COCO", ["1"]), ("AnimalsMore", ["003f38058fbe4fb3_a", "35_jpg", "000000000974_jpg"])):
        for part in ("images", "masks"):
            (made / name / part).mkdir(parents=True)
        for stem in stems:
            image.save(made / name / "images" / f"{stem}.jpg")
            (made / name / "masks" / f"{stem}.json").write_text(json.dumps([rle.encode(box)]))
        (made / name / "SOURCE.txt").write_text("License: CC BY 4.0 as stated\n")
    (made / "Caltech101Cutouts" / "cutouts").mkdir(parents=True)
    rgba = np.dstack([np.full((32, 48, 3), 70, np.uint8), box.astype(np.uint8) * 255])
    Image.fromarray(rgba).save(made / "Caltech101Cutouts" / "cutouts" / "cup.webp", lossless=True)
    rgba[box, :3] = 255
    Image.fromarray(rgba).save(made / "Caltech101Cutouts" / "cutouts" / "page.webp", lossless=True)
    clip = made / "RealClips" / "clips" / "desk"
    (clip / "frames").mkdir(parents=True)
    for t in range(3):
        image.save(clip / "frames" / f"{t:05d}.jpg")
    (clip / "masks.json").write_text(json.dumps({"00000": {"8": rle.encode(box)}, "00001": {}}))
    data = tmp_path / "data"
    for part, names in (
        ("stills", ("COCO", "AnimalsMore")),
        ("cutouts", ("Caltech101Cutouts",)),
        ("videos", ("RealClips",)),
    ):
        (data / part).mkdir(parents=True)
        for name in names:
            with tarfile.open(data / part / f"{name}.tar", "w") as tar:
                tar.add(made / name, name)
    (data / "renderer.py").write_text(RENDERER)
    return data


def maker(script: ModuleType, data: Path, out: Path, *, clean: bool = False, clips: int = 0) -> object:
    return script.Maker(data, out, clean, clips, 4, (48, 32), 0, data / "renderer.py")


def test_archives_become_data_without_marked_images(
    script: ModuleType, archives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    maker(script, archives, out).make()
    assert {path.stem for path in (out / "AnimalsMore" / "images").iterdir()} == {
        "003f38058fbe4fb3_a",
        "000000000974_jpg",
    }
    assert not (out / "AnimalsMore" / "masks" / "35_jpg.json").exists()
    cutouts = open_dataset(out / "Caltech101Cutouts")
    assert [sample.name for sample in cutouts.samples] == ["cup"], "page.webp is white"
    [cup] = cutouts.samples[0].read((0,))
    assert cup.masks[1].sum() == 16 * 20
    rim = cv2.dilate(cup.masks[1].astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~cup.masks[1]
    assert abs(cup.rgb[rim].astype(int) - 70).max() < 20, "the color goes on beyond the edge"
    [video] = open_dataset(out / "RealClips").samples
    frames = video.read(video.frame_indices)
    assert [sorted(frame.masks) for frame in frames] == [[1], []], "the third frame has no masks: it is left out"
    assert not (out / "RealClips" / "clips").exists()
    table = capsys.readouterr().out
    assert "AnimalsMore                 2        2        1  CC BY 4.0 as stated" in table
    assert "Rendered             left out: --clips 0 makes none" in table


def test_clean_rights_keep_what_is_clear(script: ModuleType, archives: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    maker(script, archives, out, clean=True).make()
    assert [path.stem for path in (out / "AnimalsMore" / "images").iterdir()] == ["003f38058fbe4fb3_a"]
    assert not (out / "COCO").exists()
    with pytest.raises(InputError, match="made with other options"):
        maker(script, archives, out).make()


def test_rendered_clips_are_the_same_after_a_stop(script: ModuleType, archives: Path, tmp_path: Path) -> None:
    maker(script, archives, tmp_path / "one", clean=True, clips=1).make()
    maker(script, archives, tmp_path / "one", clean=True, clips=2).make()
    maker(script, archives, tmp_path / "two", clean=True, clips=2).make()
    videos = [open_dataset(tmp_path / name / "Rendered").samples for name in ("one", "two")]
    assert [video.name for video in videos[0]] == ["r0000", "r0001"]
    for one, two in zip(*videos, strict=True):
        for frame, same in zip(one.read(one.frame_indices), two.read(two.frame_indices), strict=True):
            assert (frame.rgb == same.rgb).all()
            assert sorted(frame.masks) == [1, 2]
            assert frame.masks[2].sum() == 36
            assert frame.rgb[..., 0].max() > frame.rgb[..., 2].max(), "BGR became RGB"
