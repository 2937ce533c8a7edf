"""Masks out of COCO run-length codes, with the size checked at once and the runs when a mask is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from masklet.datasets.base import DataError, LazyMasks, Mask, Size, same_size
from masklet.datasets.jsons import Record, as_record
from masklet.errors import InputError
from masklet.masks import rle

__all__ = ["code_decoder", "coded_masks"]


def coded_masks(codes: Sequence[object], size: Size, file: Path, picture: Path) -> LazyMasks:
    """Object n + 1 of code n, for a picture of this size; `file` is where the codes come from.

    Raises:
        DataError: something that is no code, or a code of another size.

    Example:
        >>> coded_masks([{"size": [2, 3], "counts": "06"}], (2, 3), Path("a.json"), Path("a.jpg"))[1].all()
        True
    """
    return LazyMasks(
        {number: code_decoder(code, size, file, picture, f"mask {number}") for number, code in enumerate(codes, 1)}
    )


def code_decoder(code: object, size: Size, file: Path, picture: Path, what: str) -> Callable[[], Mask]:
    """What decodes one code when it is called; `what` names it in errors.

    Raises:
        DataError: it is no code, or of another size than the picture.
    """
    record = as_record(code, file, what)
    said = record.get("size")
    if not isinstance(said, list) or len(said) != 2 or not all(isinstance(side, int) for side in said):
        raise DataError.of(
            file, f"({what}) has size {said!r:.40}; a run-length code has [height, width] in pixels: export it again"
        )
    if "counts" not in record:
        raise DataError.of(file, f"({what}) has no counts; a run-length code has size and counts: export it again")
    same_size(file, said, picture, size, what)
    return partial(_decoded, record, file, what)


def _decoded(code: Record, file: Path, what: str) -> Mask:
    try:
        return rle.decode(code)
    except (InputError, OverflowError) as problem:
        raise DataError.of(file, f"({what}) cannot be decoded: {problem}") from problem
