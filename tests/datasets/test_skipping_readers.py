"""A reader that skips a record of the source is found out by the account, whose count is made where files are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from helpers.dataset_files import coco, native, pngs, sa1b, videos, yolo
from helpers.labeling_tool_files import cvat, labelme, voc
from helpers.tool_exports import EXPORTS, cvat_voc
from masklet.cli.check_data import app as check_app
from masklet.cli.convert import convert as convert_command
from masklet.datasets import open_dataset
from masklet.datasets.account import UNLISTED_CLASS_NAME, ObjectAccount
from masklet.datasets.dataset import LazyMasks, Mask
from masklet.datasets.formats import coco as coco_format
from masklet.datasets.formats import labelme as labelme_format

convert_app = typer.Typer()
convert_app.command()(convert_command)


class SkippingMasks(LazyMasks):
    """The masks of a reader that loses the first object of every image."""

    def __init__(self, decoders: Mapping[int, Callable[[], Mask]], *others: object, **counts: int) -> None:
        super().__init__(dict(list(decoders.items())[1:]), *others, **counts)  # type: ignore[arg-type]


def unlisted(root: Path) -> int:
    """What the account of all images has that no reader lists, and no rule leaves out."""
    data, account = open_dataset(root), ObjectAccount()
    for sample in data.samples:
        for frame in sample.read(sample.frame_indices):
            account.merge(ObjectAccount.for_masks(frame.masks, data.names))
    assert account.is_balanced is False
    return account.source[UNLISTED_CLASS_NAME]


@pytest.mark.parametrize(
    ("make", "module", "count"),
    [
        (coco, "formats.coco", 2),
        (yolo, "formats.yolo", 2),
        (labelme, "mask_decoding", 2),
        (cvat, "mask_decoding", 2),
        (voc, "formats.voc", 2),
        (pngs, "formats.png_masks", 2),
        (videos, "label_maps", 6),
        (native, "mask_decoding", 3),
        (sa1b, "mask_decoding", 2),
    ],
)
def test_a_skipped_record_is_in_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], module: str, count: int
) -> None:
    make(tmp_path)
    assert unlisted(tmp_path) == 0
    monkeypatch.setattr(f"masklet.datasets.{module}.LazyMasks", SkippingMasks)
    assert unlisted(tmp_path) == count


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.name)
def test_every_record_of_every_export_is_listed(tmp_path: Path, export) -> None:
    export.make(tmp_path)
    data = open_dataset(tmp_path)
    for sample in data.samples:
        masks = sample.read([0])[0].masks
        assert isinstance(masks, LazyMasks)
        assert masks.num_records == len(masks) + len(masks.left_out) + masks.num_merged


def test_convert_says_what_a_reader_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelme(tmp_path / "in", ["a"])
    merge_groups = labelme_format.merge_groups
    monkeypatch.setattr(labelme_format, "merge_groups", lambda shapes, *others: merge_groups(shapes[1:], *others))
    out = CliRunner().invoke(convert_app, [str(tmp_path / "in"), str(tmp_path / "out"), "--to", "coco"]).stdout
    assert "nothing was lost" not in out
    assert "1 of 2 objects came through; lost: 1" in out
    assert ["(not", "listed)", "1", "0", "1"] in [line.split() for line in out.splitlines()]
    out = CliRunner().invoke(check_app, ["check", str(tmp_path / "in")]).stdout
    assert ["(not", "listed)", "1", "0", "1"] in [line.split() for line in out.splitlines()]


def test_annotations_of_coco_that_are_of_no_image_and_no_issue_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco(tmp_path)
    assert open_dataset(tmp_path).issues == ()
    add_annotation = coco_format._FileContents.add_annotation

    def add_some(contents: coco_format._FileContents, value: dict[str, int], start: int, end: int) -> None:
        if value["id"] not in (1, 3):
            add_annotation(contents, value, start, end)

    monkeypatch.setattr(coco_format._FileContents, "add_annotation", add_some)
    [issue] = open_dataset(tmp_path).issues
    assert "has 2 annotation(s) that are of no image and no issue" in issue.reason
    assert issue.objects == {UNLISTED_CLASS_NAME: 2}


def test_boxes_of_voc_without_a_map_are_counted(tmp_path: Path) -> None:
    cvat_voc(tmp_path)
    (tmp_path / "Annotations" / "damaged.xml").write_text("<annotation")
    assert ObjectAccount.for_dataset(open_dataset(tmp_path)).left_out == {"box": {"cat": 2, "dog": 1}}
    (tmp_path / "ImageSets" / "Segmentation").mkdir()
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    assert ObjectAccount.for_dataset(open_dataset(tmp_path, split="val")).left_out == {}
    out = CliRunner().invoke(convert_app, [str(tmp_path), str(tmp_path.parent / "out"), "--to", "coco"]).stdout
    assert "2 of 5 objects came through; left out: 3 (box)" in out
