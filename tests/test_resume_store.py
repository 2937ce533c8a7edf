"""The store of long runs: complete items or none, one process at a time, settings compared."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from masklet.errors import OutputError
from masklet.resume_store import ResumeStore, StoredItem, read_json_lines


def store(path: Path) -> ResumeStore:
    return ResumeStore(path, busy="another run has it: wait for it")


def test_items_come_back_in_order_with_their_lines(tmp_path: Path) -> None:
    with store(tmp_path / "a" / "run.sqlite") as first:
        first.save_settings({"model": "builtin", "classes": [1, 2]})
        first.add([StoredItem("b", {"n": 1}, ["x", "y"]), StoredItem("a", {"n": 2})])
    with store(tmp_path / "a" / "run.sqlite") as again:
        assert again.settings == {"model": "builtin", "classes": [1, 2]}
        assert list(again.items()) == [("b", {"n": 1}), ("a", {"n": 2})]
        assert (list(again.lines("b")), list(again.lines("a")), list(again.lines("none"))) == (["x", "y"], [], [])


def test_a_known_key_is_replaced_and_a_removed_one_is_gone(tmp_path: Path) -> None:
    with store(tmp_path / "run.sqlite") as opened:
        opened.add([StoredItem("a", {"n": 1}, ["old"]), StoredItem("b", {"n": 2})])
        opened.add([StoredItem("a", {"n": 3}, ["new"])])
        assert list(opened.items()) == [("b", {"n": 2}), ("a", {"n": 3})]
        assert list(opened.lines("a")) == ["new"]
        assert opened.document("a") == {"n": 3}
        opened.remove("a")
        assert [key for key, _ in opened.items()] == ["b"]
        with pytest.raises(KeyError):
            opened.document("a")


def test_a_cleared_store_is_gone(tmp_path: Path) -> None:
    with store(tmp_path / "run.sqlite") as opened:
        opened.add([StoredItem("a", {})])
        opened.clear()
        assert not opened.path.exists()
        assert list(opened.items()) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["run.sqlite"]


def test_an_error_in_the_middle_stores_nothing_of_it(tmp_path: Path) -> None:
    def lines() -> object:
        yield "one"
        raise KeyboardInterrupt

    with store(tmp_path / "run.sqlite") as opened:
        opened.add([StoredItem("a", {})])
        with pytest.raises(KeyboardInterrupt):
            opened.add([StoredItem("b", {}), StoredItem("c", {}, lines())])  # type: ignore[arg-type]
        assert [key for key, _ in opened.items()] == ["a"]


def test_differences_name_what_changed(tmp_path: Path) -> None:
    with store(tmp_path / "run.sqlite") as opened:
        opened.save_settings({"conf": 0.25, "classes": [0], "old": 1})
        assert opened.differences({"conf": 0.5, "classes": (0,), "old": 1, "new": None}) == {"conf": (0.25, 0.5)}


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with store(tmp_path / "run.sqlite"), pytest.raises(OutputError, match="another run has it"):
        store(tmp_path / "run.sqlite").__enter__()
    with store(tmp_path / "run.sqlite"):
        pass


def test_a_full_disk_keeps_what_was_stored(tmp_path: Path) -> None:
    with store(tmp_path / "run.sqlite") as opened:
        opened.add([StoredItem("a", {"n": 1})])
        with opened._connected() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutputError, match="full"):
            opened.add([StoredItem("b", {}, ["x" * 100] * 1000)])
        assert [key for key, _ in opened.items()] == ["a"]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").write_bytes(b"not a database" * 100)
    with store(tmp_path / "run.sqlite") as opened, pytest.raises(OutputError, match="damaged"):
        list(opened.items())


@pytest.mark.parametrize("document", ["{", "[1]", "3", b"\xff", None, "[" * 100_000])
def test_a_damaged_document_is_refused(tmp_path: Path, document: object) -> None:
    with store(tmp_path / "run.sqlite") as opened:
        opened.add([StoredItem("a", {"n": 1})])
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE copy AS SELECT * FROM items")
        connection.execute("DROP TABLE items")
        connection.execute("ALTER TABLE copy RENAME TO items")
        connection.execute("UPDATE items SET document = ?", (document,))
    with store(tmp_path / "run.sqlite") as opened:
        with pytest.raises(OutputError, match="is damaged or of another program"):
            list(opened.items())
        with pytest.raises(OutputError, match="is damaged or of another program"):
            opened.document("a")


@pytest.mark.parametrize("kept", [50, 1000, 5000])
def test_a_truncated_store_is_refused(tmp_path: Path, kept: int) -> None:
    with store(tmp_path / "run.sqlite") as opened:
        opened.add([StoredItem(str(number), {"n": number}, ["x" * 300]) for number in range(100)])
    content = (tmp_path / "run.sqlite").read_bytes()
    (tmp_path / "run.sqlite").write_bytes(content[:kept])
    with store(tmp_path / "run.sqlite") as opened, pytest.raises(OutputError, match="is damaged or of another program"):
        list(opened.items())


def test_a_store_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE items (title TEXT)")
    with store(tmp_path / "run.sqlite") as opened, pytest.raises(OutputError, match="of another program"):
        list(opened.items())


def test_json_lines_end_before_the_first_incomplete_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for end in ('{"c": 3', "[]\n", "null\n", "{\n", "\xff\n"):
        path.write_bytes(b'{"a": 1}\n{"b": 2}\n' + end.encode("latin-1"))
        assert list(read_json_lines(path)) == [{"a": 1}, {"b": 2}]
    with pytest.raises(OutputError, match="cannot be read"):
        list(read_json_lines(tmp_path))


KILLED = """
import os, signal, sys
from pathlib import Path
from masklet.resume_store import ResumeStore, StoredItem

def lines():
    for number in range(5000):
        yield str(number)
    os.kill(os.getpid(), signal.SIGKILL)
    yield "never"

with ResumeStore(Path(sys.argv[1]), busy="busy", durable=sys.argv[2] == "True") as store:
    store.add([StoredItem("a", {"n": 1}, ["x"])])
    store.add([StoredItem("b", {"n": 2}, lines())])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("durable", [True, False])
def test_a_killed_process_leaves_complete_items(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "run.sqlite"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(durable)], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    with store(path) as opened:
        assert list(opened.items()) == [("a", {"n": 1})]
        assert list(opened.lines("a")) == ["x"]
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
