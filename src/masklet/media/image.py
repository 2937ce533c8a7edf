"""Read one image into memory: from a file, a URL, bytes, a PIL image or an array.

Inside masklet an image is RGB uint8 (H, W, 3), upright. Other images are converted:

    EXIF orientation    applied, for files and for PIL images
    alpha               dropped, the colors below it stay
    gray, palette, CMYK converted to RGB
    16 bit a channel    scaled from 0..65535 to 0..255; `stretch=True` scales the range that is used
    animations, pages   the first one

An image may have 500 megapixels, or what the environment variable MASKLET_MAX_IMAGE_PIXELS says.
"""

from __future__ import annotations

import http.client
import io
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.damaged_files import check_regular_file, damage_named, decoder_errors, describe_error
from masklet.errors import MaskletWarning, SourceError

__all__ = [
    "DOWNLOAD_TIMEOUT_S",
    "MAX_DOWNLOAD_BYTES",
    "MAX_IMAGE_PIXELS",
    "MAX_PIXELS_VARIABLE",
    "Channels",
    "SourceImage",
    "check_image_size",
    "fetch_image",
    "format_size",
    "from_array",
    "from_bytes",
    "from_file",
    "from_pil",
    "pillow_without_limit",
]

MAX_DOWNLOAD_BYTES = 200 * 1024 * 1024
DOWNLOAD_TIMEOUT_S = 30.0
_DOWNLOAD_CHUNK = 1 << 16
MAX_IMAGE_PIXELS = 500_000_000
"""Width times height that is read by default: 1.5 GB as RGB."""
MAX_PIXELS_VARIABLE = "MASKLET_MAX_IMAGE_PIXELS"
_URL_SAFE = "/:?#[]@!$&'()*+,;=%~-._"

Channels = Literal["rgb", "bgr"]
Pixels = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[np.generic]

