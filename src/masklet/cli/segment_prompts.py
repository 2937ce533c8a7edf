"""From the words of a command line to prompts. The grammar, in full:

    --point X,Y [--point X,Y ...] [--negative X,Y ...]   one object with these clicks
    --point X,Y,0                                        the same as --negative X,Y
    --box X1,Y1,X2,Y2                                    one object; several boxes are several objects
    --mask FILE                                          one object; several masks are several objects
    --each                                               every point is an object of its own

What is given together belongs together, in order: with one box, all points describe the object in it; with
several, `--each` pairs the first point with the first box and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masklet.errors import PromptError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Clicks", "PromptArgs", "Prompts", "parse_box", "parse_numbers", "parse_segment_prompts", "read_masks"]

EXAMPLE = "--point 150,150, --box 100,100,200,200 or --mask mask.png"


@dataclass(frozen=True)
class PromptArgs:
    """The prompt options as they were typed."""

    points: Sequence[str] = ()
    negatives: Sequence[str] = ()
    boxes: Sequence[str] = ()
    masks: Sequence[Path] = ()
    point_per_object: bool = False


@dataclass(frozen=True)
class Prompts:
    """What `SAM` is called with: the nesting of `masklet.prompts.parse_prompts`."""

    points: Any = None
    labels: Any = None
    bboxes: Any = None
    masks: Any = None


@dataclass
class Clicks:
    """Points on one object and off it, as they are read from words."""

    xy: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, text: str, label: int | None, option: str) -> None:
        """One more point; `label` is what the option says, the word may say it too.

        Raises:
            PromptError: no point, or one that says two things.
        """
        x, y, given = _parse_point(text, option)
        if label is not None and given is not None and given != label:
            raise PromptError(f"{option} {text} says two things; write --point {x:g},{y:g},1 or --negative {x:g},{y:g}")
        self.xy.append([x, y])
        self.labels.append(next(value for value in (given, label, 1) if value is not None))


def parse_segment_prompts(args: PromptArgs) -> Prompts:
    """The prompts that the options mean; the grammar is that of this module.

    Example:
        >>> parse(Words(points=["150,150"], negatives=["30,40"]))
        Prompts(points=[[[150.0, 150.0], [30.0, 40.0]]], labels=[[1, 0]], bboxes=None, masks=None)

    Raises:
        PromptError: nothing to segment, words that are no numbers, or objects that do not pair up.
    """
    if not (args.points or args.negatives or args.boxes or args.masks):
        raise PromptError(
            f"nothing says what to segment; give {EXAMPLE} (pixels of the original image), or "
            "take masklet auto, which segments everything"
        )
    clicks = Clicks()
    for word in args.points:
        clicks.add(word, None, "--point")
    for word in args.negatives:
        clicks.add(word, 0, "--negative")
    boxes = [parse_box(word) for word in args.boxes]
    _check_pairing(clicks, len(boxes), len(args.masks), point_per_object=args.point_per_object)
    return Prompts(
        points=_nest_per_object(clicks.xy, point_per_object=args.point_per_object),
        labels=_nest_per_object(clicks.labels, point_per_object=args.point_per_object),
        bboxes=boxes or None,
        masks=read_masks(args.masks) if args.masks else None,
    )


def parse_numbers(text: str, option: str, expected: str) -> list[float]:
    """The numbers in `1,2,3` (commas or spaces between them).

    Raises:
        PromptError: something that is no finite number.
    """
    parts = text.replace(",", " ").split()
    try:
        values = [float(part) for part in parts]
    except ValueError as error:
        raise PromptError(f"{option} {text!r} is not made of numbers; write {option} {expected}") from error
    if not all(abs(value) < float("inf") for value in values):
        raise PromptError(f"{option} {text!r} holds a number that is not finite; write {option} {expected}")
    return values


def read_masks(files: Sequence[Path]) -> npt.NDArray[np.bool_]:
    """Mask images as (N, H, W): a pixel more than half as bright as the brightest one is on the object.

    Raises:
        SourceError: a file that is no image.
        PromptError: masks of different sizes.
    """
    import numpy as np

    from masklet.media import open_images

    bright = [next(open_images(path)).rgb.max(axis=2) for path in files]
    if len({mask.shape for mask in bright}) > 1:
        sizes = ", ".join(f"{path} {mask.shape[1]}x{mask.shape[0]}" for path, mask in zip(files, bright, strict=True))
        raise PromptError(f"masks of different sizes ({sizes}); every mask must have the size of the image")
    return np.stack([mask > mask.max() / 2 for mask in bright])


def _nest_per_object(items: Sequence[object], *, point_per_object: bool) -> list[list[object]] | None:
    """One list an object: `items` are of one object, or each of its own; none at all is None."""
    if not items:
        return None
    return [[item] for item in items] if point_per_object else [list(items)]


def _parse_point(value: str, option: str) -> tuple[float, float, int | None]:
    form = "X,Y such as 150,150" + (" (or X,Y,0 for a point off the object)" if option == "--point" else "")
    values = parse_numbers(value, option, form)
    if len(values) == 4:
        raise PromptError(f"{option} {value!r} has four numbers; a point is X,Y: for a box write --box {value}")
    if len(values) not in (2, 3):
        raise PromptError(f"{option} {value!r} has {len(values)} number(s); write {option} {form}")
    if len(values) == 3 and values[2] not in (0, 1):
        raise PromptError(f"{option} {value!r} has label {values[2]:g}; labels are 1 (on the object) and 0 (off it)")
    return values[0], values[1], int(values[2]) if len(values) == 3 else None


def parse_box(value: str) -> list[float]:
    """The numbers of `--box X1,Y1,X2,Y2`.

    Raises:
        PromptError: no box.
    """
    from masklet.prompts import Box

    form = "X1,Y1,X2,Y2 such as 100,100,200,200"
    values = parse_numbers(value, "--box", form)
    if len(values) != 4:
        raise PromptError(f"--box {value!r} has {len(values)} number(s); write --box {form}")
    Box(*values)  # refuses what encloses nothing
    return values


def _check_pairing(clicks: Clicks, boxes: int, masks: int, *, point_per_object: bool) -> None:
    """Refuse what cannot be paired, in the words of the options."""
    if boxes and masks and boxes != masks:
        raise PromptError(f"{boxes} --box and {masks} --mask do not pair up; give as many of the one as of the other")
    others, points = max(boxes, masks), len(clicks.xy)
    if point_per_object and 0 in clicks.labels and not others:
        raise PromptError("--each makes points objects, and a negative point alone is none; leave one of them out")
    if point_per_object and points and others and points != others:
        raise PromptError(f"--each pairs {points} point(s) with {others} box(es) or mask(s); give as many of both")
    if not point_per_object and points and others > 1:
        raise PromptError(
            f"{others} boxes or masks are {others} objects, but points belong to one object; "
            "add --each to pair the first point with the first box and so on, or give one box"
        )
    if not point_per_object and not others and 1 not in clicks.labels:
        raise PromptError("only negative points say what the object is not; add --point X,Y on it, a --box or a --mask")
