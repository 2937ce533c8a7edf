"""The account of a conversion: source, written, left out and broken, by class; resumed, printed, and never guessed."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from helpers.dataset_files import BOX, RING, native, sa1b
from helpers.labeling_tool_files import cvat
from masklet.cli import check_data
from masklet.cli.convert import convert as convert_command
from masklet.datasets import (
    DataIssue,
    LabeledImage,
    LabeledObject,
    check_dataset,
    class_names,
    convert,
    list_items,
    open_dataset,
    open_dataset_writer,
)
from masklet.datasets.account import ObjectAccount
from masklet.datasets.dataset import LazyMasks, LeftOutObject, Mask, ObjectAttributes
from masklet.datasets.formats.coco import CocoSample
from masklet.datasets.formats.native import NativeSample
from masklet.errors import InputError
from masklet.masks import rle

app = typer.Typer()
app.command()(convert_command)
runner = CliRunner()


def run(command: typer.Typer, *words: object) -> tuple[int, str]:
    done = runner.invoke(command, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def crowded(root: Path) -> Path:
    """An image with a cat, two cats marked iscrowd, and a dog that cannot be read; and an image that is missing."""
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (120, 80)).save(root / "images" / "a.png")
    good, bad = [[10, 10, 50, 10, 50, 40]], [[1, 2, 3, "x", 5, 6]]
    rows = [(1, 1, 0, good), (1, 1, 1, good), (1, 1, 1, good), (1, 2, 0, bad), (2, 2, 0, good)]
    annotations = [
        {"id": n, "image_id": image, "category_id": category, "iscrowd": flag, "segmentation": shape}
        for n, (image, category, flag, shape) in enumerate(rows)
    ]
    images = [{"id": n, "file_name": f"{name}.png", "width": 120, "height": 80} for n, name in ((1, "a"), (2, "b"))]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (root / "instances_default.json").write_text(json.dumps(content))
    return root


def test_convert_prints_what_did_not_come_through(tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    code, out = run(app, crowded(tmp_path / "in"), tmp_path / "out", "--to", "coco", "--report", report_file)
    assert (code, "nothing was lost" in out) == (1, False)
    lines = [line.split() for line in out.splitlines()]
    assert ["class", "source", "written", "left", "out", "(iscrowd)", "broken"] in lines
    assert ["cat", "3", "1", "2", "0"] in lines
    assert ["dog", "2", "0", "0", "2"] in lines  # one in the image that is missing
    assert "1 of 5 objects came through; left out: 2 (iscrowd); broken: 2" in out
    assert "  --include-crowds converts" in out
    report = json.loads(report_file.read_text())["account"]
    assert report == {
        "source": {"cat": 3, "dog": 2},
        "written": {"cat": 1},
        "left_out": {"iscrowd": {"cat": 2}},
        "broken": {"dog": 2},
    }
    code, _ = run(app, tmp_path / "in", tmp_path / "out", "--to", "coco", "--report", report_file)
    assert code == 1  # the image that was written before still lacks its dog
    assert json.loads(report_file.read_text())["account"] == report
    code, out = run(app, tmp_path / "in", tmp_path / "all", "--to", "coco", "--include-crowds")
    assert "3 of 5 objects came through; broken: 2" in out
    with pytest.raises(InputError, match="with crowds"):  # would join two kinds of conversion
        run(app, tmp_path / "in", tmp_path / "out", "--to", "coco", "--include-crowds")


def test_nothing_was_lost_is_printed_where_it_is_so(tmp_path: Path) -> None:
    native(tmp_path / "in")
    code, out = run(app, tmp_path / "in", tmp_path / "out", "--to", "coco")
    assert (code, out.splitlines()[-1]) == (0, "  nothing was lost of 6 objects")
    code, out = run(app, tmp_path / "in", tmp_path / "out", "--to", "coco")
    assert (code, out.splitlines()[-1]) == (0, "  nothing was lost of 6 objects")
    (tmp_path / "in" / "masks" / "b.json").write_text("[")
    code, out = run(app, tmp_path / "in", tmp_path / "more", "--to", "coco")
    assert (code, "nothing was lost" in out) == (1, False)
    assert "4 objects came through; what the broken files hold is not known" in out


def test_data_check_prints_the_account(tmp_path: Path) -> None:
    code, out = run(check_data.app, "check", crowded(tmp_path), "--report", tmp_path / "report")
    assert code == 1
    lines = [line.split() for line in out.splitlines()]
    assert ["class", "source", "read", "left", "out", "(iscrowd)", "broken"] in lines
    assert ["cat", "3", "1", "2", "0"] in lines
    assert json.loads((tmp_path / "report").read_text())[0]["account"]["source"] == {"cat": 3, "dog": 2}
    _, out = run(check_data.app, "check", tmp_path, "--include-crowds")
    assert ["dog", "2", "0", "2"] in [line.split() for line in out.splitlines()]
    assert not any(line.split()[:1] == ["cat"] for line in out.splitlines())


def test_objects_that_the_target_cannot_show_are_lost(tmp_path: Path) -> None:
    native(tmp_path / "in", ["a"])
    twice = [rle.encode(BOX), rle.encode(BOX), rle.encode(RING)]
    (tmp_path / "in" / "masks" / "a.json").write_text(json.dumps(twice))
    code, out = run(app, tmp_path / "in", tmp_path / "out", "--to", "davis")
    assert code == 0
    assert "1 image written, 2 objects of 1 class" in out
    assert ["object", "3", "2", "1"] in [line.split() for line in out.splitlines()]
    assert "worst 0.0000 (in a)" in out
    objects = open_dataset(tmp_path / "out").samples[0].read([0])[0].masks
    assert len(objects) == 2


def test_an_account_adds_up() -> None:
    attributes = {1: ObjectAttributes(class_id=5), 2: ObjectAttributes(label="b")}
    masks = LazyMasks(dict.fromkeys((1, 2, 3), lambda: BOX), attributes, [LeftOutObject("void", attributes[1])])
    account = ObjectAccount.for_masks(masks, {5: "a"})
    assert (account.source, account.left_out) == ({"a": 2, "b": 1, "object": 1}, {"void": {"a": 1}})
    account.written = Counter(a=1, b=1)
    assert (account.lost, account.is_balanced) == ({"object": 1}, False)
    again = ObjectAccount.from_json(json.loads(json.dumps(account.to_json())))
    assert again == account
    again.merge(ObjectAccount.for_issue(DataIssue("a", Path(), "bad", {"a": 3})))
    assert (again.source["a"], again.broken, again.lost) == (5, {"a": 3}, {"object": 1})
    many = ObjectAccount(source=Counter({f"c{n:02d}": 1 for n in range(30)}))
    assert many.table_lines()[-1] == "... and 10 more classes"
    assert ObjectAccount(Counter(a=1), Counter(a=1)).table_lines() == []


def test_written_is_counted_from_the_log_of_all_runs(tmp_path: Path) -> None:
    objects = (LabeledObject.from_mask(BOX, 0), LabeledObject.from_mask(RING, 1))
    Image.new("RGB", BOX.shape[::-1]).save(tmp_path / "x.png")
    for name in ("a", "b"):
        with open_dataset_writer("coco", tmp_path / "out", names={0: "cat", 1: "dog"}) as writer:
            writer.write(LabeledImage(tmp_path / "x.png", name, BOX.shape, objects))
    assert writer.account.written == {"cat": 2, "dog": 2}
    with (
        open_dataset_writer("yolo", tmp_path / "y") as writer,
        pytest.raises(InputError, match="class 10001, which has"),
    ):
        writer.write(LabeledImage(tmp_path / "x.png", "a", BOX.shape, (LabeledObject.from_mask(BOX, 10_001),)))


def test_an_error_in_no_list_is_the_issue_of_its_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = NativeSample.masks

    def masks(self: NativeSample, size: tuple[int, int]) -> object:
        if self.name == "a2":
            raise MemoryError("too large")
        if self.name == "a10":

            def fail() -> Mask:
                raise RuntimeError("decoder")

            return LazyMasks({1: fail, 2: lambda: BOX})
        return real(self, size)

    monkeypatch.setattr(NativeSample, "masks", masks)
    data = open_dataset(native(tmp_path / "in"))
    issues = list(check_dataset(data))
    assert [next(kind for kind in ("MemoryError", "RuntimeError") if kind in one.reason) for one in issues] == [
        "MemoryError", "RuntimeError",
    ]  # fmt: skip
    with open_dataset_writer("coco", tmp_path / "out", names=class_names(data)) as writer:
        steps = list(convert(data, list_items(data), writer))
    assert [(step.item.name, step.is_new, len(step.object_issues)) for step in steps] == [
        ("a2", False, 0), ("a10", True, 1), ("b", True, 0),
    ]  # fmt: skip
    assert "MemoryError: too large" in str(steps[0].issue)
    assert (writer.account.source["object"], writer.account.written["object"]) == (4, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
@pytest.mark.parametrize("to", ["coco", "yolo", "labelme", "cvat", "voc", "davis"])
def test_file_names_that_are_not_utf8_are_converted(tmp_path: Path, to: str) -> None:
    native(tmp_path / "in", ["ok", os.fsdecode(b"na\xefve")])
    code, out = run(app, tmp_path / "in", tmp_path / "out", "--to", to)
    assert (code, "2 images written" in out) == (0, True)
    assert any("na\xefve" in path.as_posix() for path in (tmp_path / "out").rglob("*"))
    assert len(open_dataset(tmp_path / "out").samples) == 2


def test_an_image_that_is_not_there_costs_its_objects(tmp_path: Path) -> None:
    data = open_dataset(crowded(tmp_path))
    assert isinstance(data.samples[1], CocoSample)
    assert ObjectAccount.for_unread_sample(data.samples[1], data.names).broken == {"dog": 1}
    assert ObjectAccount.for_unread_sample(data.samples[0], data.names).broken == {"cat": 1, "dog": 1}
    assert ObjectAccount.for_unread_sample(object(), data.names) == ObjectAccount()


def test_labels_without_an_image_cost_their_objects(tmp_path: Path) -> None:
    native(tmp_path / "native")
    sa1b(tmp_path / "sa1b")
    cvat(tmp_path / "cvat")
    for image in ("native/images/b.jpg", "sa1b/sa_2.jpg", "cvat/images/a2.jpg"):
        (tmp_path / image).unlink()
    issues = {name: open_dataset(tmp_path / name).issues for name in ("native", "sa1b", "cvat")}
    counts = {name: [sum(one.objects.values()) for one in found] for name, found in issues.items()}
    assert counts == {"native": [2], "sa1b": [2], "cvat": [2]}


def test_one_bad_object_of_a_format_costs_no_other(tmp_path: Path) -> None:
    sa1b(tmp_path / "sa1b", ["sa_1"])
    file = tmp_path / "sa1b" / "sa_1.json"
    content = json.loads(file.read_text())
    content["annotations"] += [3, {}, {"segmentation": {"size": [1, 1], "counts": [1]}}]
    file.write_text(json.dumps(content))
    native(tmp_path / "native", ["a"])
    file = tmp_path / "native" / "masks" / "a.json"
    file.write_text(json.dumps([*json.loads(file.read_text()), 3, {}, {"size": [1, 1], "counts": [1]}]))
    for name in ("sa1b", "native"):
        data = open_dataset(tmp_path / name)
        issues = list(check_dataset(data))
        assert [f"mask {number}" in one.reason for number, one in zip((3, 4, 5), issues, strict=True)] == [True] * 3
        with open_dataset_writer("coco", tmp_path / "out" / name) as writer:
            [step] = convert(data, list_items(data), writer)
        assert (len(step.object_issues), writer.account.written, writer.account.broken) == (
            3, {"object": 2}, {"object": 3},
        )  # fmt: skip
