"""From the options of `masklet segment` to prompts. The grammar:

    --point X,Y [--point X,Y ...] [--negative X,Y ...]   one object with these points
    --point X,Y,0                                        the same as --negative X,Y
    --box X1,Y1,X2,Y2                                    one object; several boxes are several objects
    --mask FILE                                          one object; several masks are several objects
    --point-per-object                                   every point is an object

Cues belong together in order: with one box, all points describe the object in it; with several, `--point-per-object`
pairs the first point with the first box and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from masklet.errors import PromptError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from masklet.prompts import BoxesLike, LabelsLike, MasksLike, PointsLike

__all__ = ["PromptKeywords", "parse_box", "parse_point", "parse_segment_prompts", "read_masks"]

EXAMPLE = "--point 150,150, --box 100,100,200,200 or --mask mask.png"


class PromptKeywords(TypedDict, total=False):
    """Keywords that a `SAM` is called with, nested as `masklet.prompts.parse_prompts` reads them."""

    points: PointsLike
    labels: LabelsLike
    bboxes: BoxesLike
    masks: MasksLike


def parse_segment_prompts(
    points: Sequence[str] = (),
    negatives: Sequence[str] = (),
    boxes: Sequence[str] = (),
    masks: Sequence[Path] = (),
    *,
    point_per_object: bool = False,
) -> PromptKeywords:
    """Read the prompt options; the grammar is that of this module.

    Example:
        >>> parse_segment_prompts(["150,150"], ["30,40"])
        {'points': [[[150.0, 150.0], [30.0, 40.0]]], 'labels': [[1, 0]]}

    Raises:
        PromptError: if there is no prompt, a value is not made of numbers, or objects do not pair up.
    """
    if not (points or negatives or boxes or masks):
        raise PromptError(
            f"there is nothing to segment; give {EXAMPLE} (pixels of the original image), or use masklet generate, "
            "which segments everything"
        )
    clicks = [parse_point(word, None, "--point") for word in points]
    clicks += [parse_point(word, 0, "--negative") for word in negatives]
    corners = [parse_box(word) for word in boxes]
    _check_pairing([label for _, label in clicks], len(boxes), len(masks), point_per_object=point_per_object)
    prompts = PromptKeywords()
    if clicks:
        objects = [[click] for click in clicks] if point_per_object else [clicks]
        prompts["points"] = [[point for point, _ in one] for one in objects]
        prompts["labels"] = [[label for _, label in one] for one in objects]
    if corners:
        prompts["bboxes"] = corners
    if masks:
        prompts["masks"] = read_masks(masks)
    return prompts


def parse_point(text: str, label: int | None, option: str) -> tuple[list[float], int]:
    """Read [x, y] and the label from `X,Y` or `X,Y,LABEL`; `label` is that of the option, if it has one.

    Raises:
        PromptError: if the text is not a point, or its label contradicts the option.
    """
    form = "X,Y such as 150,150" + (" (or X,Y,0 for a point off the object)" if option == "--point" else "")
    values = _parse_numbers(text, option, form)
    if len(values) == 4:
        raise PromptError(f"{option} {text!r} has four numbers; a point is X,Y: for a box write --box {text}")
    if len(values) not in (2, 3):
        raise PromptError(f"{option} {text!r} has {len(values)} number(s); write {option} {form}")
    if len(values) == 3 and values[2] not in (0, 1):
        raise PromptError(f"{option} {text!r} has label {values[2]:g}; labels are 1 (on the object) and 0 (off it)")
    x, y = values[:2]
    typed = int(values[2]) if len(values) == 3 else None
    if label is not None and typed is not None and typed != label:
        raise PromptError(
            f"{option} {text} has two contrary labels; write --point {x:g},{y:g},1 or --negative {x:g},{y:g}"
        )
    return [x, y], next(value for value in (typed, label, 1) if value is not None)


def parse_box(text: str) -> list[float]:
    """Read the numbers of `--box X1,Y1,X2,Y2`.

    Raises:
        PromptError: if the text is not a box.
    """
    from masklet.prompts import Box

    form = "X1,Y1,X2,Y2 such as 100,100,200,200"
    values = _parse_numbers(text, "--box", form)
    if len(values) != 4:
        raise PromptError(f"--box {text!r} has {len(values)} number(s); write --box {form}")
    Box(*values)  # refuses a box that encloses nothing
    return values


def read_masks(files: Sequence[Path]) -> npt.NDArray[np.bool_]:
    """Read mask images as (N, H, W): a pixel more than half as bright as the brightest one is on the object.

    Raises:
        SourceError: if a file is not an image.
        PromptError: if masks have different sizes.
    """
    import numpy as np

    from masklet.media import open_images

    bright = [next(open_images(path)).rgb.max(axis=2) for path in files]
    if len({mask.shape for mask in bright}) > 1:
        sizes = ", ".join(f"{path} {mask.shape[1]}x{mask.shape[0]}" for path, mask in zip(files, bright, strict=True))
        raise PromptError(f"masks of different sizes ({sizes}); every mask must have the size of the image")
    return np.stack([mask > mask.max() / 2 for mask in bright])


def _parse_numbers(text: str, option: str, form: str) -> list[float]:
    """Read the numbers in `1,2,3`, with commas or spaces between them."""
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise PromptError(f"{option} {text!r} is not made of numbers; write {option} {form}") from error
    if not all(abs(value) < float("inf") for value in values):
        raise PromptError(f"{option} {text!r} holds a number that is not finite; write {option} {form}")
    return values


def _check_pairing(labels: Sequence[int], boxes: int, masks: int, *, point_per_object: bool) -> None:
    """Refuse cues that do not pair up, in the words of the options."""
    if boxes and masks and boxes != masks:
        raise PromptError(f"{boxes} --box and {masks} --mask do not pair up; give as many of the one as of the other")
    others, points = max(boxes, masks), len(labels)
    if point_per_object and 0 in labels and not others:
        raise PromptError(
            "--point-per-object makes every point an object, and a negative point alone is none; remove one of them"
        )
    if point_per_object and points and others and points != others:
        raise PromptError(
            f"--point-per-object pairs {points} point(s) with {others} box(es) or mask(s); give as many of both"
        )
    if not point_per_object and points and others > 1:
        raise PromptError(
            f"{others} boxes or masks are {others} objects, but points belong to one object; "
            "add --point-per-object to pair the first point with the first box and so on, or give one box"
        )
    if not point_per_object and not others and 1 not in labels:
        raise PromptError("there are only negative points; add --point X,Y on the object, a --box or a --mask")
