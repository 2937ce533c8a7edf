"""masklet project: what it prints, and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.project_files import save_frames, small_project
from masklet.projects import open_project


def test_info_export_import_and_undo(
    masklet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small_project(tmp_path).close()
    shown = masklet("project", "info", "zoo.masklet", "--history", "2")
    assert (shown.code, shown.err) == (0, "")
    assert "photo: image, 32 x 24, 1 objects, 1 masks (1 of people), 0 verified" in shown.out
    assert "clip: video of 6 frames, 32 x 24, 2 objects, 6 masks (3 of people), 0 verified" in shown.out
    assert shown.out.count("UTC  anna: ") == 2

    done = masklet("project", "export", "zoo.masklet", "out", "--to", "coco")
    assert done.code == 0
    assert "4 images, 7 objects" in done.out
    assert "nothing was lost" in done.out
    done = masklet("project", "import", "again.masklet", "out", "--author", "bo")
    assert done.code == 0
    assert "4 images and videos, 7 objects, 7 masks" in done.out
    done = masklet("project", "undo", "again.masklet")
    assert done.code == 0
    assert done.out.startswith("undo of 1 action(s): out (coco)")
    assert "nothing to undo" in masklet("project", "undo", "again.masklet", "-n", "2").out
    assert "redo of 1" in masklet("project", "undo", "again.masklet", "--redo").out
    with open_project("again.masklet") as project:
        assert len(project.objects()) == 7
        assert project.history()[-1].author == "bo"


def test_moved_files_are_named_and_found(
    masklet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small_project(tmp_path).close()
    assert masklet("project", "relocate", "zoo.masklet").out == "all files are where they were\n"
    Path("photo.png").rename("moved.png")
    Path("clip").rename("frames")
    shown = masklet("project", "info", "zoo.masklet")
    assert shown.code == 1
    assert shown.out.count("its file is missing") == 2
    done = masklet("project", "relocate", "zoo.masklet", "--move", "clip=frames")
    assert done.code == 1
    assert done.out == f"found clip: {tmp_path / 'frames'}\nmissing photo\n"
    done = masklet("project", "relocate", "zoo.masklet", "--search", ".")
    assert done.code == 0
    assert "found photo" in done.out


def test_mistakes_are_one_line(masklet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_project(tmp_path).close()
    for words, message in (
        (("info", "none.masklet"), "there is no project"),
        (("import", "new.masklet", "nowhere"), "no such data set"),
        (("export", "zoo.masklet", "out", "--to", "cocoa"), "did you mean coco"),
        (("relocate", "zoo.masklet", "--move", "clip"), "must be OLD=NEW"),
        (("relocate", "zoo.masklet", "--move", "x=y"), "is no source"),
    ):
        done = masklet("project", *words)
        assert done.code == 2
        assert message in done.err
        assert len(done.err.splitlines()) == 1
    assert not Path("new.masklet").exists()
    assert not Path("none.masklet").exists()


def test_files_are_added_once_and_broken_ones_named(
    masklet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(Path("clip"), 3)
    Path("broken.png").write_bytes(b"no image")
    done = masklet("project", "add", "new.masklet", "clip", "--as-video", "--author", "bo")
    assert (done.code, done.out) == (0, "new.masklet: 1 images and videos added\n")
    done = masklet("project", "add", "new.masklet", "clip", "clip/00001.png", "broken.png")
    assert done.code == 1
    assert done.out.startswith("new.masklet: 3 images and videos added, 1 were there already\n  broken.png: ")
    with open_project("new.masklet") as project:
        assert [(one.kind, one.num_frames) for one in project.sources] == [("video", 3), *[("image", 1)] * 3]
        assert project.history()[-1].author == "bo"
    done = masklet("project", "add", "new.masklet", "nothing.png")
    assert done.code == 2
    assert "does not exist" in done.err


def test_objects_are_tracked_into_a_project(
    masklet: Callable[..., Any], video: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["masklet.cli.project"], "open_model", lambda *_: tracker)
    with open_project("clip.masklet") as project:
        source = project.add_source(video)
        first, second = project.add_object(source), project.add_object(source)
        assert "no object of clip.masklet has a prompt" in masklet("project", "track", "clip.masklet").err
        for obj in (first, second):
            project.set_prompt(obj, 2, points=[[26, 25]])
    done = masklet("project", "track", "clip.masklet", "--start", "2", "--stop", "6")
    assert (done.code, done.out) == (0, "video: 4 frames, 8 masks\n")
    done = masklet("project", "track", "clip.masklet", "--source", "video", "--objects", "2", "--bidirectional")
    assert (done.code, done.out) == (0, "video: 10 frames, 10 masks\n")
    with open_project("clip.masklet") as project:
        frames = {number: [one.frame for one in project.masks(source) if one.object_id == number] for number in (1, 2)}
        assert frames == {1: [2, 3, 4, 5], 2: list(range(10))}
        assert {one.author for one in project.masks(source)} == {tracker.info().name}
    for words, message in (
        (("--source", "other"), "is no source of clip.masklet, which has video"),
        (("--objects", "x"), "must be whole numbers"),
        (("--objects", "7"), "7"),
    ):
        done = masklet("project", "track", "clip.masklet", *words)
        assert done.code == 2
        assert message in done.err
