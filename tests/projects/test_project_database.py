"""The file of a project: killed and concurrent processes, full disks, locks, migrations, damaged and hostile files."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from helpers import project_writer
from helpers.project_files import small_project, square
from masklet.errors import MaskletError, OutputError, ProjectError, StateError
from masklet.masks import rle
from masklet.projects import open_project, project_schema
from masklet.projects.project_cache import ProjectCache

WRITER = [sys.executable, project_writer.__file__]


def run_sql(folder: Path, *statements: str) -> None:
    """Change the database behind the back of masklet."""
    with closing(sqlite3.connect(folder / "zoo.masklet" / "project.sqlite")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("count", [10, pytest.param(30, marks=pytest.mark.slow)])
def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path, count: int) -> None:
    small_project(tmp_path).close()
    command = [*WRITER, "kill", str(tmp_path / "zoo.masklet"), str(count), str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= count


@pytest.mark.slow
def test_two_processes_write_one_project_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "zoo.masklet"  # made by whichever is first
    writers = [subprocess.Popen([*WRITER, "write", str(folder), name, "12"]) for name in ("anna", "bo")]
    assert [writer.wait() for writer in writers] == [0, 0]
    with open_project(folder, create=False) as project:
        names = [cls.name for cls in project.classes]
        assert sorted(names) == sorted(f"{name} {index}" for name in ("anna", "bo") for index in range(12))
        assert [action.id for action in project.history()] == list(range(24, 0, -1))
        assert len(project.undo(author="bo")) == 1
        assert "bo 11" not in [cls.name for cls in project.classes]


def test_another_process_that_holds_the_file_is_waited_for_and_named(tmp_path: Path) -> None:
    small_project(tmp_path).close()
    with (
        open_project(tmp_path / "zoo.masklet", timeout_s=0.05) as project,
        closing(sqlite3.connect(tmp_path / "zoo.masklet" / "project.sqlite", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutputError, match="is locked: another process"):
            project.add_class("bird")
        assert len(project.classes) == 2  # readers wait for nobody
        other.execute("ROLLBACK")
        assert project.add_class("bird").name == "bird"


def test_a_full_disk_stores_nothing_of_the_action_and_keeps_the_rest(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        pages = project.database.query("PRAGMA page_count")[0][0]
        project.database.query(f"PRAGMA max_page_count = {pages + 2}")
        noise = np.random.default_rng(0).random((24, 32)) < 0.5

        def write_many() -> None:
            with project.action("many"):
                for number in range(200):
                    project.set_mask(1, 0, np.roll(noise, number))

        with pytest.raises(OutputError, match=r"full.*make room"):
            write_many()
        stored = project.mask(1)
        assert stored is not None
        assert np.array_equal(stored.mask, square())
        project.database.query("PRAGMA max_page_count = 100000")
        project.set_mask(1, 0, noise)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        open_project(tmp_path / "file" / "zoo.masklet")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_named(tmp_path: Path) -> None:
    small_project(tmp_path).close()
    (tmp_path / "zoo.masklet").chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            open_project(tmp_path / "zoo.masklet")
    finally:
        (tmp_path / "zoo.masklet").chmod(0o700)


# what version 1 of the format was when it was released: never edit this text
VERSION_1 = """
CREATE TABLE migrations (version INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE sources (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL, frames INTEGER,
    fps REAL, files TEXT, split TEXT, video TEXT);
CREATE INDEX sources_by_content ON sources (sha256);
CREATE TABLE classes (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, color TEXT);
CREATE TABLE objects (id INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL REFERENCES sources (id) DEFERRABLE INITIALLY DEFERRED,
    class INTEGER REFERENCES classes (id) DEFERRABLE INITIALLY DEFERRED,
    number INTEGER NOT NULL, track_id INTEGER, name TEXT NOT NULL, hidden INTEGER NOT NULL, locked INTEGER NOT NULL,
    UNIQUE (source, number));
CREATE INDEX objects_of_class ON objects (class);
CREATE TABLE prompts (object INTEGER NOT NULL REFERENCES objects (id) DEFERRABLE INITIALLY DEFERRED,
    frame INTEGER NOT NULL, points TEXT, labels TEXT, box TEXT, mask TEXT, author TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (object, frame)) WITHOUT ROWID;
CREATE TABLE masks (object INTEGER NOT NULL REFERENCES objects (id) DEFERRABLE INITIALLY DEFERRED,
    frame INTEGER NOT NULL, content TEXT NOT NULL, state TEXT NOT NULL, score REAL, origin TEXT NOT NULL,
    author TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (object, frame)) WITHOUT ROWID;
CREATE TABLE verified (object INTEGER NOT NULL REFERENCES objects (id) DEFERRABLE INITIALLY DEFERRED,
    frame INTEGER NOT NULL, author TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (object, frame)) WITHOUT ROWID;
CREATE TABLE contents (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, counts TEXT NOT NULL,
    kept INTEGER NOT NULL);
CREATE INDEX droppable_contents ON contents (number) WHERE kept = 0;
CREATE TABLE locations (source INTEGER PRIMARY KEY, path TEXT NOT NULL, relative TEXT, mtime_ns INTEGER NOT NULL);
CREATE TABLE actions (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, summary TEXT NOT NULL,
    author TEXT NOT NULL, at REAL NOT NULL, run INTEGER, state TEXT NOT NULL, undone_by INTEGER);
CREATE INDEX undone_actions ON actions (undone_by) WHERE state = 'undone';
CREATE TABLE changes (action INTEGER NOT NULL REFERENCES actions (id), number INTEGER NOT NULL,
    table_name TEXT NOT NULL, before TEXT, after TEXT, PRIMARY KEY (action, number)) WITHOUT ROWID;
INSERT INTO migrations VALUES (1, 1795000000.0);
INSERT INTO sources VALUES (1, 'photo', 'image', 'ab', 81, 2, 3, 1, NULL, NULL, NULL, NULL);
INSERT INTO locations VALUES (1, '/gone/photo.png', '../gone/photo.png', 5);
INSERT INTO objects VALUES (1, 1, NULL, 1, NULL, 'Rex', 0, 0);
INSERT INTO contents VALUES (1, 'cd', '06', 1);
INSERT INTO masks VALUES (1, 0, 'cd', 'visible', 0.5, 'edit', 'anna', 1795000000.0);
INSERT INTO actions VALUES (1, 'add object', 'Rex', 'anna', 1795000000.0, NULL, 'done', NULL);
INSERT INTO changes VALUES (1, 0, 'objects', NULL, '{"id": 1, "source": 1, "class": null, "number": 1, "track_id": null,
    "name": "Rex", "hidden": 0, "locked": 0}');
INSERT INTO actions VALUES (2, 'edit', '', 'anna', 1795000001.0, NULL, 'done', NULL);
INSERT INTO changes VALUES (2, 0, 'masks', NULL, '{"object": 1, "frame": 0, "content": "cd", "state": "visible",
    "score": 0.5, "origin": "edit", "author": "anna", "at": 1795000000.0}');
PRAGMA application_id = 1836280684;
PRAGMA user_version = 1;
"""


def make_version_1(folder: Path) -> Path:
    """Write a project of version 1 of the format."""
    (folder / "zoo.masklet").mkdir()
    with closing(sqlite3.connect(folder / "zoo.masklet" / "project.sqlite")) as connection:
        connection.executescript(VERSION_1)
    return folder / "zoo.masklet"


def test_a_file_of_version_1_opens_and_the_tables_of_today_are_those_of_their_migrations(tmp_path: Path) -> None:
    with open_project(make_version_1(tmp_path)) as project, open_project(tmp_path / "new.masklet") as new:
        mask = project.mask(1)
        assert mask is not None
        assert mask.mask.all()
        assert project.object(1).name == "Rex"
        names = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name"
        old, today = (
            [(name, " ".join(sql.split())) for name, sql in one.database.query(names)] for one in (project, new)
        )
        assert old == today
        for table, spec in project_schema.TABLES.items():
            columns = [row[1] for row in new.database.query(f"PRAGMA table_info({table})")]
            assert columns == list(spec.columns)
        assert project.undo() == [2]
        assert project.undo() == [1]
        assert project.objects() == []


def test_a_migration_keeps_everything_and_the_old_file_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_version_1(tmp_path)
    with open_project(folder) as old:
        with monkeypatch.context() as patch:
            step = "ALTER TABLE objects ADD COLUMN note TEXT NOT NULL DEFAULT 'none'"
            patch.setattr(project_schema, "MIGRATIONS", (*project_schema.MIGRATIONS, step))
            with open_project(folder) as project:
                assert project.database.query("SELECT version FROM migrations") == [(1,), (2,)]
                assert project.database.query("SELECT note FROM objects") == [("none",)]
                project.update_object(1, name="Max")
                assert project.undo()
                assert project.undo()
                assert project.undo()
                assert project.objects() == []
                assert project.redo()
                assert project.object(1).name == "Rex"
        with pytest.raises(StateError, match="migrated by another version"):
            old.add_class("bird")
    assert (folder / "project.v1.sqlite").is_file()
    with pytest.raises(ProjectError, match="version 2 of the format, and this masklet knows 1: update"):
        open_project(folder)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_version_1(tmp_path)
    with monkeypatch.context() as patch:
        step = "ALTER TABLE objects ADD COLUMN note TEXT; UPDATE absent SET note = 1"
        patch.setattr(project_schema, "MIGRATIONS", (*project_schema.MIGRATIONS, step))
        with pytest.raises(ProjectError, match="no such table"):
            open_project(folder)
    with open_project(folder) as project:
        assert project.object(1).name == "Rex"
        assert len(project.database.query("PRAGMA table_info(objects)")) == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"no database, and long enough to be one" * 99), "not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "malformed|cannot be read"),
        (lambda path: (path.unlink(), foreign(path)), "another program"),
        (lambda path: run_sql(path.parents[1], "PRAGMA user_version = 9"), "update masklet"),
        (lambda path: run_sql(path.parents[1], "PRAGMA user_version = -1"), "update masklet"),
        (lambda path: run_sql(path.parents[1], "DROP TABLE masks"), "no such table"),
        (lambda path: run_sql(path.parents[1], "CREATE VIEW v AS SELECT 1"), "triggers or views"),
        (
            lambda path: run_sql(
                path.parents[1], "CREATE TRIGGER t AFTER INSERT ON classes BEGIN DELETE FROM masks; END"
            ),
            "triggers or views",
        ),
    ],
)
def test_damaged_foreign_and_newer_files_are_named_and_kept(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    small_project(tmp_path).close()
    path = tmp_path / "zoo.masklet" / "project.sqlite"
    make(path)
    before = path.read_bytes()
    with pytest.raises(ProjectError, match=message), open_project(path.parent) as project:
        project.masks(2)
    assert path.read_bytes() == before


def foreign(path: Path) -> None:
    """Write the database of another program."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE objects SET number = 'many' || id",
        "UPDATE objects SET name = x'ff00fe'",
        "UPDATE masks SET score = 'good'",
        "UPDATE masks SET content = x'00ff'",
        "UPDATE sources SET files = '{\"a\": 1}'",
        "UPDATE sources SET files = '[1, [2'",
        "UPDATE sources SET width = 'wide'",
        "UPDATE prompts SET points = '[1, 2]'",
        "UPDATE prompts SET points = '[[1, \"a\"]]', labels = '[\"x\"]'",
        "UPDATE prompts SET box = '[1]'",
        "UPDATE prompts SET points = 'NaN'",
        "UPDATE contents SET counts = '~~~'",
        "UPDATE contents SET counts = x'fffefd'",
        "UPDATE contents SET counts = 5",
        "UPDATE contents SET counts = CAST(zeroblob(3000000) AS TEXT)",
        "UPDATE sources SET height = 1073741824, width = 1073741824",
        "UPDATE sources SET height = -1",
        "UPDATE changes SET after = '{\"id\": 1}' WHERE after IS NOT NULL",
        "UPDATE changes SET after = '[]', before = NULL",
        "UPDATE changes SET table_name = 'sqlite_master'",
        "UPDATE changes SET after = replace(after, 'frame', 'frame) VALUES (1); --')",
        "UPDATE actions SET kind = x'ff', summary = x'ff'",
        "UPDATE locations SET path = x'ff', relative = 7",
    ],
)
def test_hostile_values_are_errors_of_masklet_and_nothing_else(tmp_path: Path, statement: str) -> None:
    small_project(tmp_path).close()
    run_sql(tmp_path, "PRAGMA foreign_keys = OFF", "PRAGMA ignore_check_constraints = ON", statement)
    problems = []
    with open_project(tmp_path / "zoo.masklet") as project:

        def read_masks() -> None:
            for mask in project.masks(2):
                assert mask.mask.shape == (24, 32)

        for call in (
            lambda: project.sources,
            lambda: project.objects(2),
            lambda: project.prompts(2),
            read_masks,
            project.missing_sources,
            project.history,
            lambda: project.changes_since(0),
            lambda: problems.extend(issue.reason for issue in project.export("coco", tmp_path / "out").issues),
            project.undo,
        ):
            try:
                call()
            except MaskletError as error:
                problems.append(str(error))
    assert problems, "nothing of it was noticed"


