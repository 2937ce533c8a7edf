"""Synthetic clips on disk: complete or not at all, made once, readable as DAVIS videos."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.datasets import open_dataset
from masklet.errors import InputError, OutputError
from masklet.synthetic import SCENARIOS, Clip, ExportOptions, ProceduralSource, write_clips
from masklet.synthetic.export import save_clip
from masklet.synthetic.sources import AssetSource

OPTIONS = ExportOptions(size=(64, 96), frames=8)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The clips that were made; generators are replaced by a fast one that draws a moving square."""
    made: list[tuple[str, int]] = []
    known = dict(SCENARIOS)

    def make_generator(name: str) -> Callable[..., Clip]:
        def make(seed: int, number: int, size: tuple[int, int], frames: int, assets: AssetSource) -> Clip:
            made.append((name, number))
            return plain(size, frames, seed + number)

        make.default_frames = known[name].default_frames  # type: ignore[attr-defined]
        return make

    monkeypatch.setattr("masklet.synthetic.export.SCENARIOS", {name: make_generator(name) for name in known})
    return made


def plain(size: tuple[int, int], frames: int, shade: int = 0) -> Clip:
    images = np.full((frames, *size, 3), 40 + shade, np.uint8)
    masks = np.zeros((frames, 2, *size), bool)
    for t in range(frames):
        masks[t, 0, 10:30, 5 + t : 25 + t] = True
        masks[t, 1, 40:50, 40:60] = t != 3
    images[masks[:, 0]], images[masks[:, 1]] = (200, 30, 30), (30, 30, 200)
    return Clip(images, masks)


def names(root: Path, kind: str = "JPEGImages") -> list[str]:
    return sorted(path.name for path in (root / kind / "480p").iterdir())


def test_clips_are_read_as_davis_videos(tmp_path: Path) -> None:
    clip = SCENARIOS["reentry"](0, 0, (64, 96), 8, ProceduralSource())
    [stored] = write_clips(tmp_path, ExportOptions(size=(64, 96), frames=8, lossless=True), 1, ["reentry"])
    assert [path.name for path in stored.frames] == [f"{t:05d}.png" for t in range(8)]
    assert all((np.asarray(Image.open(path)) == clip.frames_THW3[t]).all() for t, path in enumerate(stored.frames))
    dataset = open_dataset(tmp_path)
    assert dataset.data_format == "davis"
    [video] = dataset.samples
    assert video.name.endswith("reentry-0000")
    for t, frame in enumerate(video.read(range(8))):
        assert (frame.rgb == clip.frames_THW3[t]).all()
        for n, mask in enumerate(clip.masks_TNHW[t]):
            assert (frame.masks[n + 1] == mask).all() if mask.any() else not np.any(frame.masks.get(n + 1, False))


def test_scenarios_alternate_and_options_are_stored(tmp_path: Path, calls: list[tuple[str, int]]) -> None:
    names = [stored.name for stored in write_clips(tmp_path, OPTIONS, 3, ["twins", "small"])]
    assert names == ["twins-0000", "small-0000", "twins-0001"]
    assert calls == [("twins", 0), ("small", 0), ("twins", 1)]
    assert (tmp_path / "ImageSets" / "2017" / "train.txt").read_text().split() == sorted(names)
    settings = json.loads((tmp_path / "synth.json").read_text())
    assert (settings["seed"], settings["size"], settings["frames"], settings["data"]) == (0, [96, 64], 8, "drawn")
    label = Image.open(tmp_path / "Annotations" / "480p" / "twins-0000" / "00003.png")
    assert label.mode == "P"
    assert set(np.unique(np.asarray(label))) == {0, 1}


def test_second_run_makes_only_missing_clips(tmp_path: Path, calls: list[tuple[str, int]]) -> None:
    list(write_clips(tmp_path, OPTIONS, 2))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    calls.clear()
    again = list(write_clips(tmp_path, OPTIONS, 3))
    assert [stored.created for stored in again] == [False, False, True]
    assert calls == [("reentry", 0)]
    assert all(path.stat().st_mtime_ns == mtime for path, mtime in before.items())


