"""MOTS text, read back by the rules of the benchmark tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.frame_results import SAMPLE_FRAMES, box_mask, frame
from masklet.errors import OutputError
from masklet.results import Results
from masklet.writers import SinkOptions, open_sink

reference = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

Read = dict[int, dict[int, tuple[int, np.ndarray]]]


def read(path: Path) -> Read:
    """Read class and mask by frame and id, and check that ids are unique and masks disjoint in each frame."""
    objects_by_frame: Read = {}
    for line in path.read_text().splitlines():
        number, object_id, class_id, height, width, counts = line.split(" ")
        code = {"size": [int(height), int(width)], "counts": counts.encode()}
        objects = objects_by_frame.setdefault(int(number), {})
        assert int(object_id) not in objects
        for _, other in objects.values():
            both = [code, reference.encode(np.asfortranarray(other))]
            assert reference.area(reference.merge(both, intersect=True)) == 0
        objects[int(object_id)] = (int(class_id), reference.decode(code))
    assert list(objects_by_frame) == sorted(objects_by_frame)
    return objects_by_frame


def write(folder: Path, *frames: Results, options: SinkOptions | None = None) -> Read:
    with open_sink("mots", folder, stem="clip", options=options) as sink:
        for results in frames:
            sink.write(results)
    return read(sink.paths[0])


def test_masks_round_trip(tmp_path: Path) -> None:
    written = write(tmp_path, *SAMPLE_FRAMES)
    assert {number: sorted(objects) for number, objects in written.items()} == {0: [1003], 2: [1007], 3: [1007]}
    for number, objects in written.items():
        results = SAMPLE_FRAMES[number]
        for object_id, (class_id, mask) in objects.items():
            assert class_id == 1
            assert results.masks is not None
            assert np.array_equal(mask, results.masks.data[results.ids.tolist().index(object_id - 1000)])


@pytest.mark.filterwarnings("ignore:object 8 of frame 0")
def test_overlapping_masks_are_cut(tmp_path: Path) -> None:
    large, small = box_mask((0, 0, 20, 20)), box_mask((5, 5, 15, 15))
    written = write(tmp_path, frame(0, {8: large, 2: small}))
    assert np.array_equal(written[0][1002][1], small)
    assert np.array_equal(written[0][1008][1], large & ~small)


def test_classes_and_first_frame_number(tmp_path: Path) -> None:
    results = frame(0, classes=np.array([1, 0]), names={0: "car", 1: "pedestrian"})
    written = write(tmp_path, results, options=SinkOptions(mots_first_frame=1))
    assert {object_id: class_id for object_id, (class_id, _) in written[1].items()} == {2003: 2, 1007: 1}


def test_large_ids_are_kept_and_must_be_unique(tmp_path: Path) -> None:
    with open_sink("mots", tmp_path, stem="clip") as sink:
        sink.write(frame(0, {1007: box_mask((1, 1, 5, 5)), 9: box_mask((7, 7, 9, 9))}))
        with pytest.raises(OutputError, match="would both be 1007"):
            sink.write(frame(1, {7: box_mask((1, 1, 5, 5))}))
    assert list(read(sink.paths[0])[0]) == [1007, 1009]


def test_frames_in_any_order_and_written_twice(tmp_path: Path) -> None:
    again = frame(2, {3: box_mask((0, 0, 2, 2))})
    written = write(tmp_path, frame(5), frame(2), frame(0), again, frame(5, {3: box_mask((0, 0, 0, 0))}))
    assert {number: list(objects) for number, objects in written.items()} == {0: [1003, 1007], 2: [1003]}
    assert np.array_equal(written[2][1003][1], box_mask((0, 0, 2, 2)))
