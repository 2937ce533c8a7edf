"""`masklet predict key=value ...`: for those whose fingers know the `yolo` command."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.segment_job import DEFAULT_FORMAT, SegmentJob, parse_formats, run_segment
from masklet.cli.segment_prompts import Prompts, read_masks
from masklet.errors import InputError, PromptError

__all__ = ["KEYS", "parse_key_values", "predict"]

KEYS = {
    "source": "a file, folder, glob or URL",
    "model": "sam2.1_b.pt",
    "points": "150,150 or [[[150,150],[30,40]]]",
    "labels": "1 or [[1,0]]",
    "bboxes": "100,100,200,200",
    "masks": "a mask image",
    "out": "masklet-out",
    "format": "overlay,png,coco,yolo,json,cutout",
    "multimask": "true or false",
    "device": "cpu",
    "precision": "fp32",
    "quiet": "true or false",
}
"""Every key with an example of its value."""


def predict(
    args: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help=f"Keys: {', '.join(KEYS)}.")],
) -> None:
    """As segment, in the key=value words of yolo.

    Points and boxes are nested as in Python: points=150,150 is one object, points=[[150,150],[310,90]] two objects,
    points=[[[150,150],[30,40]]] labels=[[1,0]] one object with two points.

    \b
    Examples:
      masklet predict source=dog.jpg points=150,150
      masklet predict model=sam2.1_b.pt source=dog.jpg bboxes=100,100,200,200
      masklet predict source=photos/ bboxes=[[0,0,100,100],[200,0,300,90]] format=coco,png out=masks
    """
    run_segment(parse_key_values(args))


def parse_key_values(args: Sequence[str]) -> SegmentJob:
    """The job that key=value words mean.

    Example:
        >>> job_of(["source=dog.jpg", "points=150,150"]).prompts.points
        [150, 150]

    Raises:
        InputError: a word without =, an unknown key, a key given twice, or no source.
        PromptError: points, labels or boxes that are no numbers, or nothing to segment.
    """
    given = _parse_pairs(args)
    if "source" not in given:
        raise InputError("no source was given; write source=dog.jpg (a file, folder, glob or URL)")
    return SegmentJob(
        sources=(given["source"],),
        prompts=_parse_prompts(given),
        formats=parse_formats([given.get("format", DEFAULT_FORMAT)]),
        out=Path(given.get("out", "masklet-out")),
        model=given.get("model"),
        device=given.get("device"),
        precision=given.get("precision", "fp32"),
        multimask=_parse_bool(given, "multimask") or None,
        quiet=_parse_bool(given, "quiet"),
    )


def _parse_pairs(args: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in args:
        key, equals, value = word.partition("=")
        key = key.strip().lstrip("-").lower()
        if not equals:
            raise InputError(f"{word!r} is not key=value; write source={word} for an image; keys: {', '.join(KEYS)}")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}=...?" if near else "leave it out"
            raise InputError(f"no key {key!r}; keys are {', '.join(KEYS)}: {hint}")
        if key in given:
            raise InputError(f"{key}= was given twice ({given[key]!r} and {value!r}); give it once, or a list")
        if not value.strip():
            raise InputError(f"{key}= has no value; write {key}={KEYS[key].split(' or ')[0]}, or leave it out")
        given[key] = value.strip()
    return given


def _parse_prompts(values: dict[str, str]) -> Prompts:
    if not {"points", "bboxes", "masks"} & values.keys():
        raise PromptError(
            "nothing says what to segment; give points=150,150, bboxes=100,100,200,200 or masks=mask.png "
            "(pixels of the original image)"
        )
    return Prompts(
        points=_parse_literal(values, "points"),
        labels=_parse_literal(values, "labels"),
        bboxes=_parse_literal(values, "bboxes"),
        masks=read_masks([Path(values["masks"])]) if "masks" in values else None,
    )


def _parse_literal(values: dict[str, str], key: str) -> object:
    """Numbers and lists as Python writes them; bare commas make a list."""
    if key not in values:
        return None
    try:
        value: object = ast.literal_eval(values[key].replace(" ", "").replace(";", ","))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise PromptError(f"{key}={values[key]} is not made of numbers; write {key}={KEYS[key]}") from error
    return list(value) if isinstance(value, tuple) else value


def _parse_bool(values: dict[str, str], key: str) -> bool:
    word = values.get(key, "false").lower()
    if word not in ("true", "false", "1", "0", "yes", "no"):
        raise InputError(f"{key}={values[key]} is neither true nor false; write {key}=true or leave it out")
    return word in ("true", "1", "yes")
