"""`masklet synth`: synthetic clips with exact masks, in the format of DAVIS 2017."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.console import progress_bar
from masklet.cli.shared_options import Scenarios

__all__ = ["synth"]


def synth(
    out: Annotated[Path, typer.Argument(help="Output folder; clips that it holds already stay.")],
    clips: Annotated[int, typer.Option(help="Number of clips in the folder.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Random seed.", min=0)] = 0,
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Size of a frame, in pixels.")] = "480x270",
    frames: Annotated[int | None, typer.Option(help="Frames per clip; default: 24, and 150 for 'long'.")] = None,
    scenario: Scenarios = None,
    rigid_bodies: Annotated[
        bool, typer.Option("--rigid-bodies", help="Rigid bodies too, which fall and roll (PyBullet).")
    ] = False,
    from_dataset: Annotated[
        Path | None, typer.Option(help="Images with masks to cut objects from; default: everything is procedural.")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Frames as PNG rather than JPEG.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the list of clips too if it was changed.")
    ] = False,
) -> None:
    """Render clips with exact masks: objects that hide, cross, leave and come back. Stopped, the same command resumes.

    \b
    Examples:
      masklet synth clips
      masklet synth clips --clips 100 --scenario twins --scenario occlusion --size 640x360
      masklet synth clips --from-dataset my_images --lossless
      masklet eval vos --root clips
    """
    from masklet.datasets import open_dataset
    from masklet.errors import InputError
    from masklet.synthetic import SCENARIOS, DatasetSource, ExportOptions, ProceduralSource, write_clips

    match = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", size.strip())
    if not match:
        raise InputError(f"size {size!r} is invalid; give width x height in pixels, such as 480x270")
    frame_size = int(match[2]), int(match[1])
    names = [*(scenario or SCENARIOS), *(["bodies"] if rigid_bodies and "bodies" not in (scenario or ()) else [])]
    if from_dataset is None:
        options = ExportOptions(seed, frame_size, frames, lossless, ProceduralSource())
    else:
        source = DatasetSource(((open_dataset(from_dataset), 1.0),))
        options = ExportOptions(seed, frame_size, frames, lossless, source, str(from_dataset))
    written = existing = 0
    with progress_bar("clips", clips, enabled=True) as step:
        for clip in write_clips(out, options, clips, names, overwrite=overwrite):
            written, existing = written + clip.created, existing + (not clip.created)
            step()
    typer.echo(f"{out}: {written} clips written" + (f", {existing} existed" if existing else ""))
