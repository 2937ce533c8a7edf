"""Every kind of image becomes RGB uint8, upright; what cannot is refused with value and remedy."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, features

from masklet.errors import MaskletWarning, SourceError
from masklet.media import SourceImage, open_images, open_video
from masklet.media.image import check_image_size, from_array, from_bytes, from_file, from_pil

# 2 rows, 3 columns: red, green, blue over black, white, gray.
SMALL = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [255, 255, 255], [128, 128, 128]]], np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_colors_and_path_survive(tmp_path: Path) -> None:
    file = tmp_path / "small.png"
    Image.fromarray(SMALL).save(file)
    image = from_file(str(file))
    assert np.array_equal(image.rgb, SMALL)
    assert image.path == str(file)
    assert image.size == (2, 3)
    assert image.rgb.flags.writeable
    assert image.rgb.flags.c_contiguous


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    file = tmp_path / "really_a_png.jpg"
    file.write_bytes(encoded(Image.fromarray(SMALL)))
    assert np.array_equal(from_file(str(file)).rgb, SMALL)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBa", "La", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("RGB", (5, 4), (255, 255, 255))
    for step in {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "PA": ("P", "PA")}.get(mode, (mode,)):
        image = image.convert(step)
    photo = from_pil(image)
    assert photo.rgb.shape == (4, 5, 3)
    assert photo.rgb.min() >= 254


def test_alpha_is_dropped_and_the_colors_below_it_stay() -> None:
    image = Image.new("RGBA", (2, 2), (10, 200, 30, 0))
    assert from_pil(image).rgb[0, 0].tolist() == [10, 200, 30]


def test_palette_with_transparency_keeps_its_colors() -> None:
    palette = Image.fromarray(SMALL).convert("P", palette=Image.Palette.ADAPTIVE)
    data = encoded(palette, transparency=bytes([0, 128, 255]))
    assert np.array_equal(from_bytes(data, "p.png").rgb, SMALL)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257, 1), (32896, 128), (65535, 255)])
def test_sixteen_bits_are_scaled(value: int, expected: int) -> None:
    data = encoded(Image.fromarray(np.full((2, 3), value, np.uint16)))
    rgb = from_bytes(data, "deep.png").rgb
    assert rgb.shape == (2, 3, 3)
    assert (rgb == expected).all()


def test_float_tiff_within_one() -> None:
    data = encoded(Image.fromarray(np.full((2, 3), 0.5, np.float32)), "TIFF")
    assert (from_bytes(data, "f.tif").rgb == 128).all()


# Where the red corner (top left when upright) is stored for each EXIF orientation.
STORE = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", sorted(STORE))
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORE[orientation](SMALL)))
    data = encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(from_bytes(data, "turned").rgb, SMALL)
    assert np.array_equal(from_pil(Image.open(io.BytesIO(data))).rgb, SMALL)


def test_broken_exif_does_not_hide_the_image() -> None:
    data = encoded(Image.fromarray(SMALL), exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff junk")
    with pytest.warns(UserWarning, match="EXIF"):  # Pillow's own warning passes through
        assert np.array_equal(from_bytes(data, "odd.png").rgb, SMALL)


def test_animation_gives_its_first_frame() -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert from_bytes(data, "a.gif").rgb[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "array",
    [
        SMALL,
        SMALL.astype(np.float32) / 255,
        SMALL.astype(np.float64) / 255,
        np.dstack([SMALL, np.zeros((2, 3), np.uint8)]),
        np.asfortranarray(SMALL),
    ],
    ids=["uint8", "float32", "float64", "rgba", "fortran"],
)
def test_arrays(array: np.ndarray) -> None:
    image = from_array(array)
    assert np.array_equal(image.rgb, SMALL)
    assert image.rgb.flags.c_contiguous


def test_gray_arrays_and_opencv_order() -> None:
    gray = SMALL[:, :, 0]
    assert np.array_equal(from_array(gray).rgb, np.dstack([gray] * 3))
    assert np.array_equal(from_array(gray[:, :, None], channels="bgr").rgb, np.dstack([gray] * 3))
    assert np.array_equal(from_array(SMALL[:, :, ::-1], channels="bgr").rgb, SMALL)
    bgra = np.dstack([SMALL[:, :, ::-1], np.zeros((2, 3), np.uint8)])
    assert np.array_equal(from_array(bgra, channels="bgr").rgb, SMALL)


def test_array_is_copied_so_that_buffers_can_be_reused() -> None:
    buffer = SMALL.copy()
    image = from_array(buffer)
    buffer[:] = 7
    assert np.array_equal(image.rgb, SMALL)


def test_image_asserts_its_own_shape() -> None:
    with pytest.raises(AssertionError):
        SourceImage(np.zeros((2, 3), np.uint8), "x")


ARRAY_ERRORS = {
    "empty": (np.zeros((0, 4, 3), np.uint8), ["(0, 4, 3)", "no pixels", "at least 1 x 1"]),
    "batch": (np.zeros((2, 4, 4, 3), np.uint8), ["(2, 4, 4, 3)", "(H, W, 3)", "list(array)"]),
    "channels first": (np.zeros((3, 8, 9), np.uint8), ["(3, 8, 9)", "transpose(1, 2, 0)"]),
    "two channels": (np.zeros((8, 9, 2), np.uint8), ["(8, 9, 2)", "array[..., :3]"]),
    "one dimension": (np.zeros(5, np.uint8), ["(5,)", "(H, W)"]),
    "uint16": (np.zeros((4, 4), np.uint16), ["uint16", "uint8 in 0..255", ">> 8"]),
    "int64": (np.zeros((4, 4), np.int64), ["int64", "astype(np.uint8)"]),
    "bool": (np.zeros((4, 4), bool), ["bool", "np.uint8(255)"]),
    "object": (np.full((4, 4), None), ["object", "uint8"]),
    "NaN": (np.full((2, 2), np.nan), ["4 NaN", "0..1", "nan_to_num"]),
    "infinite": (np.full((2, 2), np.inf), ["infinite", "0..1"]),
    "0 to 255 floats": (np.full((2, 2), 255.0), ["255", "0..1", "array / 255"]),
    "normalized": (np.full((2, 2), -1.5), ["-1.5", "0..1", "normalization"]),
}


@pytest.mark.parametrize("name", ARRAY_ERRORS)
def test_array_errors_have_value_rule_and_remedy(name: str) -> None:
    array, words = ARRAY_ERRORS[name]
    with pytest.raises(SourceError) as caught:
        from_array(array, "image3")
    for word in ["image3", *words]:
        assert word in str(caught.value)


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
BYTE_ERRORS = {
    "nothing": (b"", ["empty", "0 bytes", "again"]),
    "text": (b"hello there, no image", ["cannot be read as an image", "hello there,", "PNG"]),
    "web page": (
        b"<!DOCTYPE html><html>",
        ["cannot be read as an image", "web page", "address of the image"],
    ),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", ["LFS", "git lfs pull"]),
    "video": (b"\x00\x00\x00 ftypisom\x00\x00\x02\x00", ["video", "model.track"]),
    "heic": (b"\x00\x00\x00 ftypheic\x00\x00\x00\x00", ["HEIC", "pillow-heif", "JPEG"]),
    "half a jpeg": (encoded(PHOTO, "JPEG")[:1500], ["cut short", "again"]),
    "half a png": (encoded(PHOTO)[:3000], ["cut short", "again"]),
    "odd tiff": (b"II*\x00\x08" + bytes(9), ["TIFF", "cannot read", "convert it to PNG"]),
    "half a header": (encoded(PHOTO, "JPEG")[:12], ["begins like JPEG", "cut short", "again"]),
    "32 bit": (encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"), ["70000", "0..255"]),
    "unbounded float": (encoded(Image.fromarray(np.full((2, 2), 9, np.float32)), "TIFF"), ["9", "0..1"]),
}


@pytest.mark.parametrize("name", BYTE_ERRORS)
def test_file_errors_have_value_rule_and_remedy(name: str, tmp_path: Path) -> None:
    data, words = BYTE_ERRORS[name]
    file = tmp_path / "odd.jpg"
    file.write_bytes(data)
    for read in (lambda: from_file(str(file)), lambda: from_bytes(data, str(file))):
        with pytest.raises(SourceError) as caught:
            read()
        for word in ["odd.jpg", *words]:
            assert word in str(caught.value)


def test_image_without_pixels() -> None:
    with pytest.raises(SourceError, match=r"size 0 x 5.*at least 1 x 1"):
        from_pil(Image.new("RGB", (0, 5)))


def test_closed_pil_image(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.close()
    with pytest.raises(SourceError, match=r"a\.png.*damaged"):
        from_pil(image, "a.png")


def test_a_too_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        SourceError, match=r"big.png.*4096 pixels.*at most 200.*--max-image-pixels or MASKLET_MAX_IMAGE"
    ):
        from_bytes(encoded(PHOTO), "big.png")
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_limit_of_pixels_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over Pillow's limit an image is read without a raw warning; over ours it is refused, with the remedy."""
    data = encoded(PHOTO)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses over 2000
    monkeypatch.setenv("MASKLET_MAX_IMAGE_PIXELS", "4_096")
    assert from_bytes(data, "fair.png").rgb.size == 3 * 4096
    monkeypatch.setenv("MASKLET_MAX_IMAGE_PIXELS", "4095")
    with pytest.raises(SourceError, match=r"fair\.png.* = 4096 pixels; at most 4095 are read.*PIXELS=4096"):
        from_bytes(data, "fair.png")
    monkeypatch.setenv("MASKLET_MAX_IMAGE_PIXELS", "many")
    with pytest.raises(SourceError, match=r"MASKLET_MAX_IMAGE_PIXELS='many' is no number.*500000000 is the default"):
        from_bytes(data, "fair.png")
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_the_default_limit_is_above_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKLET_MAX_IMAGE_PIXELS", raising=False)
    check_image_size(25000, 20000, "slide.png")
    with pytest.raises(SourceError, match=r"bomb.png.*60000 x 60000 = 3600000000 pixels; at most 500000000"):
        check_image_size(60000, 60000, "bomb.png")


