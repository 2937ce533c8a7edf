"""The files below a folder, in one order, whatever links there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from masklet.errors import SourceError
from masklet.media.walk_folder import walk_folder


def names(folder: Path, *skipped: str) -> list[str]:
    return [name for name, _ in walk_folder(str(folder), lambda path: os.path.basename(path) in skipped)]


def test_files_come_before_those_of_subfolders_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10.jpg", "b2.jpg", "a/10.jpg", "a/9.jpg", "z.jpg", ".hidden/1.jpg", "a/.x", "out/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path, "out") == ["b2.jpg", "b10.jpg", "z.jpg", "a/9.jpg", "a/10.jpg"]
    with pytest.raises(SourceError, match="cannot list"):
        names(tmp_path / "nowhere")


def test_links_are_followed_but_a_folder_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").touch()
    (tmp_path / "a/back").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "lost.jpg").symlink_to("nowhere.jpg")
    assert names(tmp_path) == ["itself.jpg", "lost.jpg", "a/1.jpg"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/linked").symlink_to(tmp_path / "a")
    assert names(tmp_path / "elsewhere")[0] == "linked/1.jpg"


def test_links_do_not_multiply_what_is_below_them(tmp_path: Path) -> None:
    """Two links in each of 40 folders to the next one are a million million paths to the last."""
    for number in range(40):
        (tmp_path / "all" / str(number)).mkdir(parents=True)
        for name in ("left", "right"):
            (tmp_path / "all" / str(number) / name).symlink_to(tmp_path / "all" / str(number + 1))
    (tmp_path / "all/40").mkdir()
    (tmp_path / "all/40/1.jpg").touch()
    assert names(tmp_path / "all/0") == ["left/" * 40 + "1.jpg"]
