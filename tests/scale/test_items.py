"""What a source holds: names, order, shards, and what is broken in it."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from helpers.batch_stage import write_images
from masklet.errors import MissingExtraError, SourceError
from masklet.scale.items import Item, ItemSource
from masklet.scale.read_ahead import read_ahead, read_item
from masklet.scale.shards import Shard
from masklet.scale.storage import storage_of


def names(*sources: object, kind: str = "images", **options: object) -> list[str]:
    return [item.name for item in ItemSource([str(one) for one in sources], kind, **options)]  # type: ignore[arg-type]


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_a_folder_is_walked_in_natural_order(tmp_path: Path) -> None:
    write_images(
        tmp_path, ["10.jpg", "2.JPG", "cats/a.png", "notes.md", ".hidden/x.jpg", ".x.jpg", "out/y.jpg", "v.mp4"]
    )
    (tmp_path / "cats" / "around").symlink_to(tmp_path)
    assert names(tmp_path) == ["2.JPG", "10.jpg", "cats/a.png", "out/y.jpg"]
    assert names(tmp_path, exclude=str(tmp_path / "out")) == ["2.JPG", "10.jpg", "cats/a.png"]
    assert names(tmp_path, kind="videos") == ["v.mp4"]


def test_globs_have_names_below_their_folder(tmp_path: Path) -> None:
    write_images(tmp_path, ["b/2.jpg", "b/10.jpg", "a/1.jpg", "a/1.txt"])
    assert names(f"{tmp_path}/**/*.jpg") == ["a/1.jpg", "b/2.jpg", "b/10.jpg"]
    assert names(f"{tmp_path}/b/*") == ["2.jpg", "10.jpg"]
    assert names(f"{tmp_path}/{{a,b}}/*.jpg") == ["a/1.jpg", "b/2.jpg", "b/10.jpg"]


def test_lists_and_tables_name_files_next_to_them_and_addresses(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.jpg", "cats/b.jpg"])
    (tmp_path / "list.txt").write_text(
        f"a.jpg\n\n# a comment\n./cats/b.jpg\n{tmp_path}/a.jpg\nhttps://me:pw@example.org/c/d.jpg?sig=1\n../e.jpg\n"
    )
    items = list(ItemSource([tmp_path / "list.txt"]))
    absolute = f"{tmp_path}/a.jpg".lstrip("/")
    assert [item.name for item in items] == ["a.jpg", "cats/b.jpg", absolute, "example.org/c/d.jpg", "__/e.jpg"]
    assert read_item(items[1], tmp_path).content == b"content of cats/b.jpg"
    assert items[3].source == "https://example.org/c/d.jpg"
    (tmp_path / "table.csv").write_text('item,Path,points\nfirst,a.jpg,"[[1, 2]]"\nsecond,cats/b.jpg,\n')
    table = list(ItemSource([tmp_path / "table.csv"]))
    assert [(item.name, dict(item.prompts)) for item in table] == [("first", {"points": "[[1, 2]]"}), ("second", {})]
    (tmp_path / "wrong.csv").write_text("image_file\na.jpg\n")
    with pytest.raises(SourceError, match=r"columns: image_file.*file_name"):
        names(tmp_path / "wrong.csv")


def test_a_row_without_a_path_is_a_broken_item(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "table.csv").write_text("path,item\na.jpg,\n,second\nb.jpg,third\n")
    first, broken, last = ItemSource([tmp_path / "table.csv"])
    assert (first.name, broken.name, last.name) == ("a.jpg", "table.csv-row-1", "third")
    with pytest.raises(SourceError, match=r"row 1 .* has no path or URL"):
        read_item(broken, tmp_path)
    (tmp_path / "odd.csv").write_text('path\n"' + "x" * (1 << 24) + 'x.jpg"\n')
    with pytest.raises(SourceError, match=r"odd\.csv.*damaged"):
        names(tmp_path / "odd.csv")


def test_lists_and_tables_can_name_archives(tmp_path: Path) -> None:
    write_tar(tmp_path / "tars/0.tar", {"a.jpg": b"1"})
    write_tar(tmp_path / "tars/1.tar", {"a.jpg": b"2"})
    (tmp_path / "list.txt").write_text("tars/1.tar\ntars/0.tar\n")
    (tmp_path / "table.csv").write_text("url,id\ntars/1.tar,one.tar\n")
    assert names(tmp_path / "list.txt") == ["tars/1.tar/a.jpg", "tars/0.tar/a.jpg"]
    assert names(tmp_path / "table.csv") == ["one.tar/a.jpg"]
    parts = [names(tmp_path / "list.txt", shard=Shard(index, 2)) for index in range(2)]
    assert sorted(parts[0] + parts[1]) == ["tars/0.tar/a.jpg", "tars/1.tar/a.jpg"]


def test_two_items_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    write_images(tmp_path, ["a/1.jpg", "b/1.jpg"])
    (tmp_path / "table.csv").write_text("item,path\nx,a/1.jpg\nx,a/1.jpg\nx,b/1.jpg\n")
    first, again, other = ItemSource([tmp_path / "table.csv"])
    assert (first.name, again.name, first.problem) == ("x", "x", "")
    assert other.name.startswith("x-")
    with pytest.raises(SourceError, match="another item is called 'x'"):
        read_item(other, tmp_path)


def test_archives_are_read_in_order_and_by_shard(tmp_path: Path) -> None:
    for number in range(6):
        members = {f"./{key}.{suffix}": f"{number} {key}".encode() for key in "ba" for suffix in ("jpg", "json")}
        write_tar(tmp_path / f"s-{number:02d}.tar", members | {"._a.jpg": b"of a Mac"})
    pattern = tmp_path / "s-{00..05}.tar"
    listed = names(pattern)
    assert listed == [f"s-{number:02d}.tar/{key}.jpg" for number in range(6) for key in "ba"]
    parts = [names(pattern, shard=Shard(index, 2)) for index in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(listed)
    assert not {name.partition("/")[0] for name in parts[0]} & {name.partition("/")[0] for name in parts[1]}
    assert [item.content for item in ItemSource([pattern])][:2] == [b"0 b", b"0 a"]
    write_tar(tmp_path / "packed.tgz", {"x.png": b"1"}, "w:gz")
    assert names(tmp_path / "packed.tgz") == ["packed.tgz/x.png"]


def test_a_damaged_archive_is_a_broken_item_after_its_members(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.jpg": b"x" * 2000, "b.jpg": b"y" * 2000})
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[:4000])
    write_tar(tmp_path / "1.tar", {"c.jpg": b"z"})
    items = list(ItemSource([tmp_path]))
    assert [item.name for item in items] == ["0.tar/a.jpg", "0.tar", "1.tar/c.jpg"]
    with pytest.raises(SourceError, match="damaged or cut short"):
        read_item(items[1], tmp_path)


@pytest.mark.slow
def test_parquet_has_paths_or_images(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    write_images(tmp_path, ["a.jpg"])
    parquet.write_table(
        arrow.table({"path": ["a.jpg", "b.jpg"], "bboxes": ["[1,2,3,4]", None]}), tmp_path / "p.parquet"
    )
    first, second = ItemSource([tmp_path / "p.parquet"])
    assert (first.name, dict(first.prompts), second.name) == ("a.jpg", {"bboxes": "[1,2,3,4]"}, "b.jpg")
    images = [{"bytes": b"1", "path": "x/one.png"}, {"bytes": b"2", "path": None}, {"bytes": None, "path": "three.png"}]
    parquet.write_table(arrow.table({"image": images, "label": [1, 2, 3]}), tmp_path / "i.parquet", row_group_size=1)
    items = list(ItemSource([tmp_path / "i.parquet"]))
    assert [item.name for item in items] == [
        f"i.parquet/{name}" for name in ("00000000-one.png", "00000001", "00000002-three.png")
    ]
    assert [item.content for item in items] == [b"1", b"2", None]
    assert "no bytes" in items[2].problem
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but no more")
    [broken] = ItemSource([tmp_path / "broken.parquet"])
    assert "is damaged" in broken.problem


def test_a_source_that_is_none_is_named_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such source"):
        ItemSource([tmp_path / "photso"])
    write_images(tmp_path, ["notes.md"])
    with pytest.raises(SourceError, match=r"notes\.md.*none of the images"):
        names(tmp_path / "notes.md")
    with pytest.raises(SourceError, match="no address that can be opened"):
        ItemSource(["ftpx://host/a.jpg"])
    with pytest.raises(SourceError, match="there is no source"):
        ItemSource([])


def test_a_scheme_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"gcsfs.*masklet\[cloud\]"):
        ItemSource(["gs://bucket/photos"])


def test_hub_addresses_go_through_the_hub_s_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network here: the calls of the hub's file system are replaced."""
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.HfFileSystem, "isdir", lambda self, path: path == "datasets/o/n/images")
    listing = [{"name": "datasets/o/n/images/a.jpg", "type": "file", "size": 3, "blob_id": "b1"}]
    monkeypatch.setattr(hub.HfFileSystem, "ls", lambda self, path, detail=True: listing)
    monkeypatch.setattr(hub.HfFileSystem, "info", lambda self, path: listing[0])
    monkeypatch.setattr(hub.HfFileSystem, "cat_file", lambda self, path: b"abc")
    [item] = ItemSource(["hf://datasets/o/n/images"])
    assert (item.name, item.location, item.version) == ("a.jpg", "hf://datasets/o/n/images/a.jpg", "blob_id=b1")
    assert read_item(item, Path()).sha256 == sha256(b"abc").hexdigest()


