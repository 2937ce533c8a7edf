"""Random datasets through every pair of formats: the account balances, and says what a format cannot hold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.datasets import (
    DATASET_WRITERS,
    Dataset,
    LabeledImage,
    LabeledObject,
    WriteOptions,
    class_names,
    convert,
    list_items,
    open_dataset,
    open_dataset_writer,
)
from masklet.datasets.account import object_class_name
from masklet.datasets.dataset import LazyMasks, Mask

SIZE = (24, 32)
CLASSES = ("dog", "a leash", "caf\u00e9, \u732b", "12", "Dog", "x=y", "<b>&", "'q'", "-", "none")
LOSSLESS = ("coco", "labelme", "cvat")
Seen = list[tuple[str, bytes]]


def random_mask(rng: np.random.Generator) -> Mask:
    """A rectangle, a ring, an object in parts, noise, one pixel, a row, or the whole image."""
    rows, columns = (np.sort(rng.choice(n, 2, replace=False)) for n in SIZE)
    mask = np.zeros(SIZE, bool)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    kind = rng.integers(7)
    if kind == 1:
        mask[rows[0] + 1 : rows[1] - 1, columns[0] + 1 : columns[1] - 1] = False
    elif kind == 2:
        mask = mask ^ mask[::-1]
    elif kind == 3:
        mask = rng.random(SIZE) < 0.3
    elif kind == 4:
        mask = np.zeros(SIZE, bool)
        mask[rows[0], columns[0]] = True
    elif kind == 5:
        mask = np.zeros(SIZE, bool)
        mask[rows[0]] = True
    elif kind == 6:
        mask = np.ones(SIZE, bool)
    if not mask.any():
        mask[0, 0] = True
    return mask


def random_dataset(root: Path, to: str, rng: np.random.Generator) -> dict[str, Seen]:
    """Write three images of up to six objects in one format, and return the objects by image."""
    names = dict(enumerate(rng.permutation(CLASSES)[: rng.integers(1, len(CLASSES))].tolist()))
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(root / "x.png")
    seen: dict[str, Seen] = {}
    with open_dataset_writer(to, root / to, names=names, options=WriteOptions(images="copy")) as writer:
        for name in ("a", "zoo/b", "c.d"):
            classes = rng.integers(len(names), size=rng.integers(7)).tolist()
            masks = [random_mask(rng) for _ in classes]
            seen[name] = [(names[n], mask.tobytes()) for n, mask in zip(classes, masks, strict=True)]
            objects = [LabeledObject.from_mask(mask, n) for n, mask in zip(classes, masks, strict=True)]
            writer.write(LabeledImage(root / "x.png", name, SIZE, tuple(objects)))
    return seen


def read(data: Dataset) -> tuple[dict[str, Seen], Counter[str], Counter[str]]:
    """The objects by image, their number by class, and that of those left out; everything decodes."""
    seen: dict[str, Seen] = {}
    left_out: Counter[str] = Counter()
    for sample in data.samples:
        [frame] = sample.read([0])
        seen[sample.name] = [
            (object_class_name(data.names, frame.attributes(number)), frame.masks[number].tobytes())
            for number in frame.masks
        ]
        if isinstance(frame.masks, LazyMasks):
            left_out.update(object_class_name(data.names, one.attributes) for one in frame.masks.left_out)
    return seen, Counter(name for objects in seen.values() for name, _ in objects), left_out


def check_round_trips(root: Path, first: str, seed: int) -> None:
    """Write a random dataset in the format `first`, and convert it to all formats and on to COCO."""
    rng = np.random.default_rng((seed, sorted(DATASET_WRITERS).index(first)))
    made = random_dataset(root, first, rng)
    if first == "coco":
        file = root / "coco" / "annotations" / "instances_default.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        for annotation in content["annotations"]:
            annotation |= {"iscrowd": str(int(rng.random() < 0.2)), "category_id": str(annotation["category_id"])}
        file.write_bytes(b"\xef\xbb\xbf" + json.dumps(content, indent=1).replace("\n", "\r\n").encode())
    source = open_dataset(root / first)
    assert source.issues == ()
    before, counts, crowds = read(source)
    if first in ("labelme", "cvat"):
        assert before == made
    for then in DATASET_WRITERS:
        options = WriteOptions(images="link")
        with open_dataset_writer(then, root / "out" / then, names=class_names(source), options=options) as writer:
            items = list_items(source, unique_per_split=writer.unique_per_split)
            steps = list(convert(source, items, writer))
        assert [(step.issue, step.object_issues) for step in steps] == [(None, ())] * len(steps)
        account = writer.account
        assert account.source == counts + crowds
        assert sum(account.left_out.values(), Counter()) == crowds
        result = open_dataset(writer.folder, data_format=then) if counts or then in LOSSLESS else None
        after, read_back, _ = read(result) if result is not None else ({}, Counter[str](), None)
        assert sum(account.written.values()) == sum(read_back.values())
        assert account.written + account.lost + crowds == account.source
        assert sum(account.lost.values()) == writer.loss.dropped + sum(
            count for note, count in writer.loss.notes.items() if "without any pixel" in note
        )
        if "classes" in writer.supports and then != "voc":
            assert account.written == read_back
        if then in LOSSLESS:
            assert writer.loss.exact == writer.loss.objects
            assert sorted(map(sorted, after.values())) == sorted(map(sorted, before.values()))
            assert account.is_balanced is not bool(crowds)


@pytest.mark.parametrize("first", sorted(DATASET_WRITERS))
@pytest.mark.parametrize("seed", range(2))
def test_the_account_of_every_pair_of_formats_balances(tmp_path: Path, first: str, seed: int) -> None:
    check_round_trips(tmp_path, first, seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", sorted(DATASET_WRITERS))
def test_the_account_of_many_random_datasets_balances(tmp_path: Path, first: str) -> None:
    for seed in range(100, 115):
        check_round_trips(tmp_path / str(seed), first, seed)
