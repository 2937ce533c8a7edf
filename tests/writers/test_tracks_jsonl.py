"""Coco lines: lossless, complete after a crash, and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.frame_results import HEIGHT, SAMPLE_FRAMES, WIDTH, box_mask, frame
from masklet.errors import InputError
from masklet.results import Results
from masklet.writers import FrameRecord, open_sink, read_tracks, tracked_frames, truncate_tracks


def write(folder: Path, *frames: Results, append: bool = False) -> Path:
    with open_sink("coco", folder, stem="clip", append=append) as sink:
        for results in frames:
            sink.write(results)
    return sink.paths[0]


def frame_indices(path: Path) -> list[int]:
    return [record.frame_idx for record in read_tracks(path)]


def assert_equal_results(actual: Results, expected: Results) -> None:
    assert (actual.frame_idx, actual.time, actual.orig_shape) == (
        expected.frame_idx,
        expected.time,
        expected.orig_shape,
    )
    assert np.array_equal(actual.ids, expected.ids)
    assert np.array_equal(actual.classes, expected.classes)
    assert np.array_equal(actual.scores, expected.scores)
    assert expected.masks is not None
    assert actual.masks is not None
    assert np.array_equal(actual.masks.data, expected.masks.data)
    if len(expected):
        assert np.array_equal(actual.object_scores, expected.object_scores)
        assert actual.states == expected.states


def test_results_round_trip(tmp_path: Path) -> None:
    records = list(read_tracks(write(tmp_path, *SAMPLE_FRAMES)))
    assert len(records) == len(SAMPLE_FRAMES)
    for record, expected in zip(records, SAMPLE_FRAMES, strict=True):
        assert_equal_results(record.to_results(expected.orig_img), expected)


def test_random_floats_masks_and_classes_round_trip(tmp_path: Path) -> None:
    noise = np.random.default_rng(3)
    objects = {number: noise.random((31, 53)) > noise.random() for number in (-5, 0, 70000)}
    expected = frame(
        9,
        objects,
        time=1 / 3,
        object_scores=noise.normal(size=3).astype(np.float32) * 1e-7,
        classes=np.array([2, 0, 2], np.int32),
        names={0: "cup", 2: 'a "dog"'},
    )
    [record] = read_tracks(write(tmp_path, expected))
    actual = record.to_results(expected.orig_img, "clip.mp4")
    assert_equal_results(actual, expected)
    assert (actual.names, actual.path) == (expected.names, "clip.mp4")


def test_unknown_values_stay_unknown(tmp_path: Path) -> None:
    expected = frame(0, object_scores=None, states=None, time=None)
    [record] = read_tracks(write(tmp_path, expected))
    actual = record.to_results(expected.orig_img)
    assert (actual.object_scores, actual.states, actual.time) == (None, None, None)


def test_numbers_that_json_cannot_represent(tmp_path: Path) -> None:
    object_scores = np.array([-np.inf, 2.5], np.float32)
    path = write(tmp_path, frame(0, object_scores=object_scores, time=float("nan")))
    line = json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(text))
    assert [entry["presence"] for entry in line["objects"]] == [None, 2.5]
    [record] = read_tracks(path)
    actual = record.to_results(frame(0).orig_img)
    assert record.time is None
    assert actual.object_scores is not None
    assert np.isnan(actual.object_scores[0])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_pycocotools_reads_the_lines(tmp_path: Path) -> None:
    reference = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    lines = [json.loads(line) for line in write(tmp_path, *SAMPLE_FRAMES).read_text().splitlines()]
    for line, expected in zip(lines, SAMPLE_FRAMES, strict=True):
        assert list(line) == ["frame", "time", "size", "objects"]
        assert line["size"] == [HEIGHT, WIDTH]
        masks = () if expected.masks is None else expected.masks.data
        for entry, mask in zip(line["objects"], masks, strict=True):
            assert {"id", "state", "presence", "score", "bbox", "area", "segmentation"} <= set(entry)
            code = entry["segmentation"]
            assert np.array_equal(reference.decode(code), mask)
            assert code["counts"] == reference.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
            assert entry["area"] == reference.area(code)
            assert entry["bbox"] == reference.toBbox(code).tolist() or not mask.any()


def test_line_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    with open_sink("coco", tmp_path, stem="clip") as sink:
        for number in range(3):
            sink.write(frame(number))
            assert frame_indices(sink.paths[0]) == list(range(number + 1))


def test_frames_in_any_order_and_written_twice(tmp_path: Path) -> None:
    again = frame(2, {3: box_mask((0, 0, 2, 2))})
    path = write(tmp_path, frame(5), frame(2), frame(0), again)
    assert frame_indices(path) == tracked_frames(path) == [0, 2, 5]
    by_number: dict[int, FrameRecord] = {record.frame_idx: record for record in read_tracks(path)}
    assert_equal_results(by_number[2].to_results(again.orig_img), again)


@pytest.mark.parametrize("tail", [b'{"frame":7,"time":0.2,"si', b"\0\0\0\0", b"\0\0\n", b'{"frame":7,\n', b"{"])
def test_truncated_last_line_is_skipped_and_resumed(tail: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, frame(0), frame(1))
    path.write_bytes(path.read_bytes() + tail)
    assert frame_indices(path) == [0, 1]
    write(tmp_path, frame(2), append=True)
    assert frame_indices(path) == [0, 1, 2]
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0, 1, 2]


def test_file_truncated_anywhere_can_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, frame(0), frame(1))
    complete = path.read_bytes()
    first = complete.index(b"\n") + 1
    for length in {*range(0, len(complete), 7), first - 1, first, len(complete) - 1}:
        path.write_bytes(complete[:length])
        assert frame_indices(path) == ([0] if length >= first else [])


def test_append_without_a_file_and_overwrite_without_append(tmp_path: Path) -> None:
    path = write(tmp_path, frame(4), append=True)
    assert frame_indices(path) == [4]
    assert frame_indices(write(tmp_path, frame(1))) == [1]


def test_truncate(tmp_path: Path) -> None:
    path = write(tmp_path, frame(4), frame(1), frame(3), frame(0), frame(1, {7: box_mask((1, 1, 3, 3))}))
    path.write_bytes(path.read_bytes() + b'{"frame":')
    assert truncate_tracks(path, 3) == 2
    assert frame_indices(path) == [0, 1]
    assert [len(record.objects) for record in read_tracks(path)] == [2, 1]
    assert truncate_tracks(path, 0) == 0
    assert path.read_bytes() == b""


def test_damaged_line_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path, frame(0), frame(1), frame(2))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:40] + b"\n" + lines[2])
    assert tracked_frames(path) == [0, 1, 2]
    with pytest.raises(InputError, match="line of frame 1 cannot be read"):
        list(read_tracks(path))
    path.write_bytes(lines[0] + b"what?\n" + lines[2])
    with pytest.raises(InputError, match="line 2"):
        read_tracks(path)


TRACK_DAMAGE = {
    "an id of text": ('"id":3', '"id":"3"'),
    "an id of 33 bits": ('"id":3', '"id":4294967299'),
    "a class of null": ('"class":0', '"class":null'),
    "a name of numbers": ('"name":"object"', '"name":7'),
    "an area below 0": ('"area":', '"area":-'),
    "a box of text": ('"bbox":[', '"bbox":["0",'),
    "a score no float holds": ('"score":0.9', f'"score":{10**320}'),
    "a mask of another size": ('"segmentation":{"size":[24,', '"segmentation":{"size":[23,'),
    "a mask without runs": ('"counts":"', '"runs":"'),
    "a size below 0": ('[24,37]', '[-24,-37]'),
    "a size of terapixels": ('[24,37]', '[1048576,1048576]'),
    "another frame": ('"objects"', '"frame":8,"objects"'),
    "nesting": ('"time":', f'"more":{"[" * 9000}{"]" * 9000},"time":'),
}  # fmt: skip


@pytest.mark.parametrize("damage", TRACK_DAMAGE)
def test_values_that_no_frame_has_are_reported(damage: str, tmp_path: Path) -> None:
    path = write(tmp_path, frame(0), frame(1))
    first, second = path.read_text().splitlines(keepends=True)
    before, after = TRACK_DAMAGE[damage]
    assert before in first
    path.write_text(first.replace(before, after) + second)
    with pytest.raises(InputError, match="line of frame 0 cannot be read"):
        list(read_tracks(path))


def test_a_frame_number_of_many_digits_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path, frame(0))
    path.write_bytes(b'{"frame":' + b"9" * 5000 + b",\n" + path.read_bytes())
    with pytest.raises(InputError, match="does not begin with a frame number of at most ten digits"):
        read_tracks(path)


def test_invalid_files_and_images(tmp_path: Path) -> None:
    assert tracked_frames(tmp_path / "none.jsonl") == []
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_tracks(path)
    [record] = read_tracks(write(tmp_path, frame(0)))
    with pytest.raises(InputError, match="image is 5x4, but frame 0 was written for 37x24"):
        record.to_results(np.zeros((4, 5, 3), np.uint8))
