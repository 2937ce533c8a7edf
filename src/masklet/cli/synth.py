"""`masklet synth`: made clips with exact masks, in the layout of DAVIS 2017."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import counting

if TYPE_CHECKING:
    from masklet.synthetic import Plan

__all__ = ["synth"]


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to put them in; clips that are there already are kept.")],
    clips: Annotated[int, typer.Option(help="How many in all.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Another seed, other clips.", min=0)] = 0,
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Of a frame, in pixels.")] = "480x270",
    frames: Annotated[int | None, typer.Option(help="Of a clip; default: 24, and 150 for 'long'.")] = None,
    difficulty: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="occlusion, twins, reentry, fast, small, long, thin or transparency; may be repeated; "
            "default: all of them in turn.",
        ),
    ] = None,
    bodies: Annotated[bool, typer.Option("--bodies", help="Rigid bodies too, which fall and roll (PyBullet).")] = False,
    stills: Annotated[
        Path | None, typer.Option(help="Pictures with masks to make them of; default: all is drawn.")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Frames as PNG rather than JPEG.")] = False,
) -> None:
    """Make clips with exact masks: things that hide, cross, leave and come back. Stop it and call it again to go on.

    \b
    Examples:
      masklet synth clips
      masklet synth clips --clips 100 --difficulty twins --difficulty occlusion --size 640x360
      masklet synth clips --stills my_pictures --lossless
      masklet eval davis --root clips
    """
    from masklet.synthetic import DIFFICULTIES, write_clips

    names = [*(difficulty or DIFFICULTIES), *(["bodies"] if bodies and "bodies" not in (difficulty or ()) else [])]
    plan = _plan(seed, size, frames, lossless, stills)
    made = there = 0
    with counting("clips", clips, wanted=True) as step:
        for stored in write_clips(out, plan, clips, names):
            made, there = made + stored.new, there + (not stored.new)
            step()
    typer.echo(f"{out}: {made} clips made" + (f", {there} were there" if there else ""))


def _plan(seed: int, size: str, frames: int | None, lossless: bool, stills: Path | None) -> Plan:
    from masklet.synthetic import Collected, Drawn, Plan

    if stills is None:
        return Plan(seed, _read_size(size), frames, lossless, Drawn())
    from masklet.datasets import open_dataset

    return Plan(seed, _read_size(size), frames, lossless, Collected(((open_dataset(stills), 1.0),)), str(stills))


def _read_size(text: str) -> tuple[int, int]:
    """Height and width of "480x270"."""
    from masklet.errors import InputError

    found = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if not found:
        raise InputError(f"size {text!r} is not a size; say width x height in pixels, as 480x270")
    return int(found[2]), int(found[1])
