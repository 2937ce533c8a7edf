"""`masklet track`: a video in, and what is prompted followed through it; without prompts, everything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.shared_options import Device, Model, NegativePoints, Out, Points, Precision, Quiet
from masklet.cli.track_everything_job import TrackEverythingJob, reject_prompt_options, run_track_everything
from masklet.cli.track_job import TrackJob, VideoJob, run_track
from masklet.cli.track_outputs import parse_track_formats
from masklet.cli.track_prompts import PROMPT_OPTIONS, option_spellings, parse_track_prompts, tokenize_options
from masklet.errors import PromptError

__all__ = ["track"]


def track(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="FILM", help="A file, a folder or glob of images, a camera's number, rtsp, http.")
    ],
    object: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="ID", help="What follows is about this object, until the next (first: 1)."),
    ] = None,
    frame: Annotated[
        list[str] | None,
        typer.Option("--frame", metavar="N", help="What follows holds for this frame, until the next (first: 0)."),
    ] = None,
    point: Points = None,
    negative: NegativePoints = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", "-b", metavar="X1,Y1,X2,Y2", help="A box around the object.")
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="FILE", help="A rough mask: an image that is bright on the object."),
    ] = None,
    bidirectional: Annotated[
        bool, typer.Option("--both", help="Follow each object back from its first prompt too.")
    ] = False,
    reverse: Annotated[bool, typer.Option("--reverse", help="Go backwards from the last prompt.")] = False,
    start: Annotated[
        int | None, typer.Option("--start", metavar="N", min=0, help="First frame; default: the first prompted one.")
    ] = None,
    last_frame: Annotated[
        int | None, typer.Option("--until", metavar="N", min=0, help="Last frame; default: the last of the video.")
    ] = None,
    model: Model = None,
    out: Out = Path("masklet-out"),
    format: Annotated[
        list[str] | None,
        typer.Option("--save", "-s", metavar="NAME", help="video (default), png, masks, coco, mots, numpy."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the same run, where a crash or Ctrl-C cut it short.")
    ] = False,
    non_overlapping: Annotated[bool, typer.Option("--exclusive", help="Objects do not overlap.")] = False,
    retain: Annotated[
        str,
        typer.Option("--keep", metavar="recent|all", help="all: write STEM_session.safetensors too, to edit it later."),
    ] = "recent",
    detect_every: Annotated[
        int | None,
        typer.Option("--every", metavar="N", min=1, help="Without prompts: look for new objects every N frames (10)."),
    ] = None,
    max_objects: Annotated[
        int | None,
        typer.Option("--max-objects", metavar="N", min=1, help="Without prompts: follow so many at once (32)."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Without prompts: how densely to look, fast, default or fine."),
    ] = None,
    per_frame: Annotated[
        bool, typer.Option("--each-frame", help="Without prompts: every frame by itself, no identities.")
    ] = False,
    device: Device = None,
    precision: Precision = "fp32",
    quiet: Quiet = False,
) -> None:
    """Follow objects through a video, a folder of images or a live camera: those of the prompts, or all there are.

    Coordinates are pixels of the original frame, x to the right and y down; frames count from 0. The order of the
    prompts counts: --object and --frame say what the prompts after them are about. --save is repeatable or a comma
    list. Ctrl-C finishes the files with the frames so far. Without any prompt everything is found and followed, what
    appears later too, and STEM_tracks.json says from when to when each object was there.

    \b
    Examples:
      masklet track dog.mp4 --point 150,150
      masklet track dog.mp4 --point 150,150 --object 2 --box 100,100,200,200 --save video,png
      masklet track dog.mp4 --object 7 --frame 40 --box 300,0,500,400 --negative 310,20 --both --save coco
      masklet track shots/ --mask first.png --save png --out masks
      masklet track dog.mp4 --point 150,150 --until 100 --model sam2.1_t.pt --resume
      masklet track 0 --box 200,100,400,400 --out camera
      masklet track street.mp4 --every 5 --max-objects 12
    """
    words = tokenize_options(_command_args(context), option_spellings(context.command.params))
    given = {
        "--object": object,
        "--frame": frame,
        "--point": point,
        "--negative": negative,
        "--box": box,
        "--mask": mask,
    }
    assert all([w.value for w in words if w.option == name] == (given[name] or []) for name in PROMPT_OPTIONS)
    crowd = {
        "--every": detect_every,
        "--max-objects": max_objects,
        "--preset": preset,
        "--each-frame": per_frame or None,
    }
    job = VideoJob(
        source=source,
        formats=parse_track_formats(format),
        out=out,
        start=start,
        last_frame=last_frame,
        model=model,
        device=device,
        precision=precision,
        non_overlapping=non_overlapping,
        quiet=quiet,
    )
    if not any(given.values()):
        reject_prompt_options(both=bidirectional, reverse=reverse, resume=resume, keep=retain != "recent")
        run_track_everything(
            TrackEverythingJob(
                **vars(job),
                detect_every=detect_every or TrackEverythingJob.detect_every,
                max_objects=max_objects or TrackEverythingJob.max_objects,
                identities=not per_frame,
                preset=preset or TrackEverythingJob.preset,
            )
        )
        return
    said = parse_track_prompts(words)
    _reject_everything_options(crowd)
    run_track(
        TrackJob(**vars(job), prompts=said, bidirectional=bidirectional, reverse=reverse, retain=retain, resume=resume)
    )


def _reject_everything_options(given: dict[str, int | str | None]) -> None:
    for option, value in given.items():
        if value is not None:
            raise PromptError(
                f"{option} is for videos without prompts, and there are prompts: leave one of the two out"
            )


def _command_args(context: typer.Context) -> list[str]:
    """The words after the command's name, as `main.run` got them."""
    words = context.obj
    assert isinstance(words, list), "the command is called through masklet.cli.main.run, which hands its words on"
    return words[words.index(context.info_name) + 1 :]
