from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.atomic_files import atomic_path, write_image, write_text
from masklet.errors import OutputError


def test_a_file_appears_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("all of it")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "all of it"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half" + temporary.write_text("half"))  # type: ignore[operator]
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a\.txt could not be written .*choose"):
        write_text(tmp_path / "file" / "a.txt", "x")
    with pytest.raises(OutputError, match="could not be written"):
        write_text(tmp_path, "x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (4, 6, 4)])
def test_images_come_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(write_image(tmp_path / "a.png", pixels))), pixels)


@pytest.mark.parametrize(("name", "needed"), [("a.xyz", "'.xyz'"), ("a", "no suffix"), ("a.jpg", "transparency")])
def test_a_suffix_that_cannot_hold_it_is_refused(tmp_path: Path, name: str, needed: str) -> None:
    with pytest.raises(OutputError, match=needed + ".*end it in"):
        write_image(tmp_path / name, np.zeros((4, 6, 4), np.uint8))
    assert not list(tmp_path.iterdir())