def test_a_value_of_a_gigabyte_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_project(tmp_path).close()
    run_sql(tmp_path, "UPDATE contents SET counts = CAST(zeroblob(300000) AS TEXT)")
    monkeypatch.setattr("masklet.projects.project_database.MAX_VALUE_BYTES", 1 << 17)
    if not hasattr(sqlite3.Connection, "setlimit"):
        pytest.skip("Python 3.10 has no limit for the length of a value")
    with open_project(tmp_path / "zoo.masklet") as project, pytest.raises(ProjectError, match="too big"):
        project.masks(2)


def test_a_cache_never_fails(tmp_path: Path) -> None:
    cache = ProjectCache(tmp_path / "cache.sqlite", max_bytes=100)
    assert cache.put("a", b"x" * 60)
    assert cache.put("b", b"y" * 30)
    assert cache.get("a")
    assert cache.put("c", b"z" * 30)  # b was not used for longest
    assert (cache.get("a"), cache.get("b"), cache.num_bytes) == (b"x" * 60, None, 90)
    assert not cache.put("large", b"x" * 101)
    assert cache.get("large") is None
    cache.close()
    cache.path.write_bytes(b"damaged" * 1000)
    assert cache.get("a") is None
    assert cache.put("a", b"again")
    assert cache.get("a") == b"again"
    cache.close()
    shutil.rmtree(tmp_path)
    assert not cache.put("a", b"x")
    assert cache.get("a") is None
    assert cache.drop() == 0


def test_masks_survive_the_loss_of_the_cache_file(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        project.caches.put("features", b"x")
        (tmp_path / "zoo.masklet" / "cache.sqlite").unlink()
        code = project.masks(1)[0].rle
        assert code is not None
        assert np.array_equal(rle.decode({**code}), square())
