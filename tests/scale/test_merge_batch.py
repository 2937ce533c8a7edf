"""One manifest and one dataset from what the processes of a batch wrote."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.batch_stage import LoggingStage, write_images
from masklet.errors import InputError, SourceError
from masklet.masks.rle import encode
from masklet.scale.batch_manifest import ManifestRow, ManifestWriter
from masklet.scale.items import ItemSource
from masklet.scale.merge_batch import merge_batch
from masklet.scale.run_batch import run_batch
from masklet.scale.shards import Shard
from masklet.scale.storage import LocalStorage, storage_of
from masklet.scale.webdataset import WebDatasetWriter


def bright(batch):  # type: ignore[no-untyped-def]
    """A stage: the bright pixels of each image are one object, its dark ones another."""
    rows = []
    for content in batch["bytes"]:
        gray = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        masks = [gray > 100, gray <= 100]
        boxes = [
            [float(v.min()) for v in np.nonzero(m)[::-1]] + [float(v.max() + 1) for v in np.nonzero(m)[::-1]]
            for m in masks
        ]
        rows.append((gray.shape, [json.dumps(encode(mask)) for mask in masks], boxes))
    return {
        "item": batch["item"],
        "width": [shape[1] for shape, *_ in rows],
        "height": [shape[0] for shape, *_ in rows],
        "masks": [masks for _, masks, _ in rows],
        "boxes": [boxes for *_, boxes in rows],
        "scores": [[0.9, 0.8]] * len(rows),
        "ids": [[0, 1]] * len(rows),
        "error": [""] * len(rows),
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(4):
        path = tmp_path / "photos" / "cats" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((6, 8), np.uint8)
        pixels[1 : 3 + number % 2, 2 : 4 + number] = 255
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def row(item: str, outcome: str, at: float, error: str = "") -> ManifestRow:
    return ManifestRow(item, item, "", 0, 1.0, outcome, error, "0/1", at)  # type: ignore[arg-type]


def test_manifests_become_one_with_a_line_for_each_item(tmp_path: Path) -> None:
    out, storage = str(tmp_path), LocalStorage()
    for key, lines in {
        "00000-of-00002.a": [row("b", "failed", 1.0, "cut"), row("a", "done", 2.0), row("\udcff", "failed", 1.0, "no")],
        "00000-of-00002.b": [row("b", "done", 3.0), row("a", "done", 1.0), replace(row("a", "done", 9.0), seconds=0.0)],
        "00001-of-00002.c": [
            row("b", "failed", 9.0, "cut"),
            row("c", "failed", 1.0, "x"),
            row("c", "failed", 2.0, "y"),
        ],
    }.items():
        with ManifestWriter(storage, out, key) as manifest:
            for line in lines:
                manifest.add(line)
    with (tmp_path / "manifest/00001-of-00002.c.jsonl").open("a") as file:
        file.write('{"item": "cut sho')
    summary = merge_batch(out)
    merged = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [(one["item"], one["outcome"], one["at"]) for one in merged] == [
        ("a", "done", 2.0), ("b", "done", 3.0), ("c", "failed", 2.0), ("\udcff", "failed", 1.0),
    ]  # fmt: skip
    assert (summary.done, summary.failed, summary.is_complete) == (2, 2, False)
    assert summary.failures == [("c", "y"), ("\udcff", "no")]


def test_what_no_process_finished_is_missing(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", [f"{number}.jpg" for number in range(10)])
    source = ItemSource([tmp_path / "photos"], shard=Shard(0, 2))
    list(run_batch(source, LoggingStage(tmp_path / "log"), tmp_path / "out"))
    summary = merge_batch(tmp_path / "out", source=ItemSource([tmp_path / "photos"]))
    assert 0 < summary.missing == 10 - summary.done
    assert not summary.is_complete
    with pytest.raises(SourceError, match="no manifest of a batch"):
        merge_batch(tmp_path / "photos")
    with pytest.raises(InputError, match="coco, parquet, webdataset"):
        merge_batch(tmp_path / "out", "yolo")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--source"):
        merge_batch(tmp_path / "out", "webdataset")


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_pycocotools_reads_the_coco_file(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    list(run_batch(ItemSource([photos]), bright, tmp_path / "out"))
    summary = merge_batch(tmp_path / "out", "coco")
    assert (summary.objects, summary.files[-1]) == (8, str(tmp_path / "out/coco.json"))
    coco = COCO(tmp_path / "out/coco.json")
    [image] = [one for one in coco.dataset["images"] if one["file_name"] == "cats/3.png"]
    light, dark = coco.loadAnns(coco.getAnnIds(image["id"]))
    truth = np.asarray(Image.open(photos / "cats/3.png")) > 100
    np.testing.assert_array_equal(coco.annToMask(light), truth)
    np.testing.assert_array_equal(coco.annToMask(dark), ~truth)
    assert light["area"] == truth.sum()
    assert light["bbox"] == [2.0, 1.0, 5.0, 3.0]


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize("remote", [False, True])
def test_webdataset_and_pycocotools_read_the_archives(photos: Path, tmp_path: Path, remote: bool) -> None:
    out = f"memory://merge{tmp_path}" if remote else str(tmp_path / "out")
    if remote:
        pytest.importorskip("fsspec")
    list(run_batch(ItemSource([photos]), bright, out))
    summary = merge_batch(out, "webdataset", ItemSource([photos]), samples_per_archive=3)
    archives = [one for one in summary.files if one.endswith(".tar")]
    assert [one.rpartition("/")[2] for one in archives] == ["000000.tar", "000001.tar"]
    assert summary.objects == 8
    again = merge_batch(out, "webdataset", ItemSource([photos]), samples_per_archive=3)
    assert again.files == summary.files
    for archive in archives:  # a folder for readers of files
        (tmp_path / Path(archive).name).write_bytes(storage_of(archive).read(archive))
    webdataset = pytest.importorskip("webdataset")
    from pycocotools import mask as coco_mask

    samples = list(
        webdataset.WebDataset([str(tmp_path / f"00000{n}.tar") for n in range(2)], shardshuffle=False).decode("rgb8")
    )
    assert [sample["__key__"] for sample in samples] == [f"cats/{number}" for number in range(4)]
    for number, sample in enumerate(samples):
        truth = np.asarray(Image.open(photos / f"cats/{number}.png")) > 100
        np.testing.assert_array_equal(sample["png"][..., 0] > 100, truth)
        light = sample["json"]["annotations"][0]
        np.testing.assert_array_equal(coco_mask.decode(light["segmentation"]).astype(bool), truth)
        assert (sample["json"]["image"]["width"], sample["json"]["image"]["height"]) == (8, 6)


def test_archives_of_the_source_keep_their_names_and_order(photos: Path, tmp_path: Path) -> None:
    for number, keys in enumerate([("b", "a"), ("c",)]):
        with WebDatasetWriter(str(tmp_path / "tars" / f"v1.{number}")) as writer:
            for key in keys:
                writer.add(key, {"png": (photos / "cats/1.png").read_bytes(), "txt": b"more"})
    source = ItemSource([tmp_path / "tars"])
    list(run_batch(source, bright, tmp_path / "out"))
    summary = merge_batch(tmp_path / "out", "webdataset", source)
    root = tmp_path / "out/webdataset"
    assert summary.files[1:] == [str(root / f"v1.{number}/000000.tar") for number in range(2)]
    copies = ItemSource([root])
    assert [item.name for item in copies] == [
        f"v1.{n}/000000.tar/{key}.png" for n, key in ((0, "b"), (0, "a"), (1, "c"))
    ]


def test_tracks_are_no_coco_file(tmp_path: Path) -> None:
    write_images(tmp_path / "videos", ["a.mp4"])

    def track(batch):  # type: ignore[no-untyped-def]
        return {"item": batch["item"], "masks": [[]], "frames": [[]], "error": [""]}

    list(run_batch(ItemSource([tmp_path / "videos"], "videos"), track, tmp_path / "out"))
    with pytest.raises(InputError, match="has no masks of an image"):
        merge_batch(tmp_path / "out", "coco")


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_everything_masks_of_the_built_in_model_open_elsewhere(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    from pycocotools import mask as coco_mask

    from masklet.masks.rle import decode
    from masklet.scale import Segmenter
    from masklet.scale.item_files import read_item_file

    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = np.full((48, 64, 3), 60 + 40 * number, np.uint8)
        pixels[10:30, 20:50] = (220, 40, 40)
        Image.fromarray(pixels).save(tmp_path / f"photos/{number}.png")
    source, out = ItemSource([tmp_path / "photos"]), str(tmp_path / "out")
    list(run_batch(source, Segmenter(everything="fast"), out))
    summary = merge_batch(out, "webdataset", source)
    samples = list(webdataset.WebDataset(summary.files[-1], shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == ["0", "1"]
    for sample in samples:
        found = read_item_file(out, f"{sample['__key__']}.png")
        assert found is not None
        annotations = sample["json"]["annotations"]
        assert len(annotations) == len(found[0]["masks"]) > 0
        for annotation, text in zip(annotations, found[0]["masks"], strict=True):
            ours = decode(json.loads(text))
            np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]).astype(bool), ours)
            assert coco_mask.area(annotation["segmentation"]) == annotation["area"]
            x, y, width, height = coco_mask.toBbox(annotation["segmentation"])
            assert annotation["bbox"] == [x, y, width, height]
