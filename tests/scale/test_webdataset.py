"""Archives: what is written opens with the `webdataset` package, and is the same bytes each time."""

from __future__ import annotations

import json
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from masklet.errors import InputError
from masklet.scale.webdataset import WebDatasetWriter, expand_braces, sample_key


def write(out: Path, count: int, **options: int) -> list[str]:
    with WebDatasetWriter(str(out), **options) as writer:
        for number in range(count):
            writer.add(f"cats/{number}", {"jpg": b"j" * 700, "json": json.dumps({"n": number}).encode()})
    return writer.locations


def test_archives_are_numbered_full_and_in_order(tmp_path: Path) -> None:
    locations = write(tmp_path, 7, max_samples=3)
    assert [Path(one).name for one in locations] == ["000000.tar", "000001.tar", "000002.tar"]
    members = []
    for location in locations:
        with tarfile.open(location) as archive:
            members.append(archive.getnames())
    assert [len(names) for names in members] == [6, 6, 2]
    assert members[1] == ["cats/3.jpg", "cats/3.json", "cats/4.jpg", "cats/4.json", "cats/5.jpg", "cats/5.json"]
    assert len(write(tmp_path / "small", 7, max_bytes=3000)) == 4


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 4), write(tmp_path / "b", 4)
    assert Path(first[0]).read_bytes() == Path(second[0]).read_bytes()


def test_an_error_leaves_no_incomplete_archive(tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), WebDatasetWriter(str(tmp_path)) as writer:
        writer.add("a", {"jpg": b"1"})
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="1 or more"):
        WebDatasetWriter(str(tmp_path), max_samples=0)


def test_archives_can_have_names(tmp_path: Path) -> None:
    with WebDatasetWriter(str(tmp_path), max_samples=1) as writer:
        for archive, key in (("x/07.tar", "a"), ("x/07.tar", "b"), ("x/08.tar", "a"), (None, "c"), (None, "d")):
            writer.add(key, {"txt": b""}, archive)
    names = [Path(one).relative_to(tmp_path).as_posix() for one in writer.locations]
    assert names == ["x/07.tar", "x/08.tar", "000000.tar", "000001.tar"]


def test_keys_have_no_dots_and_stay_unique() -> None:
    assert sample_key("v1.0/cats/1.jpg") == "v1_0/cats/1"
    assert len({sample_key("a.b.jpg"), sample_key("a_b.jpg"), sample_key("a.b.png")}) == 3
    assert "." not in sample_key("a.b.jpg")


def test_braces_are_ranges_and_lists() -> None:
    assert expand_braces("s3://b/{train,val}-{8..10}.tar")[:4] == [f"s3://b/train-{n}.tar" for n in (8, 9, 10)] + [
        "s3://b/val-8.tar"
    ]
    assert expand_braces("a{}b.tar") == ["a{}b.tar"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_webdataset_package_reads_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    locations = write(tmp_path, 5, max_samples=2)
    samples = list(webdataset.WebDataset(locations, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples if "json" in sample] == [f"cats/{n}" for n in range(5)]
    assert [sample["json"] for sample in samples] == [{"n": number} for number in range(5)]
