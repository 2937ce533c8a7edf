"""Recognizing a layout, laziness, entries that travel between processes, and mixtures."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.dataset_files import (
    BOX,
    RING,
    coco,
    codes,
    label_map,
    png,
    pngs,
    sa1b,
    same_masks,
    sav,
    stills,
    text,
    videos,
    write_image,
    yolo,
)
from helpers.labeling_tool_files import cvat, labelme, voc
from masklet.datasets import DATA_FORMATS, DataError, Sample, open_dataset, open_mixture
from masklet.errors import SourceError
from masklet.masks import rle

MAKE: dict[str, Callable[[Path], Path]] = {
    "stills": stills,
    "davis": videos,
    "sav": sav,
    "sa1b": sa1b,
    "coco": coco,
    "yolo": yolo,
    "png": pngs,
    "voc": voc,
    "labelme": labelme,
    "cvat": cvat,
}


def same(entry: Sample, other: Sample) -> None:
    for one, two in zip(entry.read(entry.frame_indices), other.read(other.frame_indices), strict=True):
        np.testing.assert_array_equal(one.rgb, two.rgb)
        same_masks(one, *two.masks.values())


def test_every_kind_is_made_here() -> None:
    assert list(MAKE) == list(DATA_FORMATS)


@pytest.mark.parametrize("kind", DATA_FORMATS)
def test_a_layout_is_recognized_and_its_entries_are_small_and_travel(tmp_path: Path, kind: str) -> None:
    path = MAKE[kind](tmp_path)
    data = open_dataset(str(path))
    assert (data.data_format, data.root, data.issues) == (kind, path, ())
    assert [name for name in DATA_FORMATS if DATA_FORMATS[name].matches(path)] == [kind]
    sent = pickle.dumps(data)
    assert len(sent) < 3000
    for entry, back in zip(data.samples, pickle.loads(sent).entries, strict=True):
        assert entry == back
        assert hash(entry) == hash(back)
        same(entry, back)


@pytest.mark.parametrize("kind", DATA_FORMATS)
def test_the_order_is_the_same_whatever_the_file_system_says(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = MAKE[kind](tmp_path)
    usual = open_dataset(path)
    backwards = Path.glob, Path.rglob
    monkeypatch.setattr(Path, "glob", lambda *given: iter(list(backwards[0](*given))[::-1]))
    monkeypatch.setattr(Path, "rglob", lambda *given: iter(list(backwards[1](*given))[::-1]))
    monkeypatch.setattr("masklet.datasets.files._list_names", turned(monkeypatch))
    assert open_dataset(path) == usual


def turned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    from masklet.datasets import files

    usual = files._list_names
    return lambda *given, **named: usual(*given, **named)[::-1]


def test_what_is_no_data_set_is_told_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such data set"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="kind='vocc' is unknown; choose 'stills', 'davis'"):
        open_dataset(tmp_path, data_format="vocc")
    with pytest.raises(SourceError, match="no data set that is known") as problem:
        open_dataset(tmp_path)
    assert all(kind in str(problem.value) for kind in DATA_FORMATS)


def test_a_mask_is_decoded_when_it_is_looked_at_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    usual = rle.decode
    monkeypatch.setattr(rle, "decode", lambda code: decoded.append(code) or usual(code))
    [annotated] = open_dataset(stills(tmp_path, ["a"])).samples[0].read([0])
    assert (list(annotated.masks), len(annotated.masks), 2 in annotated.masks, decoded) == ([1, 2], 2, True, [])
    np.testing.assert_array_equal(annotated.masks[2], RING)
    assert decoded == [codes()[1]]
    assert 3 not in annotated.masks
    with pytest.raises(KeyError):
        annotated.masks[3]


def test_outlines_and_files_wait_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    monkeypatch.setattr("masklet.datasets.formats.coco.polygons_to_mask", lambda *given: drawn.append(given) or BOX)
    [annotated] = open_dataset(coco(tmp_path / "coco")).samples[-1].read([0])
    assert (list(annotated.masks), drawn) == ([1, 2], [])
    np.testing.assert_array_equal(annotated.masks[1], BOX)
    assert len(drawn) == 1
    write_image(tmp_path / "png" / "images" / "a.jpg")
    file = png(tmp_path / "png" / "masks" / "a" / "1.png", label_map())
    [annotated] = open_dataset(tmp_path / "png").samples[0].read([0])
    file.unlink()
    with pytest.raises(DataError, match=r"1\.png cannot be read") as problem:
        annotated.masks[1]
    assert problem.value.file == file


def test_an_error_travels_with_its_file(tmp_path: Path) -> None:
    entry = open_dataset(stills(tmp_path, ["a"])).samples[0]
    (tmp_path / "images" / "a.jpg").unlink()
    with pytest.raises(DataError) as problem:
        entry.read([0])
    back = pickle.loads(pickle.dumps(problem.value))
    assert (str(back), back.file) == (str(problem.value), tmp_path / "images" / "a.jpg")


# mixtures ----------------------------------------------------------------------------------------------------------


def test_mixtures_from_a_path_a_list_and_weights(tmp_path: Path) -> None:
    one, two = stills(tmp_path / "one"), videos(tmp_path / "two")
    assert [(data.root, weight) for data, weight in open_mixture(one)] == [(one, 1.0)]
    assert [(data.data_format, weight) for data, weight in open_mixture([str(one), two])] == [
        ("stills", 1.0),
        ("davis", 1.0),
    ]
    assert [(data.root, weight) for data, weight in open_mixture({one: 3, two: 0.5})] == [(one, 3.0), (two, 0.5)]
    assert open_mixture(coco(tmp_path / "coco"))[0][0].data_format == "coco"


def test_a_mixture_file_counts_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path / "data" / "coco")
    coco(tmp_path / "data" / "coco", split="train2017")
    videos(tmp_path / "data" / "film")
    items = [{"path": "coco", "weight": 2, "split": "val2017", "kind": "coco"}, {"path": "film"}]
    file = text(tmp_path / "data" / "mixture.json", items)
    monkeypatch.chdir(tmp_path)
    (first, two), (second, one) = open_mixture("data/mixture.json")
    assert (first.data_format, len(first.samples), two, second.data_format, one) == ("coco", 3, 2.0, "davis", 1.0)
    assert file.exists()


@pytest.mark.parametrize("weight", [0, -1, math.inf, math.nan, "2", True, None])
def test_weights_are_positive_and_finite(tmp_path: Path, weight: object) -> None:
    with pytest.raises(SourceError, match=r"has weight .*; weights are positive, finite numbers"):
        open_mixture({stills(tmp_path): weight})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "names no data"),
        ([3], "each item of the list should be an object"),
        ([{"weight": 1}], "has no path"),
        ([{"path": "a", "wieght": 1}], "has the key 'wieght'.*; keys are path, weight, kind, split"),
        ([{"path": "a", "split": 3}], "has split 3"),
        ([{"path": "a", "kind": "vocc"}], "kind='vocc' is unknown"),
        ([{"path": "a", "weight": -1}], "has weight -1"),
        ([{"path": "b"}], "no such data set: '.*b'"),
    ],
)
def test_a_mixture_file_that_is_wrong_is_named(tmp_path: Path, content: object, words: str) -> None:
    stills(tmp_path / "a")
    with pytest.raises(SourceError, match=words):
        open_mixture(text(tmp_path / "mixture.json", content))


def test_a_mixture_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="names no data"):
        open_mixture([])