_PILLOW_LIMIT = 1024**3 // 4 // 3
"""Pillow's own default, over which it warns; it refuses twice as many pixels."""
_DARK_RANGE = 65536 // 16
_MAX_DARK_FOLDERS = 1000
_ORIENTATION_TAG = 0x0112
_EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAGIC = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
}
_NO_PIXELS = "has no pixels; an image is at least 1 x 1: check how it was cropped or read"
_CONVERT_VIA = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An image in memory, with the name of its source.

    `rgb` is uint8 (H, W, 3), red first, upright, contiguous and not shared with the caller's array.
    `path` is the file, the URL, or `image0`, `image1` ... for images without a name.

    Example:
        >>> SourceImage(np.zeros((480, 640, 3), np.uint8), "image0").size
        (480, 640)
    """

    rgb: Pixels
    path: str

    def __post_init__(self) -> None:
        assert self.rgb.dtype == np.uint8
        assert self.rgb.ndim == 3
        assert self.rgb.shape[2] == 3

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])


def fetch_image(url: str) -> SourceImage:
    """Download the image at an http or https address, at most 200 MB, and decode it.

    Example:
        >>> fetch_image("https://example.org/dog.jpg").path  # doctest: +SKIP
        'https://example.org/dog.jpg'

    Raises:
        SourceError: if the server cannot be reached or refuses, or the body is too large, cut short or no image.
    """
    body = bytearray()
    try:
        quoted = urllib.parse.quote(url, safe=_URL_SAFE)
        request = urllib.request.Request(quoted, headers={"User-Agent": "masklet (Python urllib)"})
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT_S) as response:
            length = response.headers.get("Content-Length", "")
            expected = int(length) if length.isdecimal() else 0
            while (count := max(expected, len(body))) <= MAX_DOWNLOAD_BYTES:
                chunk = response.read(_DOWNLOAD_CHUNK)
                if not chunk:
                    break
                body += chunk
            else:
                raise SourceError(
                    f"{url!r} has at least {count} bytes; at most {MAX_DOWNLOAD_BYTES} are fetched for one image: "
                    "download it, make it smaller and give its path"
                )
    except SourceError:
        raise
    except urllib.error.HTTPError as cause:
        cause.close()
        raise SourceError(
            f"the server answered {cause.code} {cause.reason} for {url!r}; a public address of an image is "
            "needed: open it in a browser to check it, or download the image and give its path"
        ) from cause
    except (OSError, http.client.HTTPException, ValueError) as cause:
        raise SourceError(
            f"cannot fetch {url!r}: {getattr(cause, 'reason', cause)}; a reachable http or https address is "
            "needed: check the address and the network, or download the image and give its path"
        ) from cause
    if len(body) < expected:
        raise SourceError(
            f"{url!r} was cut short: {len(body)} of {expected} bytes came; the complete image is needed: "
            "try again, or download it and give its path"
        )
    return from_bytes(bytes(body), url)


def from_array(array: AnyArray, path: str = "image0", *, channels: Channels = "rgb") -> SourceImage:
    """Copy an array (H, W, 3), (H, W, 4), (H, W, 1) or (H, W): uint8, or float within 0..1.

    `channels="bgr"` is for arrays in OpenCV's order. A frame buffer can be used again.

    Example:
        >>> from_array(np.zeros((2, 3), np.float32)).rgb.shape
        (2, 3, 3)

    Raises:
        SourceError: if the shape or type is another one, or floats are NaN or outside 0..1.
    """
    shape = array.shape
    allowed = f"{path}: array of shape {shape}; an image is (H, W, 3), (H, W, 4), (H, W, 1) or (H, W)"
    if array.size == 0:
        raise SourceError(f"{path}: array of shape {shape} {_NO_PIXELS}")
    if array.ndim == 4:
        raise SourceError(f"{allowed}: for a batch of images pass list(array)")
    if array.ndim == 3 and shape[2] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        raise SourceError(f"{allowed}: channels come last, use array.transpose(1, 2, 0)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise SourceError(f"{allowed}: pick the channels to show, for example array[..., :3]")
    pixels = _as_uint8(array, path)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    colors = pixels[:, :, 2::-1] if channels == "bgr" else pixels[:, :, :3]
    return SourceImage(np.array(colors, order="C"), path)


def _as_uint8(array: AnyArray, path: str) -> Pixels:
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if not np.issubdtype(array.dtype, np.floating):
        remedy = {"u": "(array >> 8).astype(np.uint8) if it has 16 bits", "b": "array * np.uint8(255)"}
        raise SourceError(
            f"{path}: array of type {array.dtype}; an image is uint8 in 0..255 or float in 0..1: "
            f"use {remedy.get(array.dtype.kind, 'array.astype(np.uint8) if its values are 0..255')}"
        )
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise SourceError(
            f"{path}: array with {int((~np.isfinite(values)).sum())} NaN or infinite values; "
            "float images are within 0..1: use np.nan_to_num(array) or find where they come from"
        )
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise SourceError(
            f"{path}: float array with values from {low:g} to {high:g}; float images are within 0..1: "
            "use array / 255 if they are 0..255, and undo any normalization"
        )
    return np.rint(values * 255).astype(np.uint8)


class _PillowLimit:
    """Pillow's limit of pixels, which is one global value; it is off while any thread reads under ours."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.num_readers = 0
        self.value = Image.MAX_IMAGE_PIXELS


_pillow_limit = _PillowLimit()
_dark_folders: set[str] = set()


@contextmanager
def pillow_without_limit() -> Iterator[None]:
    """Switch Pillow's own limit of pixels off in the block, with its raw warning; check sizes in it yourself."""
    with _pillow_limit.lock:
        if _pillow_limit.num_readers == 0:
            _pillow_limit.value = Image.MAX_IMAGE_PIXELS
        _pillow_limit.num_readers += 1
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _pillow_limit.lock:
            _pillow_limit.num_readers -= 1
            if _pillow_limit.num_readers == 0:
                Image.MAX_IMAGE_PIXELS = _pillow_limit.value


