"""From the options of `masklet track` to the prompts of each object on each frame. The grammar:

    --object ID          the prompts that follow are about object ID, until the next --object (first: 1)
    --frame N            the prompts that follow are on frame N, until the next --frame (first: 0)
    --point X,Y          a point on the object; X,Y,0 or --negative X,Y: a point off it; several add up
    --box X1,Y1,X2,Y2    a box around the object, one per object and frame
    --mask FILE          a rough mask of it, one per object and frame

So their order counts: `--point 5,5 --object 2 --frame 40 --box 0,0,9,9` is a point on object 1 of frame 0, and a box
around object 2 on frame 40.

--prompts FILE.json is the same as a list of prompts, for scripts:

    [{"object": 1, "frame": 0, "points": [[210, 350], [30, 40]], "labels": [1, 0]},
     {"object": 2, "frame": 40, "box": [300, 0, 500, 400]},
     {"object": 3, "mask": "third.png"}]

object is 1, frame 0 and every label 1 unless given; the path of a mask is relative to the folder of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from masklet.cli.segment_prompts import parse_box, parse_point, read_masks
from masklet.damaged_files import damage_errors
from masklet.errors import InputError, PromptError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from masklet.prompts import ObjectPrompt

__all__ = ["PROMPT_OPTIONS", "OrderedOptionsCommand", "parse_track_prompts", "read_prompts_file"]

PROMPT_OPTIONS = ("--object", "--frame", "--point", "--negative", "--box", "--mask")
PROMPT_KEYS = ("object", "frame", "points", "labels", "box", "mask")
MAX_INT = 2**31 - 1
EXAMPLE = "--point 210,350, --box 300,0,500,400 or --mask mask.png"
JSON_EXAMPLE = '[{"object": 1, "frame": 0, "points": [[210, 350]]}]'


class OrderedOptionsCommand(TyperCommand):
    """A command that hands its repeatable options on in the order they were typed, as `context.obj`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual, then pair each occurrence of an option with its value."""
        typed = list(args)
        rest: list[str] = super().parse_args(ctx, args)
        values, _, order = self.make_parser(ctx).parse_args(typed)
        lists = {name: iter(value) for name, value in values.items() if isinstance(value, list)}
        ctx.obj = [(max(option.opts, key=len), next(lists[option.name])) for option in order if option.name in lists]
        return rest


def parse_track_prompts(options: Iterable[tuple[str, str]]) -> dict[tuple[int, int], ObjectPrompt]:
    """Read prompts by (object id, frame index); the grammar is that of this module, other options are skipped.

    Example:
        >>> list(parse_track_prompts([("--point", "5,5"), ("--object", "2"), ("--box", "0,0,9,9")]))
        [(1, 0), (2, 0)]

    Raises:
        PromptError: if there is no prompt, a value is not made of numbers, or prompts exclude each other.
        SourceError: if a mask is not an image.
    """
    current = {"--object": 1, "--frame": 0}
    dangling: dict[str, str] = {}
    cues: dict[tuple[int, int], dict[str, Any]] = {}
    for option, value in options:
        if option in current:
            _reject_dangling(option, dangling.get(option))
            text = value.strip()
            if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > MAX_INT:
                raise PromptError(f"{option} {value!r} must be a whole number from 0 to {MAX_INT}, such as {option} 2")
            dangling[option], current[option] = value, int(text)
        elif option in PROMPT_OPTIONS:
            dangling.clear()
            object_id, frame_idx = current["--object"], current["--frame"]
            own, name = cues.setdefault((object_id, frame_idx), {}), option[2:]
            if name in ("point", "negative"):
                point, label = parse_point(value, 0 if name == "negative" else None, option)
                own.setdefault("points", []).append(point)
                own.setdefault("labels", []).append(label)
            elif name in own:
                raise PromptError(
                    f"{option} {value} is a second {name} of object {object_id} on frame {frame_idx}, and one {name} "
                    f"is one object; write --object {object_id + 1} before it"
                )
            else:
                own[name] = parse_box(value) if name == "box" else read_masks([Path(value)])[0]
    for option, value in dangling.items():
        _reject_dangling(option, value)
    if not cues:
        raise PromptError(f"there is nothing to track; give {EXAMPLE} (pixels of the original frame)")
    for (object_id, frame_idx), own in cues.items():
        if not own.keys() & {"box", "mask"} and 1 not in own["labels"]:
            raise PromptError(
                f"there are only negative points of object {object_id} on frame {frame_idx}; add --point X,Y on it, "
                "a --box or a --mask"
            )
    return {key: _to_prompt(**own) for key, own in cues.items()}


def read_prompts_file(path: Path) -> dict[tuple[int, int], ObjectPrompt]:
    """Read prompts by (object id, frame index) from JSON; the format is that of this module.

    Raises:
        InputError: if the file cannot be read, or is not a list of prompts.
        PromptError: if a prompt is invalid.
        SourceError: if a mask is not an image.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except damage_errors() as error:
        raise InputError(f"--prompts {path} cannot be read as JSON ({error}); write {JSON_EXAMPLE}") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"--prompts {path} must hold a list of prompts; write {JSON_EXAMPLE}")
    prompts: dict[tuple[int, int], ObjectPrompt] = {}
    for number, entry in enumerate(entries):
        unknown = [name for name in entry if name not in PROMPT_KEYS]
        if unknown:
            raise InputError(
                f"--prompts {path}: entry {number} has the unknown key {unknown[0]!r}; keys are "
                f"{', '.join(PROMPT_KEYS)}"
            )
        key = entry.get("object", 1), entry.get("frame", 0)
        if not all(type(value) is int and 0 <= value <= MAX_INT for value in key):
            raise PromptError(
                f"--prompts {path}: entry {number} has object {key[0]!r} and frame {key[1]!r}; both must be whole "
                f"numbers from 0 to {MAX_INT}"
            )
        if key in prompts:
            raise PromptError(
                f"--prompts {path}: entry {number} is a second prompt of object {key[0]} on frame {key[1]}: put all "
                "cues of an object on a frame into one entry"
            )
        try:
            prompts[key] = _parse_json_cues(entry, path.parent)
        except PromptError as error:
            raise PromptError(f"--prompts {path}: entry {number}: {error}") from error
    return prompts


