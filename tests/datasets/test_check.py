"""Dataset statistics, issues of a check, and the contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import (
    BOX,
    HEIGHT,
    RING,
    WIDTH,
    codes,
    label_map,
    labeled_video,
    native,
    sav,
    text,
    write_image,
)
from masklet.datasets import (
    DatasetStats,
    check_dataset,
    compute_stats,
    inspect_frames,
    open_dataset,
    save_contact_sheet,
)
from masklet.datasets.check import ValueRange
from masklet.errors import OutputError

AREA = HEIGHT * WIDTH


def test_stats_of_images_match_a_count_by_hand(tmp_path: Path) -> None:
    native(tmp_path)
    write_image(tmp_path / "images" / "large.jpg", size=(80, 90))
    text(tmp_path / "masks" / "large.json", [])
    text(tmp_path / "masks" / "b.json", codes([BOX, np.zeros_like(BOX), BOX]))
    (tmp_path / "images" / "a2.jpg").write_bytes(b"")
    text(tmp_path / "masks" / "alone.json", [])
    data = open_dataset(tmp_path)
    assert compute_stats(data, inspect_frames(data)) == DatasetStats(
        data_format="native",
        num_images=4,
        num_videos=0,
        num_frames=4,
        num_annotated=4,
        num_read=3,
        num_objects=4,
        objects_per_frame=ValueRange(0, 2, 2),
        sizes=((HEIGHT, WIDTH), (HEIGHT, WIDTH), (80, 90)),
        median_area_fraction=pytest.approx(BOX.sum() / AREA),  # type: ignore[arg-type]
        num_empty=1,
        num_broken_files=2,
    )
    assert [issue.sample for issue in check_dataset(data)] == ["alone", "a2"]


def test_an_object_of_a_video_counts_once(tmp_path: Path) -> None:
    maps = {0: label_map(ids=(1, 0)), 5: label_map(), 10: label_map(ids=(0, 0))}
    labeled_video(tmp_path, "dog", maps, 12)
    data = open_dataset(tmp_path)
    stats = compute_stats(data, inspect_frames(data))
    assert (stats.num_videos, stats.num_images, stats.num_frames, stats.num_annotated, stats.num_read) == (
        1,
        0,
        12,
        3,
        3,
    )
    assert (stats.num_objects, stats.objects_per_frame, stats.num_empty) == (2, ValueRange(0, 1, 2), 1)
    video = open_dataset(sav(tmp_path / "sav"))
    stats = compute_stats(video, inspect_frames(video))
    assert (
        stats.num_videos,
        stats.num_frames,
        stats.num_annotated,
        stats.num_objects,
        stats.num_broken_files,
    ) == (1, 13, 4, 3, 0)


def test_frame_stride_counts_over_all_samples(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        labeled_video(tmp_path, name, {n: label_map() for n in range(5)}, 5)
    data = open_dataset(tmp_path)
    reports = list(inspect_frames(data, frame_stride=3))
    assert [(frame.sample, frame.frame_idx) for frame in reports] == [("ant", 0), ("ant", 3), ("bee", 1), ("bee", 4)]
    assert reports[0].areas == {1: BOX.sum(), 2: RING.sum()}
    assert reports[0].size == (HEIGHT, WIDTH)
    assert compute_stats(data, reports).num_annotated == 10


def test_videos_are_read_in_batches_and_only_the_broken_frame_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masklet.datasets.check.MAX_BATCH_BYTES", 4 * AREA * 3)
    labeled_video(tmp_path, "ant", {n: label_map() for n in range(10)}, 10)
    (tmp_path / "JPEGImages" / "ant" / "00006.jpg").write_bytes(b"?")
    data = open_dataset(tmp_path)
    reports = list(inspect_frames(data))
    assert [frame.frame_idx for frame in reports if frame.size] == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert [issue.file.name for frame in reports for issue in frame.issues] == ["00006.jpg"]


def test_stats_without_a_readable_frame(tmp_path: Path) -> None:
    native(tmp_path, ["a"])
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    data = open_dataset(tmp_path)
    stats = compute_stats(data, inspect_frames(data))
    assert (stats.sizes, stats.median_area_fraction, stats.objects_per_frame, stats.num_broken_files) == (
        (),
        None,
        None,
        1,
    )


# the contact sheet -------------------------------------------------------------------------------------------------


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_contact_sheet_is_a_grid_of_frames(tmp_path: Path) -> None:
    data = open_dataset(native(tmp_path, [f"{n}" for n in range(9)]))
    few = pixels(save_contact_sheet(data, tmp_path / "out" / "few.png", count=3))
    more = pixels(save_contact_sheet(data, tmp_path / "more.png"))
    assert few.shape[1] < more.shape[1]
    assert few.shape[0] < more.shape[0]
    assert len(np.unique(few.reshape(-1, 3), axis=0)) > 500


def test_contact_sheets_draw_masks_and_mark_broken_samples_red(tmp_path: Path) -> None:
    from masklet.datasets.contact_sheet import ERROR_COLOR

    data = open_dataset(native(tmp_path, ["a"]))
    painted = pixels(save_contact_sheet(data, tmp_path / "painted.png"))
    text(tmp_path / "masks" / "a.json", [])
    bare = pixels(save_contact_sheet(data, tmp_path / "bare.png"))
    changed = (painted != bare).any(axis=2)
    fraction = (BOX | RING).sum() / AREA
    assert changed[: changed.shape[0] - 40].sum() == pytest.approx(fraction * 300 * 200, rel=0.1)
    assert not (bare == ERROR_COLOR).all(axis=2).any()
    text(tmp_path / "masks" / "a.json", "")
    assert (pixels(save_contact_sheet(data, tmp_path / "broken.png")) == ERROR_COLOR).all(axis=2).any()


def test_videos_have_several_frames_and_a_sheet_is_written_atomically(tmp_path: Path) -> None:
    from masklet.datasets.contact_sheet import _even_indices, _select_frames

    labeled_video(tmp_path, "ant", {n: label_map() for n in range(10)}, 10)
    data = open_dataset(tmp_path)
    assert [number for _, number in _select_frames(data.samples, 4)] == [1, 3, 6, 8]
    assert [number for _, number in _select_frames(data.samples, 1)] == [5]
    assert _even_indices(2, 24) == [0, 1]
    with pytest.raises(OutputError, match="no image format"):
        save_contact_sheet(data, tmp_path / "sheet.txt")
    assert not list(tmp_path.glob("*sheet*"))
