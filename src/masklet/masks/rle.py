"""COCO run-length encoding: the lossless and compact way to store a mask as text.

A mask is read down its columns, from the left column to the right one, as alternating runs of background and object
pixels, background first. Each run length after the third is stored as its difference to the run before the previous
one, in groups of five bits (lowest first, two's complement), each group one printable character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError

__all__ = ["MAX_MASK_PIXELS", "Rle", "decode", "encode", "encode_crop", "run_lengths"]

Ints = npt.NDArray[np.int64]
BIT_GROUPS = np.arange(7)  # 7 groups of 5 bits hold any run of an image under 17 gigapixels
MAX_MASK_PIXELS = 1 << 31
"""Pixels of the largest mask that is decoded: a few characters may claim any size."""
CONTINUATION_BIT, SIGN_BIT, FIRST_CHAR = 0x20, 0x10, 48


class Rle(TypedDict):
    """A run-length encoding as in COCO files: `size` is [height, width]."""

    size: list[int]
    counts: str


def encode(mask: npt.NDArray[np.bool_]) -> Rle:
    """Encode a (H, W) boolean mask as COCO run lengths.

    Example:
        >>> encode(np.ones((2, 3), bool))
        {'size': [2, 3], 'counts': '06'}
    """
    assert mask.ndim == 2, f"a mask is (H, W), got {mask.shape}"
    height, width = mask.shape
    flat = mask.astype(bool, copy=False).T.ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = [0, 0] if flat.size and flat[0] else [0]  # the first run is background, even if it is 0 long
    edges = np.concatenate([np.array(start, np.int64), turns, np.array([flat.size])])
    return {"size": [int(height), int(width)], "counts": _compress_counts(edges[1:] - edges[:-1])}


def encode_crop(crop: npt.NDArray[np.bool_], origin: tuple[int, int], size: tuple[int, int]) -> Rle:
    """Encode a mask of `size` (height, width) that is empty outside `crop`, whose upper left corner is `origin` (xy).

    The time depends on the crop, not on the image.

    Example:
        >>> encode_crop(np.ones((1, 2), bool), (1, 0), (2, 3)) == encode(np.array([[False, True, True], [False] * 3]))
        True
    """
    (left, top), (height, width), (rows, columns) = origin, size, crop.shape
    assert 0 <= left <= width - columns, f"{columns} columns at {left} are not in an image of {width}"
    assert 0 <= top <= height - rows, f"{rows} rows at {top} are not in an image of {height}"
    padded = np.zeros((columns, rows + 1), bool)  # a run ends with its column
    padded[:, :rows] = crop.T
    flat = np.concatenate([[False], padded.ravel()])
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), rows + 1)
    turns = (column + left) * height + row + top
    ends, starts = turns[1::2], turns[0::2]
    apart = starts[1:] != ends[:-1]  # False where full columns make one run of two
    starts, ends = starts[np.append(True, apart)[: len(starts)]], ends[np.append(apart, True)[: len(ends)]]
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    runs = np.diff(edges)
    return {
        "size": [int(height), int(width)],
        "counts": _compress_counts(runs[:-1] if len(runs) > 1 and not runs[-1] else runs),
    }


def decode(rle: Rle | dict[str, object]) -> npt.NDArray[np.bool_]:
    """Decode COCO run lengths to a (H, W) boolean mask; `counts` may be text, bytes or a list of run lengths.

    Example:
        >>> bool(decode({"size": [2, 3], "counts": "06"}).all())
        True

    Raises:
        InputError: if `size` or `counts` is missing or malformed, or the two do not match.
    """
    size = rle.get("size")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(isinstance(s, (int, np.integer)) for s in size)):
        raise InputError(f"size {size!r:.60} of a run-length code must be [height, width] in pixels")
    height, width = int(size[0]), int(size[1])
    if min(height, width) < 0 or height * width > MAX_MASK_PIXELS:
        raise InputError(
            f"size [{height:.6g}, {width:.6g}] of a run-length code must be from 0 on and have at most "
            f"{MAX_MASK_PIXELS} pixels: it is [height, width] of the mask, in pixels"
        )
    runs = _parse_counts(rle.get("counts"))
    if (runs < 0).any() or (runs > height * width).any() or int(runs.sum()) != height * width:
        raise InputError(
            f"the runs of this code cover {int(runs.sum())} pixels, but size [{height}, {width}] needs "
            f"{height * width}; size is [height, width], and counts must come uncut from the same mask"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T.copy()


def run_lengths(rle: Rle) -> list[int]:
    """Return the run lengths of a code from `encode`, background first.

    Example:
        >>> run_lengths({"size": [2, 3], "counts": "06"})
        [0, 6]
    """
    return [int(run) for run in _parse_counts(rle["counts"])]


def _compress_counts(runs: Ints) -> str:
    values = runs.copy()
    values[3:] -= runs[1:-2]
    limits = np.int64(1) << (5 * BIT_GROUPS + 4)  # a signed number fits n + 1 groups while -limit <= it < limit
    fits = (values[:, None] >= -limits) & (values[:, None] < limits)
    last = fits.argmax(axis=1)[:, None]
    characters = ((values[:, None] >> (5 * BIT_GROUPS)) & 0x1F) | np.where(last > BIT_GROUPS, CONTINUATION_BIT, 0)
    text: bytes = (characters + FIRST_CHAR)[last >= BIT_GROUPS].astype(np.uint8).tobytes()
    return text.decode("ascii")


def _parse_counts(counts: object) -> Ints:
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    if not isinstance(counts, bytes):
        if isinstance(counts, Sequence) and all(isinstance(c, (int, np.integer)) for c in counts):
            try:
                return np.array(counts, np.int64)
            except OverflowError as error:
                raise InputError(f"counts {counts!r:.60} must be run lengths of at most {MAX_MASK_PIXELS}") from error
        raise InputError(f"counts {counts!r:.60} must be the text COCO stores, bytes, or a list of run lengths")
    if not counts:
        return np.zeros(0, np.int64)
    characters = np.frombuffer(counts, np.uint8).astype(np.int64) - FIRST_CHAR
    ends = np.flatnonzero((characters & CONTINUATION_BIT) == 0)
    if ((characters < 0) | (characters > 63)).any() or (characters.size and characters[-1] & CONTINUATION_BIT):
        raise InputError(
            f"counts {counts[:24]!r} is not a compressed run-length code (characters '0' to 'o'); "
            "pass it as COCO stores it, or a list of run lengths"
        )
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    position = np.arange(characters.size) - np.repeat(starts, ends - starts + 1)[: characters.size]
    values = np.add.reduceat((characters & 0x1F) << (5 * np.minimum(position, 11)), starts)
    negative = (characters[ends] & SIGN_BIT) != 0
    values -= np.where(negative, np.int64(1) << np.minimum(5 * (ends - starts + 1), 62), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
