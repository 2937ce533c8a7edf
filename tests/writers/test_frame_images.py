"""PNG files of a video: ids and masks survive the round trip, images of other programs are not lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.frame_results import SAMPLE_FRAMES, box_mask, empty, frame
from masklet.errors import OutputError
from masklet.masks.label_map import davis_palette
from masklet.writers import open_sink


def test_pixels_are_object_ids(tmp_path: Path) -> None:
    with open_sink("png", tmp_path, stem="clip") as sink:
        for results in SAMPLE_FRAMES:
            sink.write(results)
    for results in SAMPLE_FRAMES:
        with Image.open(sink.paths[0] / f"{results.frame_idx:05d}.png") as image:
            assert image.mode == "P"
            assert image.getpalette() == davis_palette().ravel().tolist()
            pixels = np.array(image)
        for number, mask in zip(results.ids, () if results.masks is None else results.masks.data, strict=True):
            assert np.array_equal(pixels == number, mask)
        assert set(np.unique(pixels)) <= {0, *results.ids.tolist()}


def test_frames_with_ids_over_255_are_16_bit(tmp_path: Path) -> None:
    with open_sink("png", tmp_path, stem="clip") as sink:
        sink.write(frame(0, {255: box_mask((1, 1, 4, 4))}))
        sink.write(frame(1, {255: box_mask((1, 1, 4, 4)), 65535: box_mask((8, 8, 9, 9))}))
    for name, mode, ids in (("00000.png", "P", [0, 255]), ("00001.png", "I;16", [0, 255, 65535])):
        with Image.open(sink.paths[0] / name) as image:
            assert image.mode == mode
            assert np.unique(np.array(image)).tolist() == ids


@pytest.mark.filterwarnings("ignore:object 8 of frame 0")
def test_smaller_of_two_overlapping_masks_is_kept(tmp_path: Path) -> None:
    with open_sink("png", tmp_path, stem="clip") as sink:
        sink.write(frame(0, {2: box_mask((5, 5, 15, 15)), 8: box_mask((0, 0, 20, 20))}))
    pixels = np.array(Image.open(sink.paths[0] / "00000.png"))
    assert np.array_equal(pixels == 2, box_mask((5, 5, 15, 15)))
    assert (pixels == 8).sum() == 300


def test_mask_files_keep_overlap_and_hidden_objects(tmp_path: Path) -> None:
    objects = {0: box_mask((0, 0, 20, 20)), 12: box_mask((5, 5, 15, 15)), -3: box_mask((0, 0, 0, 0))}
    with open_sink("masks", tmp_path, stem="clip") as sink:
        sink.write(frame(100000, objects))
        sink.write(empty(2))
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert files == ["clip/-3/100000.png", "clip/0/100000.png", "clip/12/100000.png"]
    for number, mask in objects.items():
        with Image.open(tmp_path / f"clip/{number}/100000.png") as image:
            assert image.mode == "L"
            assert np.array_equal(np.array(image), mask * np.uint8(255))


@pytest.mark.parametrize("name", ["png", "masks"])
def test_only_files_of_an_earlier_run_are_replaced(name: str, tmp_path: Path) -> None:
    foreign = tmp_path / "clip" / "00077.png"
    note = tmp_path / "clip" / "3" / "note.png"
    for path in (foreign, note):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    for number in (5, 9):
        with open_sink(name, tmp_path, stem="clip") as sink:
            sink.write(frame(number))
    kept = sorted(path.name for path in tmp_path.rglob("*.png"))
    ours = ["00009.png"] * (2 if name == "masks" else 1)
    assert kept == sorted([*ours, "00077.png", "note.png"])


@pytest.mark.parametrize("name", ["png", "masks"])
def test_append_keeps_an_earlier_run(name: str, tmp_path: Path) -> None:
    for number in (5, 9):
        with open_sink(name, tmp_path, stem="clip", append=True) as sink:
            sink.write(frame(number))
    assert {path.name for path in tmp_path.rglob("*.png")} == {"00005.png", "00009.png"}


@pytest.mark.parametrize(("name", "folder"), [("png", "clip_labels"), ("masks", "clip_masks")])
@pytest.mark.parametrize("pass_source", [True, False])
def test_source_images_are_not_replaced(name: str, folder: str, pass_source: bool, tmp_path: Path) -> None:
    """The stem of a frame folder is its name, and the output folder may be its parent."""
    source = tmp_path / "clip"
    source.mkdir()
    Image.new("RGB", (37, 24)).save(source / "00000.png")
    before = (source / "00000.png").read_bytes()
    results = frame(0)
    object.__setattr__(results, "path", "elsewhere.png" if pass_source else str(source / "00000.png"))
    with open_sink(name, tmp_path, stem="clip", source=source if pass_source else None) as sink:
        sink.write(results)
    assert sink.paths == [tmp_path / folder]
    assert os.listdir(source) == ["00000.png"]
    assert (source / "00000.png").read_bytes() == before


def test_source_image_among_output_files_is_not_replaced(tmp_path: Path) -> None:
    with open_sink("png", tmp_path, stem="clip") as sink:
        sink.write(frame(0))
        Image.new("RGB", (37, 24)).save(tmp_path / "clip" / "00001.png")
        results = frame(1)
        object.__setattr__(results, "path", str(tmp_path / "clip" / "00001.png"))
        with pytest.raises(OutputError, match="is not replaced"):
            sink.write(results)
    with Image.open(tmp_path / "clip" / "00001.png") as image:
        assert image.mode == "RGB"


def test_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "clip").write_text("")
    with open_sink("png", tmp_path, stem="clip") as sink, pytest.raises(OutputError, match="clip"):
        sink.write(frame(0))