@pytest.mark.parametrize("kind", ["images", "videos"])
def test_what_changes_between_list_and_read_is_an_error(tmp_path: Path, kind: str) -> None:
    write_images(tmp_path, ["a.jpg", "a.mp4"])
    [item] = ItemSource([tmp_path], kind)
    Path(item.location).write_bytes(b"other content")
    with pytest.raises(SourceError, match="changed between the time it was listed and the time it was read"):
        read_item(item, tmp_path)
    [item] = ItemSource([tmp_path], kind)
    Path(item.location).unlink()
    with pytest.raises(SourceError, match=r"cannot read|no such file"):
        read_item(item, tmp_path)


def test_remote_videos_are_copied_here_and_removed(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    place = f"memory://videos{tmp_path}"
    storage_of(place).write(f"{place}/cats/v.mp4", b"frames")
    [item] = ItemSource([place], "videos")
    content = read_item(item, tmp_path)
    assert item.name == "cats/v.mp4"
    assert content.path is not None
    assert content.path.suffix == ".mp4"
    assert content.path.read_bytes() == b"frames"
    content.discard()
    assert not content.path.exists()


def test_reading_ahead_is_bounded_and_in_order() -> None:
    listed, started = [], []

    def endless():  # type: ignore[no-untyped-def]
        for number in range(1000):
            listed.append(number)
            yield Item(str(number), str(number))

    ahead = read_ahead(endless(), lambda item: started.append(item.name) or item.name, threads=3, max_items=5)
    assert [next(ahead) for _ in range(10)] == [str(number) for number in range(10)]
    ahead.close()
    assert len(started) <= 10 + 5 + 1
    assert len(listed) <= 10 + 5 + 16 + 3


def test_large_items_wait_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.scale.read_ahead.MAX_WAITING_BYTES", 100)
    waiting = 0

    def prepare(item: Item) -> Item:
        nonlocal waiting
        waiting += item.size or 0
        return item

    items = (Item(str(number), "", size=60) for number in range(9))
    for item in read_ahead(items, prepare, threads=4, max_items=8):
        assert waiting <= 120
        waiting -= item.size or 0


def test_prompts_of_a_table_reach_the_stage(tmp_path: Path) -> None:
    from masklet.scale.run_batch import run_batch

    write_images(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "table.csv").write_text('path,points\na.jpg,"[[1, 2]]"\nb.jpg,"[[3, 4]]"\n')
    points = []

    def stage(batch):  # type: ignore[no-untyped-def]
        points.extend(json.loads(cell) for cell in batch["points"])
        return {"item": batch["item"], "error": [""] * len(batch["item"])}

    list(run_batch(ItemSource([tmp_path / "table.csv"]), stage, tmp_path / "out"))
    assert points == [[[1, 2]], [[3, 4]]]


def test_names_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    from masklet.scale.item_files import file_of_item
    from masklet.scale.run_batch import run_batch

    write_tar(tmp_path / "evil.tar", {"../../up.jpg": b"1", "/etc/root.jpg": b"2", "a\\..\\b.jpg": b"3"})
    (tmp_path / "table.csv").write_text("item,path\n../../x,a.jpg\n/abs,b.jpg\na\0b,c.jpg\n")
    sources = [tmp_path / "evil.tar", tmp_path / "table.csv"]
    out = tmp_path / "deep" / "er" / "out"

    def stage(batch):  # type: ignore[no-untyped-def]
        return {"item": batch["item"], "error": [""] * len(batch["item"])}

    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    assert list(run_batch(ItemSource(sources), stage, out))[-1].done == 3
    after = {path for path in tmp_path.rglob("*") if out not in path.parents}
    assert after - before == {out, out.parent, out.parent.parent}
    root = (tmp_path / "items").resolve()
    for name in ("..", "a/../../b", "/etc/x", "", "a\0", "c:\\x", "." * 300):
        place = Path(file_of_item(str(tmp_path), "items", name)).resolve()
        assert root in place.parents
    assert file_of_item("o", "items", "a\\b") != file_of_item("o", "items", "a_b")


def test_the_output_folder_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    place = f"memory://exclude{tmp_path}"
    for name in ("a.jpg", "out/b.jpg", "output/c.jpg"):
        storage_of(place).write(f"{place}/{name}", b"1")
    assert names(place, exclude=f"{place}/out") == ["a.jpg", "output/c.jpg"]