def test_an_image_of_12_bits_in_16_is_dark_and_says_so(tmp_path: Path) -> None:
    values = np.full((8, 9), 200, np.uint16)
    values[2:6, 3:7] = 3200
    for name in ("ct.png", "ct2.png"):
        Image.fromarray(values).save(tmp_path / name)
    with pytest.warns(MaskletWarning, match=r"ct\.png.*200 to 3200 of the 0 to 65535.*stretch=True"):
        assert from_file(str(tmp_path / "ct.png")).rgb.max() == 12
    assert from_file(str(tmp_path / "ct2.png")).rgb.max() == 12  # one warning for a folder
    stretched = next(open_images(tmp_path / "ct.png", stretch=True)).rgb
    assert stretched[0, 0].tolist() == [0, 0, 0]
    assert stretched[3, 4].tolist() == [255, 255, 255]


def test_a_color_image_of_16_bits_is_stretched(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 3), np.uint16)
    values[:, 2:] = 257 * 10
    cv2.imwrite(str(tmp_path / "dark.png"), values)
    with pytest.warns(MaskletWarning, match="0 to 2570 of"):
        assert from_file(str(tmp_path / "dark.png")).rgb.max() == 10
    assert from_file(str(tmp_path / "dark.png"), stretch=True).rgb[0, 4].tolist() == [255, 255, 255]


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_a_cut_and_a_damaged_avif(tmp_path: Path) -> None:
    data = bytearray(encoded(Image.effect_noise((60, 40), 60).convert("RGB"), "AVIF"))
    (tmp_path / "cut.avif").write_bytes(data[: len(data) // 2])
    start = data.find(b"mdat") + 4
    data[start : start + 40] = bytes(40)
    (tmp_path / "bad.avif").write_bytes(data)
    for name in ("cut.avif", "bad.avif"):
        with pytest.raises(SourceError, match=rf"{name}.*(begins like AVIF, but is cut short|is damaged or cut short)"):
            from_file(str(tmp_path / name))


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes and devices in folders")
@pytest.mark.parametrize("read", [from_file, open_video], ids=["image", "video"])
def test_what_is_no_file_is_refused_and_not_waited_for(read: Callable[[str], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, rule in (("/dev/zero", "is a device"), (str(tmp_path / "pipe.png"), "is a pipe")):
        with pytest.raises(SourceError, match=rule):
            read(name)
    with pytest.raises(SourceError, match=r"a\\x00b\.png"):
        read("a\0b.png")


def test_a_question_mark_in_the_name_of_a_file(tmp_path: Path) -> None:
    if sys.platform != "win32":
        PHOTO.save(tmp_path / "what?.png")
        assert next(open_images(tmp_path / "what?.png")).path == str(tmp_path / "what?.png")


def test_missing_or_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere.png.*No such file.*check the path"):
        from_file(str(tmp_path / "nowhere.png"))
    if sys.platform != "win32":
        with pytest.raises(SourceError, match="is a folder"):
            from_file(str(tmp_path))
