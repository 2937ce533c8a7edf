"""masklet project: what it prints, and its exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.project_files import small_project
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
