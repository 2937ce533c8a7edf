"""`open_source` finds what was meant, in natural order, and says what was wrong where it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.errors import MaskletError, SourceError
from masklet.media import SourceImage, open_images
from masklet.media.image_source import natural_key

GRAY = np.full((4, 6, 3), 100, np.uint8)


def shade(value: int) -> Image.Image:
    return Image.new("RGB", (6, 4), (value, value, value))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value in (1, 2, 10):
        shade(value).save(tmp_path / f"shot{value}.png")
    shade(30).save(tmp_path / "Other.BMP")
    (tmp_path / "notes.txt").write_text("cannot be read as an image")
    (tmp_path / ".hidden.png").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "clip.mp4").write_bytes(b"\x00")
    (tmp_path / "below.png").mkdir()
    (tmp_path / "below.png" / "deep.jpg").write_bytes(b"")
    return tmp_path


def names(source: object) -> list[str]:
    return [Path(image.path).name for image in open_images(source)]


def test_a_folder_in_natural_order(folder: Path) -> None:
    assert names(folder) == ["Other.BMP", "shot1.png", "shot2.png", "shot10.png"]
    assert len(open_images(str(folder))) == 4
    assert [image.rgb[0, 0, 0] for image in open_images(folder)] == [30, 1, 2, 10]


def test_globs(folder: Path) -> None:
    assert names(str(folder / "shot*")) == ["shot1.png", "shot2.png", "shot10.png"]
    assert names(str(folder / "*[02].png")) == ["shot2.png", "shot10.png"]
    assert len(open_images(str(folder / "**" / "*.*"))) == 5


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    shade(9).save(tmp_path / "a[1].png")
    assert names(str(tmp_path / "a[1].png")) == ["a[1].png"]


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert names("~/shot1.png") == ["shot1.png"]


def test_a_mixed_list(folder: Path) -> None:
    source = [folder / "shot2.png", GRAY, shade(5), SourceImage(GRAY, "mine"), str(folder / "shot1*.png")]
    images = open_images(source)
    assert len(images) == 6
    paths = [image.path for image in images]
    assert [Path(path).name for path in paths] == [
        "shot2.png", "image1", "image2", "mine", "shot1.png", "shot10.png",
    ]  # fmt: skip
    assert len(images) == 6


def test_a_pil_image_keeps_its_file_name(folder: Path) -> None:
    with Image.open(folder / "shot1.png") as image:
        assert names(image) == ["shot1.png"]


def test_channels_apply_to_arrays_only(folder: Path) -> None:
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[..., 0] = 255
    array, image = open_images([blue, Image.new("RGB", (6, 4), "red")], channels="bgr")
    assert array.rgb[0, 0].tolist() == [0, 0, 255]
    assert image.rgb[0, 0].tolist() == [255, 0, 0]


def test_an_iterator_is_read_one_at_a_time(folder: Path) -> None:
    taken: list[int] = []

    def frames() -> object:
        for index in range(3):
            taken.append(index)
            yield GRAY

    images = open_images(frames())
    assert taken == []
    assert next(images).path == "image0"
    assert taken == [0]
    assert images.total is None
    with pytest.raises(TypeError, match="not known"):
        len(images)
    assert [image.path for image in images] == ["image1", "image2"]


def test_pixels_are_read_late_and_paths_checked_early(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    shade(1).save(tmp_path / "good.png")
    images = open_images([tmp_path / name for name in ("good.png", "bad.png", "good.png")])
    assert next(images).size == (4, 6)
    with pytest.raises(SourceError, match="cannot be read as an image"):
        next(images)
    assert next(images).size == (4, 6)  # one bad image does not end the others
    with pytest.raises(SourceError, match="no such image"):
        open_images([tmp_path / "good.png", tmp_path / "gone.png"])


def test_natural_key() -> None:
    mixed = ["b10", "B2", "a1b20", "a1b3", "10", "9", "b"]
    assert sorted(mixed, key=natural_key) == ["9", "10", "a1b3", "a1b20", "b", "B2", "b10"]


class Tensor:
    """Stands for a torch tensor: media knows torch by name only."""

    __module__ = "torch"

    def __iter__(self) -> object:
        return iter([])


# name: (make the source from the folder, words of value, rule and remedy)
BAD_SOURCES = {
    "missing, near name": (
        lambda f: f / "shto1.png",
        ["shto1.png", "no such image", "did you mean 'shot1"],
    ),
    "missing, nothing near": (lambda f: f / "zebra.gif", ["zebra.gif", "no such image", "full path"]),
    "missing folder": (lambda f: f / "gone" / "a.png", ["gone", "there is no 'gone' in", "spelling"]),
    "file as folder": (lambda f: f / "shot1.png" / "a.png", ["no such image", "full path"]),
    "missing in a list": (lambda f: [f / "shot1.png", f / "shot3.png"], ["shot3.png", "did you mean"]),
    "empty folder": (lambda f: mkdir(f / "void"), ["void", "empty", ".jpg", "glob"]),
    "folder of text": (lambda f: mkdir(f / "t", "a.txt"), ["a.txt", ".jpg", ".webp", "**"]),
    "folder of videos": (lambda f: mkdir(f / "v", "a.mp4"), ["a.mp4", ".jpg", "model.track"]),
    "folder with only a folder": (lambda f: mkdir(f / "d" / "x.png").parent, ["x.png", "**"]),
    "glob of nothing": (lambda f: str(f / "*.webp"), ["*.webp", "matches nothing", "case"]),
    "glob of text": (lambda f: str(f / "*.txt"), ["notes.txt", ".png"]),
    "video": (lambda f: f / "clip.mp4", ["clip.mp4", "video", "model.track"]),
    "stream": (lambda f: "rtsp://camera/1", ["rtsp://", "http or https", "model.track"]),
    "empty text": (lambda f: "", ["''", "path", "URL"]),
    "empty list": (lambda f: [], ["[]", "at least one"]),
    "none": (lambda f: None, ["NoneType", "path", "image"]),
    "camera": (lambda f: 0, ["int", "model.track", "'0.jpg'"]),
    "bytes": (lambda f: b"\x89PNG", ["bytes", "io.BytesIO"]),
    "dict": (lambda f: {"image": 1}, ["dict", "NumPy array"]),
    "nested lists": (lambda f: [[[0, 0, 0]]], ["list", "np.array(pixels, dtype=np.uint8)"]),
    "numbers": (lambda f: [1, 2], ["int", "paths, arrays"]),
    "none in a list": (lambda f: [None], ["NoneType", "allowed"]),
    "tensor": (lambda f: Tensor(), ["torch.Tensor", "permute(1, 2, 0).cpu().numpy()"]),
}


def mkdir(path: Path, *files: str) -> Path:
    path.mkdir(parents=True)
    for file in files:
        (path / file).write_bytes(b"")
    return path


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_bad_sources_are_refused_at_once(name: str, folder: Path) -> None:
    make, words = BAD_SOURCES[name]
    with pytest.raises(SourceError) as caught:
        open_images(make(folder))
    for word in words:
        assert word in str(caught.value)


def test_bad_channels_and_the_tree_of_errors() -> None:
    with pytest.raises(SourceError, match=r"'BGR'.*'rgb' and 'bgr'"):
        open_images(GRAY, channels="BGR")  # type: ignore[arg-type]
    assert issubclass(SourceError, ValueError)
    assert issubclass(SourceError, MaskletError)


def test_bad_items_of_an_iterator_are_refused_when_reached() -> None:
    images = open_images(iter([GRAY, 3]))
    next(images)
    with pytest.raises(SourceError, match="int"):
        next(images)