def test_interrupted_clip_is_made_again(
    tmp_path: Path, calls: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, remaining = Image.Image.save, [20]

    def interrupted(self: Image.Image, *args: object, **options: object) -> None:
        remaining[0] -= 1
        if remaining[0] < 0:
            raise KeyboardInterrupt
        save(self, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(write_clips(tmp_path, OPTIONS, 2))
    assert names(tmp_path) == names(tmp_path, "Annotations") == ["occlusion-0000"]
    assert not list(tmp_path.glob(".making*"))
    assert [stored.created for stored in write_clips(tmp_path, OPTIONS, 2)] == [False, True]


def test_annotations_without_images_are_overwritten(tmp_path: Path) -> None:
    """A run killed between the two moves leaves annotations without images."""
    (tmp_path / "Annotations" / "480p" / "a").mkdir(parents=True)
    (tmp_path / "Annotations" / "480p" / "a" / "old.png").touch()
    stored = save_clip(tmp_path, "a", plain((64, 64), 8))
    assert len(stored.frames) == len(stored.masks) == 8


def test_other_settings_are_refused(tmp_path: Path, calls: list[tuple[str, int]]) -> None:
    list(write_clips(tmp_path, OPTIONS, 1))
    with pytest.raises(InputError, match="clips made with seed 0, not 1; use the same options"):
        list(write_clips(tmp_path, ExportOptions(seed=1, size=(64, 96), frames=8), 1))


def test_other_videos_are_not_touched(tmp_path: Path, calls: list[tuple[str, int]]) -> None:
    (tmp_path / "JPEGImages" / "480p" / "bear").mkdir(parents=True)
    with pytest.raises(InputError, match="videos that are not synthetic"):
        list(write_clips(tmp_path, OPTIONS, 1))
    assert calls == []


def test_unknown_scenario_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no scenario 'twin'; there are .*bodies: did you mean 'twins'\?"):
        list(write_clips(tmp_path, OPTIONS, 1, ["twin"]))
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_reported(tmp_path: Path, calls: list[tuple[str, int]]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        list(write_clips(tmp_path / "file", OPTIONS, 1))


def test_clips_of_an_earlier_run_are_resumed(tmp_path: Path, calls: list[tuple[str, int]]) -> None:
    """The content of synth.json is part of the format: a run resumes with the document that earlier versions wrote."""
    (tmp_path / "synth.json").write_text(
        '{"made_by": "masklet synth", "version": 1, "seed": 0, "size": [96, 64], "frames": 8, "lossless": false, '
        '"data": "drawn"}'
    )
    assert [stored.name for stored in write_clips(tmp_path, OPTIONS, 1, ["twins"])] == ["twins-0000"]
    assert calls == [("twins", 0)]


def test_a_list_of_clips_that_was_changed_is_kept(tmp_path: Path, calls: list[tuple[str, int]]) -> None:
    list(write_clips(tmp_path, OPTIONS, 1, ["twins"]))
    path = tmp_path / "ImageSets/2017/train.txt"
    path.write_text("chosen by hand\n")
    with pytest.raises(OutputError, match=r"train\.txt was not written by masklet, or was changed since, and is kept"):
        list(write_clips(tmp_path, OPTIONS, 2, ["twins"]))
    assert path.read_text() == "chosen by hand\n"
    list(write_clips(tmp_path, OPTIONS, 2, ["twins"], overwrite=True))
    assert path.read_text() == "twins-0000\ntwins-0001\n"
    (tmp_path / ".masklet.sqlite").unlink()  # as an earlier version leaves the folder
    assert len(list(write_clips(tmp_path, OPTIONS, 3, ["twins"]))) == 3


def test_masks_of_others_are_kept(tmp_path: Path, calls: list[tuple[str, int]]) -> None:
    path = tmp_path / "Annotations/480p/twins-0000/00000.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"by hand")
    with pytest.raises(InputError, match="has videos that are not synthetic"):
        list(write_clips(tmp_path, OPTIONS, 1, ["twins"]))
    assert path.read_bytes() == b"by hand"
