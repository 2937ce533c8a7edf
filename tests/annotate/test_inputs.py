"""Listing inputs, their names, and their splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from masklet.annotate.inputs import InputFile, assign_splits, default_output_dir, list_inputs
from masklet.errors import SourceError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        *("photos/p10.jpg", "photos/p2.jpg", "photos/cats/a.JPG", "photos/cats/deep/b.png", "photos/clip.mp4"),
        *("photos/.hidden/c.jpg", "photos/.d.jpg", "photos/notes.txt", "photos/out/images/a.jpg", "other/p2.jpg"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "photos/out/.masklet").mkdir()
    return tmp_path


def names(*data: object, **more: object) -> list[str]:
    return [item.name for item in list_inputs(data[0] if len(data) == 1 else list(data), **more)]  # type: ignore[arg-type]


def test_folder_is_listed_recursively_without_hidden_and_output_folders(tree: Path) -> None:
    assert names("photos") == ["clip", "p2", "p10", "cats/a", "cats/deep/b"]
    assert names(Path("photos"), exclude=Path("photos/cats")) == ["clip", "p2", "p10"]
    assert [item.is_video for item in list_inputs("photos")] == [True, False, False, False, False]


def test_links_to_folders_are_followed_without_loops(tree: Path) -> None:
    (tree / "other/back").symlink_to(tree / "other", target_is_directory=True)
    (tree / "other/cats").symlink_to(tree / "photos/cats", target_is_directory=True)
    assert names("other") == ["p2", "cats/a", "cats/deep/b"]


def test_globs_files_and_lists_keep_subfolders(tree: Path) -> None:
    assert names("photos/**/*.png") == ["cats/deep/b"]
    assert names("photos/*.jpg") == ["p2", "p10"]
    assert names("photos/p2.jpg") == ["p2"]
    assert names("photos/cats", "other") == ["photos/cats/a", "photos/cats/deep/b", "other/p2"]
    assert names("photos/p2.jpg", "photos/p2.jpg", "photos/p10.jpg") == ["p2", "p10"]


def test_names_are_unique(tree: Path) -> None:
    for name in ("p2.png", "p2.webp", "p2_png.gif", "classes.png", "a:b.png"):
        (tree / "other" / name).touch()
    listed = names("other")
    assert len(set(listed)) == len(listed) == 6
    assert {"p2", "p2_png", "p2_webp", "classes_png", "a_b"} < set(listed)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", "no such image, video or folder"),
        ("photos/notes.txt", "no image or video by its name"),
        ("*/*.tiff", "matches no image and no video"),
        ("https://example.org/a.jpg", "download it first"),
        ([], "an empty list"),
        (7, "data of type int cannot be annotated"),
        (b"photos", "data of type bytes"),
        ([None], "is not a path"),
    ],
)
def test_invalid_data_is_reported(tree: Path, data: object, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list_inputs(data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        ("photos", "photos_auto_annotate_labels"),
        ("photos/", "photos_auto_annotate_labels"),
        ("photos/cats", "photos/cats_auto_annotate_labels"),
        ("photos/p2.jpg", "photos/p2_auto_annotate_labels"),
        ("photos/**/*.jpg", "photos_auto_annotate_labels"),
        (["photos/p2.jpg", "other"], "../{root}_auto_annotate_labels"),
        (".", "../{root}_auto_annotate_labels"),
    ],
)
def test_default_output_folder_is_next_to_the_data(tree: Path, data: object, folder: str) -> None:
    expected = (tree / folder.format(root=tree.name)).resolve()
    assert default_output_dir(data).resolve() == expected  # type: ignore[arg-type]


def test_splits_depend_on_names_and_are_never_empty() -> None:
    items = [InputFile(f"p{number}", "") for number in range(400)]
    splits = {item.name: item.split for item in assign_splits(items, 0.2)}
    assert 290 < list(splits.values()).count("train") < 350
    assert {item.name: item.split for item in assign_splits(items[50:90], 0.2)} == {
        f"p{n}": splits[f"p{n}"] for n in range(50, 90)
    }
    for fraction in (0.001, 0.999):
        for count in (2, 3, 7):
            assert {item.split for item in assign_splits(items[:count], fraction)} == {"train", "val"}
    assert [item.split for item in assign_splits(items[:3], None)] == ["", "", ""]
