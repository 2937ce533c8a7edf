"""`masklet track`: a film in, and what is prompted followed through it; without prompts, everything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.shared_options import Device, Model, Negatives, Out, Points, Precision, Quiet
from masklet.cli.track_everything_job import CrowdJob, follow_all, refuse_prompt_options
from masklet.cli.track_job import FilmJob, TrackJob, follow
from masklet.cli.track_outputs import saves_of
from masklet.cli.track_prompts import PROMPT_WORDS, in_order, say, spellings
from masklet.errors import PromptError

__all__ = ["track"]


def track(
    context: typer.Context,
    film: Annotated[
        str, typer.Argument(metavar="FILM", help="A file, a folder or glob of pictures, a camera's number, rtsp, http.")
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
    negative: Negatives = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", "-b", metavar="X1,Y1,X2,Y2", help="A box around the object.")
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="FILE", help="A rough mask: a picture that is bright on the object."),
    ] = None,
    both: Annotated[bool, typer.Option("--both", help="Follow each object back from its first prompt too.")] = False,
    reverse: Annotated[bool, typer.Option("--reverse", help="Go backwards from the last prompt.")] = False,
    start: Annotated[
        int | None, typer.Option("--start", metavar="N", min=0, help="First frame; default: the first prompted one.")
    ] = None,
    until: Annotated[
        int | None, typer.Option("--until", metavar="N", min=0, help="Last frame; default: the last of the film.")
    ] = None,
    model: Model = None,
    out: Out = Path("masklet-out"),
    save: Annotated[
        list[str] | None,
        typer.Option("--save", "-s", metavar="NAME", help="video (default), png, masks, coco, mots, numpy."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the same run, where a crash or Ctrl-C cut it short.")
    ] = False,
    exclusive: Annotated[bool, typer.Option("--exclusive", help="Objects do not overlap.")] = False,
    keep: Annotated[
        str,
        typer.Option("--keep", metavar="recent|all", help="all: write STEM_session.safetensors too, to edit it later."),
    ] = "recent",
    every: Annotated[
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
    each_frame: Annotated[
        bool, typer.Option("--each-frame", help="Without prompts: every frame by itself, no identities.")
    ] = False,
    device: Device = None,
    precision: Precision = "fp32",
    quiet: Quiet = False,
) -> None:
    """Follow objects through a film, a folder of pictures or a live camera: those of the prompts, or all there are.

    Coordinates are pixels of the original frame, x to the right and y down; frames count from 0. The order of the
    prompts counts: --object and --frame say what the prompts after them are about. --save is repeatable or a comma
    list. Ctrl-C finishes the files with the frames so far. Without any prompt everything is found and followed, what
    appears later too, and STEM_lives.json says from when to when each object was there.

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
    words = in_order(_typed(context), spellings(context.command.params))
    given = {
        "--object": object,
        "--frame": frame,
        "--point": point,
        "--negative": negative,
        "--box": box,
        "--mask": mask,
    }
    assert all([w.value for w in words if w.option == name] == (given[name] or []) for name in PROMPT_WORDS)
    crowd = {"--every": every, "--max-objects": max_objects, "--preset": preset, "--each-frame": each_frame or None}
    job = FilmJob(
        source=film,
        saves=saves_of(save),
        out=out,
        start=start,
        until=until,
        model=model,
        device=device,
        precision=precision,
        exclusive=exclusive,
        quiet=quiet,
    )
    if not any(given.values()):
        refuse_prompt_options(both=both, reverse=reverse, resume=resume, keep=keep != "recent")
        follow_all(
            CrowdJob(
                **vars(job),
                every=every or CrowdJob.every,
                max_objects=max_objects or CrowdJob.max_objects,
                identities=not each_frame,
                preset=preset or CrowdJob.preset,
            )
        )
        return
    said = say(words)
    _refuse_crowd_options(crowd)
    follow(TrackJob(**vars(job), said=said, both=both, reverse=reverse, keep=keep, resume=resume))


def _refuse_crowd_options(given: dict[str, int | str | None]) -> None:
    for option, value in given.items():
        if value is not None:
            raise PromptError(f"{option} is for films without prompts, and there are prompts: leave one of the two out")


def _typed(context: typer.Context) -> list[str]:
    """The words after the command's name, as `main.run` got them."""
    words = context.obj
    assert isinstance(words, list), "the command is called through masklet.cli.main.run, which hands its words on"
    return words[words.index(context.info_name) + 1 :]
