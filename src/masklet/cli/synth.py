"""`masklet synth`: made clips with exact masks, in the layout of DAVIS 2017."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import progress_bar

if TYPE_CHECKING:
    from masklet.synthetic import ExportOptions

__all__ = ["synth"]


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to put them in; clips that are there already are kept.")],
    clips: Annotated[int, typer.Option(help="How many in all.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Another seed, other clips.", min=0)] = 0,
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Of a frame, in pixels.")] = "480x270",
    frames: Annotated[int | None, typer.Option(help="Of a clip; default: 24, and 150 for 'long'.")] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="occlusion, twins, reentry, fast, small, long, thin or transparency; may be repeated; "
            "default: all of them in turn.",
        ),
    ] = None,
    rigid_bodies: Annotated[
        bool, typer.Option("--bodies", help="Rigid bodies too, which fall and roll (PyBullet).")
    ] = False,
    from_dataset: Annotated[
        Path | None, typer.Option(help="Images with masks to make them of; default: all is drawn.")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Frames as PNG rather than JPEG.")] = False,
) -> None:
    """Make clips with exact masks: things that hide, cross, leave and come back. Stop it and call it again to go on.

    \b
    Examples:
      masklet synth clips
      masklet synth clips --clips 100 --difficulty twins --difficulty occlusion --size 640x360
      masklet synth clips --stills my_images --lossless
      masklet eval davis --root clips
    """
    from masklet.synthetic import SCENARIOS, write_clips

    names = [*(scenario or SCENARIOS), *(["bodies"] if rigid_bodies and "bodies" not in (scenario or ()) else [])]
    plan = _plan(seed, size, frames, lossless, from_dataset)
    made = there = 0
    with progress_bar("clips", clips, enabled=True) as step:
        for stored in write_clips(out, plan, clips, names):
            made, there = made + stored.created, there + (not stored.created)
            step()
    typer.echo(f"{out}: {made} clips made" + (f", {there} were there" if there else ""))


def _plan(seed: int, size: str, frames: int | None, lossless: bool, from_dataset: Path | None) -> ExportOptions:
    from masklet.synthetic import DatasetSource, ExportOptions, ProceduralSource

    if from_dataset is None:
        return ExportOptions(seed, _parse_size(size), frames, lossless, ProceduralSource())
    from masklet.datasets import open_dataset

    return ExportOptions(
        seed,
        _parse_size(size),
        frames,
        lossless,
        DatasetSource(((open_dataset(from_dataset), 1.0),)),
        str(from_dataset),
    )


def _parse_size(text: str) -> tuple[int, int]:
    """Height and width of "480x270"."""
    from masklet.errors import InputError

    found = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if not found:
        raise InputError(f"size {text!r} is not a size; say width x height in pixels, as 480x270")
    return int(found[2]), int(found[1])
