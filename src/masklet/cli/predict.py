"""`masklet predict key=value ...`: segmentation in the style of the `yolo` command."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.segment_job import MaskGeneratorArgs, SegmentJob, run_segment
from masklet.cli.segment_prompts import PromptKeywords, read_masks
from masklet.cli.shared_options import IMAGE_FORMATS, parse_formats
from masklet.cli.yolo_words import needs_yolo, run_yolo_words
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
    "image_size": "1024",
    "multimask": "true or false",
    "device": "cpu",
    "precision": "fp32",
    "overwrite": "true or false",
    "quiet": "true or false",
}
"""Every key with an example of its value."""
ALIASES = {"imgsz": "image_size"}


def predict(
    args: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help=f"Keys: {', '.join(KEYS)}.")],
) -> None:
    """Segment as `masklet segment` does, with the key=value arguments of yolo.

    Points and boxes are nested as in Python: points=150,150 is one object, points=[[150,150],[310,90]] two objects,
    points=[[[150,150],[30,40]]] labels=[[1,0]] one object with two points. imgsz is another name of image_size. Without
    prompts everything is segmented.

    A video as the source, a YOLO or FastSAM model, or another key of yolo (conf, iou, save_txt, project, mode=track)
    does what yolo does: results are in runs/segment/predict.

    \b
    Examples:
      masklet predict source=dog.jpg points=150,150
      masklet predict model=sam2.1_b.pt source=dog.jpg bboxes=100,100,200,200
      masklet predict model=sam2.1_b.pt source=dog.mp4
      masklet predict source=photos/ bboxes=[[0,0,100,100],[200,0,300,90]] format=coco,png out=masks
    """
    if needs_yolo(args):
        run_yolo_words(args)
    else:
        run_segment(parse_key_values(args))


def parse_key_values(args: Sequence[str]) -> SegmentJob:
    """Read key=value arguments as a job.

    Example:
        >>> parse_key_values(["source=dog.jpg", "points=150,150"]).prompts["points"]
        [150, 150]
        >>> parse_key_values(["source=dog.jpg"]).everything.preset
        'default'

    Raises:
        InputError: if an argument has no =, a key is unknown or given twice, or there is no source.
        PromptError: if points, labels or boxes are not numbers.
    """
    values = _parse_pairs(args)
    if "source" not in values:
        raise InputError("no source was given; write source=dog.jpg (a file, folder, glob or URL)")
    prompts = PromptKeywords()
    for key in ("points", "labels", "bboxes"):
        if key in values:
            try:  # numbers and lists as Python writes them; bare commas make a list
                value = ast.literal_eval(values[key].replace(" ", "").replace(";", ","))
            except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                raise PromptError(f"{key}={values[key]} is not made of numbers; write {key}={KEYS[key]}") from error
            prompts[key] = list(value) if isinstance(value, tuple) else value
    if "masks" in values:
        prompts["masks"] = read_masks([Path(values["masks"])])
    size = values.get("image_size")
    if size is not None and not size.isdecimal():
        raise InputError(f"image_size={size} must be a whole number of pixels; write image_size=1024")
    return SegmentJob(
        sources=(values["source"],),
        prompts=prompts,
        everything=None if {"points", "bboxes", "masks"} & prompts.keys() else MaskGeneratorArgs(),
        formats=parse_formats([values.get("format", "")], IMAGE_FORMATS),
        out=Path(values.get("out", "masklet-out")),
        model=values.get("model"),
        device=values.get("device"),
        precision=values.get("precision", "fp32"),
        image_size=None if size is None else int(size),
        multimask=_parse_bool(values, "multimask") or None,
        overwrite=_parse_bool(values, "overwrite"),
        quiet=_parse_bool(values, "quiet"),
    )


def _parse_pairs(args: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in args:
        key, equals, value = word.partition("=")
        key = key.strip().lstrip("-").lower()
        key = ALIASES.get(key, key)
        if not equals:
            raise InputError(f"{word!r} is not key=value; write source={word} for an image; keys: {', '.join(KEYS)}")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}=...?" if near else "remove it"
            raise InputError(f"no key {key!r}; keys are {', '.join(KEYS)}: {hint}")
        if key in values:
            raise InputError(f"{key}= was given twice ({values[key]!r} and {value!r}); give it once, or a list")
        if not value.strip():
            raise InputError(f"{key}= has no value; write {key}={KEYS[key].split(' or ')[0]}, or remove it")
        values[key] = value.strip()
    return values


def _parse_bool(values: dict[str, str], key: str) -> bool:
    word = values.get(key, "false").lower()
    if word not in ("true", "false", "1", "0", "yes", "no"):
        raise InputError(f"{key}={values[key]} is neither true nor false; write {key}=true or remove it")
    return word in ("true", "1", "yes")
