"""Read one image into memory: from a file, a URL, bytes, a PIL image or an array.

Inside masklet an image is RGB uint8 (H, W, 3), upright. Other images are converted:

    EXIF orientation    applied, for files and for PIL images
    alpha               dropped, the colors below it stay
    gray, palette, CMYK converted to RGB
    16 bit a channel    scaled from 0..65535 to 0..255
    animations, pages   the first one
"""

from __future__ import annotations

import http.client
import io
import struct
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.errors import SourceError

__all__ = [
    "DOWNLOAD_TIMEOUT_S",
    "MAX_DOWNLOAD_BYTES",
    "Channels",
    "SourceImage",
    "fetch_image",
    "format_size",
    "from_array",
    "from_bytes",
    "from_file",
    "from_pil",
]

MAX_DOWNLOAD_BYTES = 200 * 1024 * 1024
DOWNLOAD_TIMEOUT_S = 30.0
_DOWNLOAD_CHUNK = 1 << 16
_URL_SAFE = "/:?#[]@!$&'()*+,;=%~-._"

Channels = Literal["rgb", "bgr"]
Pixels = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[np.generic]

# What Pillow's decoders raise on damaged data; UnidentifiedImageError is an OSError.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
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


def from_pil(image: Image.Image, path: str = "image0") -> SourceImage:
    """Convert a PIL image of any mode, with its EXIF orientation applied.

    Example:
        >>> from_pil(Image.new("L", (3, 2))).rgb.shape
        (2, 3, 3)

    Raises:
        SourceError: if it has no pixels, or a lazily opened file turns out damaged.
    """
    if 0 in image.size:
        raise SourceError(f"{path}: size {image.size[0]} x {image.size[1]} {_NO_PIXELS}")
    try:
        image.load()
        try:
            transpose = _EXIF_TRANSPOSE.get(image.getexif().get(_ORIENTATION_TAG, 1))
        except (*_DECODE_ERRORS, KeyError, TypeError):
            transpose = None  # a broken EXIF block says nothing about the pixels
        return SourceImage(_to_rgb(image if transpose is None else image.transpose(transpose), path), path)
    except SourceError:
        raise
    except _DECODE_ERRORS as cause:
        raise SourceError(
            f"{path!r} is damaged or cut short ({cause}); a complete image is needed: copy or download it again"
        ) from cause


def _to_rgb(image: Image.Image, path: str) -> Pixels:
    if image.mode.startswith("I"):
        values = np.array(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise SourceError(
                f"{path!r} has integers from {values.min()} to {values.max()}; images have 8 or 16 bits a "
                "channel: scale it to 0..255 and save it as 8 bit"
            )
        return np.repeat(((values + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        return from_array(np.array(image), path).rgb
    via = _CONVERT_VIA.get(image.mode)
    return np.array((image.convert(via) if via else image).convert("RGB"))


def from_file(path: str) -> SourceImage:
    """Read an image file, recognized by its content and not by its suffix.

    Example:
        >>> from_file("truck.jpg").size  # doctest: +SKIP
        (1200, 1800)

    Raises:
        SourceError: if the file is missing, unreadable, empty, cut short or not an image.
    """
    try:
        with open(path, "rb") as file:
            return _decode(file, path)
    except OSError as cause:
        raise SourceError(
            f"cannot read {path!r}: {cause.strerror or cause}; "
            "a readable image file is needed: check the path and its permissions"
        ) from cause


def from_bytes(data: bytes, path: str) -> SourceImage:
    """Decode the content of an image file, such as a response body; `path` names it in errors.

    Example:
        >>> from_bytes(b"", "https://example.org/a.jpg")
        Traceback (most recent call last):
        masklet.errors.SourceError: ...

    Raises:
        SourceError: if the bytes are empty, cut short or not an image.
    """
    return _decode(io.BytesIO(data), path)


def _decode(file: IO[bytes], path: str) -> SourceImage:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise SourceError(f"{path!r} is empty (0 bytes); an image is needed: copy or download it again")
    try:
        with Image.open(file) as image:
            return from_pil(image, path)
    except SourceError:
        raise
    except Image.DecompressionBombError as cause:
        raise SourceError(
            f"{path!r} is too large: {cause}; make it smaller first, or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from cause
    except _DECODE_ERRORS as cause:
        raise SourceError(f"{path!r} cannot be read as an image: {_format_hint(head)}") from cause


def _format_hint(head: bytes) -> str:
    """Name the kind of file by its first bytes, with the remedy."""
    start = head.lstrip().lower()
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"hevc", b"msf1"):
        return "it is HEIC, which Pillow reads only with pillow-heif; convert it to JPEG or PNG"
    if head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or head[8:12] == b"AVI ":
        return "it is a video; model.track(...) tracks objects through it, here give an image of one frame"
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page; give the address of the image itself (Copy image address)"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run 'git lfs pull' to fetch the image"
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return (
                f"it begins like {name}, but is cut short, damaged or of a kind Pillow cannot read; "
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
