"""Label folders in the manner of labeling tools: recognized, counted, and converted with a balanced account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from helpers.tool_exports import EXPORTS, OUTLINES, ToolExport, image, mask_of, polygon_xml, voc_polygons, write
from masklet.datasets import (
    DATASET_WRITERS,
    Dataset,
    WriteOptions,
    class_names,
    convert,
    list_items,
    open_dataset,
    open_dataset_writer,
)
from masklet.datasets.account import ObjectAccount, object_class_name
from masklet.datasets.dataset import DataError, Mask
from masklet.errors import SourceError

LOSSLESS = ("coco", "labelme", "cvat")


def iou(one: Mask, other: Mask) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def objects(data: Dataset) -> list[tuple[str, Mask]]:
    found = []
    for sample in data.samples:
        [frame] = sample.read([0])
        found += [(object_class_name(data.names, frame.attributes(n)), frame.masks[n]) for n in frame.masks]
    return found


def convert_counted(data: Dataset, to: str, out: Path) -> ObjectAccount:
    """Convert, and return the account of everything, as the command does."""
    account = ObjectAccount.for_dataset(data)
    with open_dataset_writer(to, out, names=class_names(data), options=WriteOptions(images="link")) as writer:
        for step in convert(data, list_items(data, unique_per_split=writer.unique_per_split), writer):
            assert step.issue is None
    account.merge(writer.account)
    return account


def check_export(root: Path, export: ToolExport, targets: Iterable[str]) -> None:
    """Read the export, convert it to formats, and compare counts and pixels."""
    export.make(root / "in")
    data = open_dataset(root / "in")
    assert (data.data_format, data.issues) == (export.data_format, ())
    before = objects(data)
    assert Counter(name for name, _ in before) == export.counts
    assert min([iou(mask, mask_of(OUTLINES[name])) for name, mask in before if name in OUTLINES], default=1.0) > 0.88
    for to in targets:
        account = convert_counted(data, to, root / to)
        left_out = {rule: sum(counts.values()) for rule, counts in account.left_out.items()}
        assert (left_out, account.broken, account.lost) == (export.left_out, {}, {})
        assert account.source == sum(account.left_out.values(), account.written)
        assert account.written == export.counts
        if to in LOSSLESS and before:
            after = objects(open_dataset(root / to, data_format=to))
            assert [name for name, _ in after] == [name for name, _ in before]
            assert min(iou(a, b) for (_, a), (_, b) in zip(before, after, strict=True)) > 0.98


@pytest.mark.parametrize("number", range(len(EXPORTS)), ids=[export.name for export in EXPORTS])
def test_the_export_of_a_tool_is_read_and_converted(tmp_path: Path, number: int) -> None:
    lossy = sorted(set(DATASET_WRITERS) - set(LOSSLESS))
    check_export(tmp_path, EXPORTS[number], (LOSSLESS[number % 3], lossy[number // 3 % 3]))


@pytest.mark.slow
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.name)
def test_the_export_of_a_tool_is_converted_to_every_format(tmp_path: Path, export: ToolExport) -> None:
    check_export(tmp_path, export, DATASET_WRITERS)


def test_there_are_forty_exports_of_nine_tools() -> None:
    assert len({export.name for export in EXPORTS}) == len(EXPORTS) >= 40
    assert len({export.tool for export in EXPORTS}) >= 9


def test_projects_of_via_and_videos_of_cvat_are_refused_with_the_remedy(tmp_path: Path) -> None:
    region = {"shape_attributes": {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]}}
    project = {"_via_settings": {}, "_via_img_metadata": {"a.jpg9": {"filename": "a.jpg", "regions": [region]}}}
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    for content in (project, project["_via_img_metadata"], header):
        image(tmp_path / "via" / "a.jpg")
        file = write(tmp_path / "via" / ("via.csv" if content is header else "via.json"), content)
        for path in (tmp_path / "via", file):
            with pytest.raises(SourceError, match=r"via\.(json|csv) is a project of VIA.*export as COCO"):
                open_dataset(path)
        file.unlink()
    video = '<track id="0" label="cat"><polygon frame="0" keyframe="1" outside="0" points="1,1;9,1;9,9"/></track>'
    write(tmp_path / "video" / "annotations.xml", f"<annotations><version>1.1</version>{video}</annotations>")
    with pytest.raises(SourceError, match=r"CVAT for video.*export it as CVAT for images"):
        open_dataset(tmp_path / "video")


def test_outlines_of_voc_are_read_one_by_one(tmp_path: Path) -> None:
    voc_polygons(tmp_path)
    file = tmp_path / "annotations" / "a.xml"
    bad = polygon_xml("cat").replace("<y1>7.000</y1>", "<y1>x</y1>")
    file.write_text(file.read_text().replace("<object>", f"{bad}<object>", 1))
    write(tmp_path / "annotations" / "b.xml", "<annotation/>")
    data = open_dataset(tmp_path)
    assert ["b.xml has no image of its name" in issue.reason for issue in data.issues] == [True]
    masks = data.samples[0].read([0])[0].masks
    with pytest.raises(DataError, match=r"a\.xml \(object 1\) has 'x' in its outline"):
        masks[1]
    np.testing.assert_array_equal(masks[2], mask_of(OUTLINES["cat"]))
    write(file, file.read_text().replace("<width>64", "<width>63"))
    with pytest.raises(DataError, match=r"a\.xml \(size\) is 63 x 48"):
        data.samples[0].read([0])
