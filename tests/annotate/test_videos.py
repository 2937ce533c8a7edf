"""Videos: detection in some frames, tracking in the others, labels in all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from helpers.annotate_data import Blobs, contents, make_image
from helpers.cli_videos import write_video
from masklet.annotate import AnnotateOptions, Summary, annotate, auto_annotate
from masklet.datasets import open_dataset

if TYPE_CHECKING:
    from masklet import SAM


def reds(rgb: np.ndarray) -> tuple[list[list[int]], list[float], list[int]]:
    """The reddish square of the video, as a box."""
    red = (rgb[..., 0] > 150) & (rgb[..., 1] < 110)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    if not len(rows):
        return [], [], []
    return [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], [0.8], [2]


@pytest.fixture
def mixed(tmp_path: Path, small_video: np.ndarray, tracker: SAM, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a video of ten frames, one that is broken, and an image; the small tracker segments."""
    monkeypatch.setattr("masklet.sam.SAM", lambda *_, **__: tracker)
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_video(folder / "clip.mp4", small_video)
    (folder / "broken.mp4").write_bytes(b"no video")
    Image.fromarray(small_video[0]).save(folder / "photo.png")
    return folder


def label(folder: Path, out: Path, **more: Any) -> Summary:
    return auto_annotate(folder, more.pop("det_model", reds), None, output_dir=out, detect_every=4, **more)


def test_every_frame_has_labels_and_objects_keep_their_ids(mixed: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    def counted(rgb: np.ndarray) -> Any:
        calls.append(1)
        return reds(rgb)

    summary = label(mixed, tmp_path / "out", det_model=counted, formats=("coco", "davis", "yolo"))
    assert len(calls) == 1 + 3  # the image, and frames 0, 4 and 8
    assert summary.images == 11
    assert [Path(failure.path).name for failure in summary.failures] == ["broken.mp4"]
    [path] = (tmp_path / "out/coco/annotations").iterdir()
    content = json.loads(path.read_text())
    files = [image["file_name"] for image in content["images"]]
    assert files[:2] == ["clip/000000.jpg", "clip/000001.jpg"]
    assert len(files) == 11
    frames = {image["id"]: image["file_name"] for image in content["images"]}
    ids = [one["track_id"] for one in content["annotations"] if frames[one["image_id"]].startswith("clip/")]
    assert len(ids) >= 5
    assert set(ids) == {1}
    assert {one["category_id"] for one in content["annotations"]} == {3}
    frame = np.asarray(Image.open(tmp_path / "out/yolo/images/clip/000007.jpg"))
    assert frame.shape == (64, 96, 3)
    assert frame[25, 40, 0] > 150
    assert len(open_dataset(tmp_path / "out/davis").samples) >= 1


def test_progress_is_yielded_per_frame(mixed: Path, tmp_path: Path) -> None:
    options = AnnotateOptions(reds, None, detect_every=4)
    yielded = [progress for progress in annotate(mixed, options, tmp_path / "out") if progress.name == "clip"]
    assert [progress.frame_idx for progress in yielded] == [*range(10), None]
    assert {progress.num_frames for progress in yielded[:-1]} == {10}


@pytest.mark.slow
def test_interrupted_video_is_annotated_again_and_the_rest_is_not(mixed: Path, tmp_path: Path) -> None:
    label(mixed, tmp_path / "complete", formats="coco")
    options = AnnotateOptions(reds, None, detect_every=4, formats=("coco",))
    stream = annotate(mixed, options, tmp_path / "out")
    for progress in stream:
        if progress.frame_idx == 6:
            break
    stream.close()
    summary = label(mixed, tmp_path / "out", formats="coco")
    assert summary.done_before == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "complete")
    assert not list((tmp_path / "out/.masklet").glob("video-*"))


def test_labels_without_formats_are_texts_below_the_video(mixed: Path, tmp_path: Path) -> None:
    label(mixed, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/clip").iterdir()) == [f"{n:06d}.txt" for n in range(10)]


def test_split_keeps_a_video_together(mixed: Path, tmp_path: Path) -> None:
    summary = label(mixed, tmp_path / "out", val_fraction=0.5)
    assert sorted(summary.splits.values()) in ([1, 10], [11])


def test_masks_of_the_detector_are_used(tmp_path: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.sam.SAM", lambda *_, **__: tracker)
    write_video(tmp_path / "clip.mp4", np.stack([make_image(1)] * 3))
    summary = auto_annotate(tmp_path / "clip.mp4", Blobs(), None, detector_masks=True, output_dir=tmp_path / "out")
    assert summary.images == 3