def _parse_json_cues(entry: dict[str, Any], folder: Path) -> ObjectPrompt:
    points, labels, box, mask = (entry.get(name) for name in PROMPT_KEYS[2:])
    if points is None and labels is not None:
        raise PromptError("labels came without points: give one label per point")
    if box is not None and not (isinstance(box, list) and len(box) == 4):
        raise PromptError(f"box {box!r} must be four numbers, [x1, y1, x2, y2]")
    if mask is not None and not isinstance(mask, str):
        raise PromptError(f"mask {mask!r} must be the path of an image")
    if points is not None:
        if not isinstance(points, list):
            raise PromptError(f"points {points!r} must be a list such as [[210, 350]]")
        labels = [1] * len(points) if labels is None else labels
    return _to_prompt(points, labels, box, None if mask is None else read_masks([folder / mask])[0])


def _to_prompt(
    points: list[list[float]] | None = None,
    labels: list[int] | None = None,
    box: list[float] | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> ObjectPrompt:
    from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points

    return ObjectPrompt(
        None if points is None else Points(points, labels),  # type: ignore[arg-type]  # it reads lists, holds arrays
        None if box is None else Box(*box),
        None if mask is None else MaskPrompt(mask),
    )


def _reject_dangling(option: str, value: str | None) -> None:
    if value is not None:
        raise PromptError(
            f"no prompt follows {option} {value}: it is about the prompts after it, so write {option} {value} "
            "--point X,Y, or remove it"
        )