def check_image_size(width: int, height: int, path: str) -> None:
    """Check the size in an image's header before memory is reserved for it.

    The limit is MASKLET_MAX_IMAGE_PIXELS or 500 megapixels, less where the program lowered Pillow's own.

    Example:
        >>> check_image_size(60000, 60000, "bomb.png")
        Traceback (most recent call last):
        masklet.errors.SourceError: 'bomb.png' has 60000 x 60000 = 3600000000 pixels; ...

    Raises:
        SourceError: if the image has more pixels, or the variable is no number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    digits = text.replace("_", "")
    if text and not (digits.isascii() and digits.isdigit() and int(digits)):
        raise SourceError(
            f"{MAX_PIXELS_VARIABLE}={text!r} is no number of pixels; it is a whole number from 1 on: "
            f"{MAX_IMAGE_PIXELS} is the default"
        )
    own = _pillow_limit.value if _pillow_limit.num_readers else Image.MAX_IMAGE_PIXELS
    limit = int(digits) if text else MAX_IMAGE_PIXELS if own is None or own >= _PILLOW_LIMIT else 2 * own
    if width * height > limit:
        raise SourceError(
            f"{path!r} has {width} x {height} = {width * height} pixels; at most {limit} are read: make it smaller, or "
            f"raise the limit with --max-image-pixels or {MAX_PIXELS_VARIABLE}={width * height}"
        )


def from_pil(image: Image.Image, path: str = "image0", *, stretch: bool = False) -> SourceImage:
    """Convert a PIL image of any mode, with its EXIF orientation applied.

    With `stretch` the smallest value of a 16-bit image becomes 0 and its largest 255, as for images of 12 bits in 16.

    Example:
        >>> from_pil(Image.new("L", (3, 2))).rgb.shape
        (2, 3, 3)

    Raises:
        SourceError: if it has no pixels, or a lazily opened file turns out damaged.
    """
    if 0 in image.size:
        raise SourceError(f"{path}: size {image.size[0]} x {image.size[1]} {_NO_PIXELS}")
    with damage_named(path):
        raw_modes = [str(tile[3]) for tile in getattr(image, "tile", ())]  # loading removes them
        image.load()
        try:
            transpose = _EXIF_TRANSPOSE.get(image.getexif().get(_ORIENTATION_TAG, 1))
        except decoder_errors():
            transpose = None  # a broken EXIF block says nothing about the pixels
        upright = image if transpose is None else image.transpose(transpose)
        if image.mode.startswith("I"):
            return SourceImage(_scale_16_bits(np.array(upright).astype(np.int64), path, stretch), path)
        if image.mode == "F":
            return SourceImage(from_array(np.array(upright), path).rgb, path)
        via = _CONVERT_VIA.get(image.mode)
        rgb = np.array((upright.convert(via) if via else upright).convert("RGB"))
        if any(";16" in mode for mode in raw_modes):  # Pillow keeps the upper 8 of 16 bits a color
            rgb = _scale_16_bits(rgb.astype(np.int64) * 257, path, stretch)
        return SourceImage(rgb, path)


def _scale_16_bits(values: npt.NDArray[np.int64], path: str, stretch: bool) -> Pixels:
    """Scale (H, W) or (H, W, 3) values of 0..65535 to RGB uint8; warn once a folder where they use little of it."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise SourceError(
            f"{path!r} has integers from {low} to {high}; images have 8 or 16 bits a "
            "channel: scale it to 0..255 and save it as 8 bit"
        )
    if stretch and high > low:
        scaled = ((values - low) * 255 + (high - low) // 2) // (high - low)
    else:
        scaled = (values + 128) // 257
        folder = os.path.dirname(path) or path
        if low < high < _DARK_RANGE and folder not in _dark_folders:
            if len(_dark_folders) >= _MAX_DARK_FOLDERS:
                _dark_folders.clear()
            _dark_folders.add(folder)
            warnings.warn(
                f"{path!r} has values {low} to {high} of the 0 to 65535 that 16 bits hold, so it is nearly black "
                f"({int(scaled.max())} of 255 at most); it should use at least a sixteenth: stretch it with "
                "open_images(path, stretch=True), or save it as 8 bit (reported once per folder)",
                MaskletWarning,
                stacklevel=2,
            )
    pixels = scaled.astype(np.uint8)
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def from_file(path: str, *, stretch: bool = False) -> SourceImage:
    """Read an image file, recognized by its content and not by its suffix; `stretch` as in `from_pil`.

    Example:
        >>> from_file("truck.jpg").size  # doctest: +SKIP
        (1200, 1800)

    Raises:
        SourceError: if the file is missing, unreadable, empty, too large, cut short or not an image.
    """
    check_regular_file(path, "image")
    try:
        with open(path, "rb") as file:
            return _decode(file, path, stretch)
    except OSError as cause:
        raise SourceError(
            f"cannot read {path!r}: {cause.strerror or cause}; "
            "a readable image file is needed: check the path and its permissions"
        ) from cause


def from_bytes(data: bytes, path: str, *, stretch: bool = False) -> SourceImage:
    """Decode the content of an image file, such as a response body; `path` names it in errors.

    Example:
        >>> from_bytes(b"", "https://example.org/a.jpg")
        Traceback (most recent call last):
        masklet.errors.SourceError: ...

    Raises:
        SourceError: if the bytes are empty, too large, cut short or not an image.
    """
    return _decode(io.BytesIO(data), path, stretch)


def _decode(file: IO[bytes], path: str, stretch: bool) -> SourceImage:
    """Decode an open image file, and name it and what is wrong with it otherwise."""
    head = file.read(64)
    file.seek(0)
    if not head:
        raise SourceError(f"{path!r} is empty (0 bytes); an image is needed: copy or download it again")
    with pillow_without_limit():
        try:
            with Image.open(file) as image:
                check_image_size(*image.size, path)
                return from_pil(image, path, stretch=stretch)
        except SourceError:
            raise
        except decoder_errors() as cause:
            reason = describe_error(cause) if isinstance(cause, MemoryError) else _format_hint(head)
            raise SourceError(f"{path!r} cannot be read as an image: {reason}") from cause


def _format_hint(head: bytes) -> str:
    """Name the kind of file by its first bytes, with the remedy."""
    start = head.lstrip().lower()
    is_iso_media = head[4:8] == b"ftyp"
    magic = "AVIF" if is_iso_media and any(brand in head[8:] for brand in (b"avif", b"avis")) else None
    if is_iso_media and magic is None and head[8:12] in (b"heic", b"heix", b"mif1", b"hevc", b"msf1"):
        return "it is HEIC, which Pillow reads only with pillow-heif; convert it to JPEG or PNG"
    if (is_iso_media and magic is None) or head[:4] == b"\x1aE\xdf\xa3" or head[8:12] == b"AVI ":
        return "it is a video; model.track(...) tracks objects through it, here give an image of one frame"
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page; give the address of the image itself (Copy image address)"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run 'git lfs pull' to fetch the image"
    magic = magic or next((name for start, name in _MAGIC.items() if head.startswith(start)), None)
    if magic is not None:
        return (
            f"it begins like {magic}, but is cut short, damaged or of a kind Pillow cannot read; "
            "copy or download it again, or convert it to PNG"
        )
    return (
        f"it begins with {head[:12]!r}, which is no format Pillow knows; "
        "give JPEG, PNG, WebP, TIFF, BMP or GIF, or convert it to PNG"
    )


def format_size(size: Sequence[int]) -> str:
    """Format a (height, width) as width x height.

    Example:
        >>> format_size((480, 854))
        '854 x 480'
    """
    return f"{size[1]} x {size[0]}"
