"""Format detection, laziness, picklable samples, and mixtures."""

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
    native,
    png,
    pngs,
    sa1b,
    same_masks,
    sav,
    text,
    videos,
    write_image,
    yolo,
)
from helpers.labeling_tool_files import cvat, labelme, voc
from masklet.datasets import DATASET_READERS, DataError, Sample, open_dataset, open_mixture
from masklet.errors import SourceError
from masklet.masks import rle

MAKE: dict[str, Callable[[Path], Path]] = {
    "native": native,
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


def same(sample: Sample, other: Sample) -> None:
    for one, two in zip(sample.read(sample.frame_indices), other.read(other.frame_indices), strict=True):
        np.testing.assert_array_equal(one.rgb, two.rgb)
        same_masks(one, *two.masks.values())


def test_every_format_is_made_here() -> None:
    assert list(MAKE) == list(DATASET_READERS)


@pytest.mark.parametrize("data_format", DATASET_READERS)
def test_formats_are_detected_and_samples_are_small_and_picklable(tmp_path: Path, data_format: str) -> None:
    path = MAKE[data_format](tmp_path)
    data = open_dataset(str(path))
    assert (data.data_format, data.root, data.issues) == (data_format, path, ())
    assert [name for name in DATASET_READERS if DATASET_READERS[name].matches(path)] == [data_format]
    sent = pickle.dumps(data)
    assert len(sent) < 3000
    for sample, back in zip(data.samples, pickle.loads(sent).samples, strict=True):
        assert sample == back
        assert hash(sample) == hash(back)
        same(sample, back)


@pytest.mark.parametrize("data_format", DATASET_READERS)
def test_the_order_does_not_depend_on_the_file_system(
    tmp_path: Path, data_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = MAKE[data_format](tmp_path)
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


def test_unknown_datasets_are_refused_with_the_known_formats(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such data set"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="data_format='vocc' is unknown; choose 'native', 'davis'"):
        open_dataset(tmp_path, data_format="vocc")
    with pytest.raises(SourceError, match="not a dataset of a known format") as problem:
        open_dataset(tmp_path)
    assert all(data_format in str(problem.value) for data_format in DATASET_READERS)


def test_masks_are_decoded_at_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    usual = rle.decode
    monkeypatch.setattr(rle, "decode", lambda code: decoded.append(code) or usual(code))
    [annotated] = open_dataset(native(tmp_path, ["a"])).samples[0].read([0])
    assert (list(annotated.masks), len(annotated.masks), 2 in annotated.masks, decoded) == ([1, 2], 2, True, [])
    np.testing.assert_array_equal(annotated.masks[2], RING)
    assert decoded == [codes()[1]]
    assert 3 not in annotated.masks
    with pytest.raises(KeyError):
        annotated.masks[3]


def test_outlines_and_mask_files_are_lazy_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    monkeypatch.setattr("masklet.datasets.mask_decoding.polygons_to_mask", lambda *given: drawn.append(given) or BOX)
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


def test_errors_are_picklable_with_their_file(tmp_path: Path) -> None:
    sample = open_dataset(native(tmp_path, ["a"])).samples[0]
    (tmp_path / "images" / "a.jpg").unlink()
    with pytest.raises(DataError) as problem:
        sample.read([0])
    back = pickle.loads(pickle.dumps(problem.value))
    assert (str(back), back.file) == (str(problem.value), tmp_path / "images" / "a.jpg")


def test_the_earlier_name_of_native_is_still_accepted(tmp_path: Path) -> None:
    native(tmp_path / "photos")
    data = open_dataset(tmp_path / "photos", data_format="stills")
    assert (data.data_format, data.samples) == ("native", open_dataset(tmp_path / "photos").samples)
    file = text(tmp_path / "mixture.json", [{"path": "photos", "kind": "stills", "weight": 2}])
    assert [(part.data_format, weight) for part, weight in open_mixture(file)] == [("native", 2.0)]


# mixtures ----------------------------------------------------------------------------------------------------------


def test_mixtures_from_a_path_a_list_and_weights(tmp_path: Path) -> None:
    one, two = native(tmp_path / "one"), videos(tmp_path / "two")
    assert [(data.root, weight) for data, weight in open_mixture(one)] == [(one, 1.0)]
    assert [(data.data_format, weight) for data, weight in open_mixture([str(one), two])] == [
        ("native", 1.0),
        ("davis", 1.0),
    ]
    assert [(data.root, weight) for data, weight in open_mixture({one: 3, two: 0.5})] == [(one, 3.0), (two, 0.5)]
    assert open_mixture(coco(tmp_path / "coco"))[0][0].data_format == "coco"


def test_a_mixture_file_counts_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path / "data" / "coco")
    coco(tmp_path / "data" / "coco", split="train2017")
    videos(tmp_path / "data" / "video")
    items = [{"path": "coco", "weight": 2, "split": "val2017", "data_format": "coco"}, {"path": "video"}]
    file = text(tmp_path / "data" / "mixture.json", items)
    monkeypatch.chdir(tmp_path)
    (first, two), (second, one) = open_mixture("data/mixture.json")
    assert (first.data_format, len(first.samples), two, second.data_format, one) == ("coco", 3, 2.0, "davis", 1.0)
    assert file.exists()


@pytest.mark.parametrize("weight", [0, -1, math.inf, math.nan, "2", True, None])
def test_weights_are_positive_and_finite(tmp_path: Path, weight: object) -> None:
    with pytest.raises(SourceError, match=r"has weight .*; weights are positive, finite numbers"):
        open_mixture({native(tmp_path): weight})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "names no data"),
        ([3], "each item of the list should be an object"),
        ([{"weight": 1}], "has no path"),
        ([{"path": "a", "wieght": 1}], "has the key 'wieght'.*; keys are path, weight, data_format, split"),
        ([{"path": "a", "split": 3}], "has split 3"),
        ([{"path": "a", "data_format": "vocc"}], "data_format='vocc' is unknown"),
        ([{"path": "a", "kind": 3}], "has data_format 3"),
        ([{"path": "a", "weight": -1}], "has weight -1"),
        ([{"path": "b"}], "no such data set: '.*b'"),
    ],
)
def test_errors_in_a_mixture_file_are_named(tmp_path: Path, content: object, words: str) -> None:
    native(tmp_path / "a")
    with pytest.raises(SourceError, match=words):
        open_mixture(text(tmp_path / "mixture.json", content))


def test_an_empty_mixture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="names no data"):
        open_mixture([])
