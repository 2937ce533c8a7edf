"""`masklet track`: track the objects of the prompts through a video; without prompts, all objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, format_paths, print_error
from masklet.cli.progress import ProgressReporter
from masklet.cli.shared_options import (
    PRESETS,
    VIDEO_FORMATS,
    Device,
    GraphCache,
    ImageSize,
    Memories,
    Memory,
    MemoryPooling,
    Model,
    NegativePoints,
    Out,
    Overwrite,
    Pointers,
    Points,
    Precision,
    Providers,
    Quiet,
    Threads,
    open_model,
    parse_formats,
    parse_runtime,
    track_options,
)
from masklet.cli.track_prompts import PROMPT_OPTIONS, parse_track_prompts, read_prompts_file
from masklet.errors import InputError, MaskletError, PromptError

if TYPE_CHECKING:
    from masklet.exported import RuntimeOptions
    from masklet.media import Video
    from masklet.sam import SAM
    from masklet.video import AutoTrackOptions, AutoTrackStream, Session, TrackOptions
    from masklet.video.jobs import AutoTrackOpener, TrackingJob

__all__ = ["run_tracking_job", "track"]

DETECT_EVERY, MAX_OBJECTS = 10, 32
MAX_OBJECTS_LISTED = 20
"""Objects that are named one by one; of more, the number is printed: STEM_tracks.json has them all."""


def track(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="VIDEO", help="A file, a folder or glob of images, a camera's number, rtsp, http.")
    ],
    object: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="ID", help="The prompts that follow are about this object (first: 1)."),
    ] = None,
    frame: Annotated[
        list[str] | None,
        typer.Option("--frame", metavar="N", help="The prompts that follow are on this frame (first: 0)."),
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
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE.json",
            help="Prompts from a list of {object, frame, points, labels, box, mask} instead.",
        ),
    ] = None,
    bidirectional: Annotated[
        bool, typer.Option("--bidirectional", help="Track each object backward from its first prompt too.")
    ] = False,
    reverse: Annotated[bool, typer.Option("--reverse", help="Track backward from the last prompt.")] = False,
    start: Annotated[
        int | None, typer.Option("--start", metavar="N", min=0, help="First frame; default: the first prompted one.")
    ] = None,
    stop: Annotated[
        int | None,
        typer.Option("--stop", metavar="N", min=0, help="Stop before this frame; default: at the end of the video."),
    ] = None,
    model: Model = None,
    out: Out = Path("masklet-out"),
    format: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", metavar="NAME", help="video (default), png, masks, coco, mots, numpy."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the same run after a crash or Ctrl-C.")] = False,
    non_overlapping: Annotated[
        bool | None,
        typer.Option(
            "--non-overlapping/--overlapping",
            help="Objects never, or may overlap; default: only parts of others do.",
        ),
    ] = None,
    memory: Memory = "sam2",
    scene_cuts: Annotated[
        bool, typer.Option("--scene-cuts/--no-scene-cuts", help="Notice cuts; use no memories of the shot before.")
    ] = True,
    verify_returns: Annotated[
        bool,
        typer.Option(
            "--verify-returns/--no-verify-returns",
            help="Built-in model: a lost object is back only if it looks like itself.",
        ),
    ] = True,
    save_session: Annotated[
        bool, typer.Option("--save-session", help="Write STEM_session.safetensors too, to edit it later.")
    ] = False,
    detect_every: Annotated[
        int | None,
        typer.Option(
            "--detect-every",
            metavar="N",
            min=1,
            help=f"Without prompts: detect new objects every N frames ({DETECT_EVERY}).",
        ),
    ] = None,
    max_objects: Annotated[
        int | None,
        typer.Option(
            "--max-objects", metavar="N", min=1, help=f"Without prompts: track at most N at once ({MAX_OBJECTS})."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Without prompts: how densely to detect, fast, default or fine."),
    ] = None,
    per_frame: Annotated[
        bool, typer.Option("--per-frame", help="Without prompts: every frame by itself, no identities.")
    ] = False,
    reidentify: Annotated[
        bool | None,
        typer.Option(
            "--reidentify/--no-reidentify",
            help="Without prompts: a lost object that is found again keeps its id (default).",
        ),
    ] = None,
    overwrite: Overwrite = False,
    image_size: ImageSize = None,
    device: Device = None,
    precision: Precision = "auto",
    memories: Memories = 6,
    pointers: Pointers = 16,
    memory_pooling: MemoryPooling = 1,
    threads: Threads = None,
    providers: Providers = None,
    graph_cache: GraphCache = None,
    quiet: Quiet = False,
) -> None:
    """Track objects through a video, a folder of images or a live camera: those of the prompts, or all.

    Coordinates are pixels of the original frame, x to the right and y down; frames count from 0. The order of the
    prompts counts: --object and --frame say what the prompts after them are about. A script writes --prompts FILE.json:
    [{"object": 1, "frame": 0, "points": [[210, 350]], "labels": [1]}, {"object": 2, "box": [300, 0, 500, 400]}].
    --format is repeatable or a comma list. Ctrl-C finishes the files with the frames so far. Without any prompt all
    objects are detected and tracked, those that appear later too, and STEM_tracks.json has the start and end of each
    track.

    \b
    Examples:
      masklet track dog.mp4 --point 150,150
      masklet track dog.mp4 --point 150,150 --object 2 --box 100,100,200,200 --format video,png
      masklet track dog.mp4 --object 7 --frame 40 --box 300,0,500,400 --negative 310,20 --bidirectional --format coco
      masklet track dog.mp4 --prompts prompts.json
      masklet track shots/ --mask first.png --format png --out masks
      masklet track dog.mp4 --point 150,150 --stop 100 --model sam2.1_t.pt --resume
      masklet track 0 --box 200,100,400,400 --out camera
      masklet track street.mp4 --detect-every 5 --max-objects 12
      masklet track shots.mp4 --no-scene-cuts --no-reidentify
    """
    typed = [(option, value) for option, value in context.obj if option in PROMPT_OPTIONS]
    if typed and prompts is not None:
        raise PromptError(f"{typed[0][0]} and --prompts exclude each other: put all prompts into {prompts}")
    is_prompted = bool(typed) or prompts is not None
    _check_mode(
        is_prompted,
        {"--bidirectional": bidirectional, "--reverse": reverse, "--resume": resume, "--save-session": save_session},
        {
            "--detect-every": detect_every,
            "--max-objects": max_objects,
            "--preset": preset,
            "--per-frame": per_frame,
            "--reidentify": reidentify is True,
            "--no-reidentify": reidentify is False,
        },
    )
    formats = parse_formats(format, VIDEO_FORMATS)
    runtime = parse_runtime(threads, providers, graph_cache)
    deferred = _DeferredModel(model, device, precision, image_size, runtime, memory_pooling)
    options = replace(
        track_options(memory, memories, pointers, non_overlapping),
        scene_cuts=scene_cuts,
        verify_returns=verify_returns,
    )
    is_camera = source.isascii() and source.isdigit() and not os.path.exists(source)
    name = int(source) if is_camera else source
    reporter = ProgressReporter(quiet=quiet)
    if is_prompted:
        frame_prompts = parse_track_prompts(typed) if prompts is None else read_prompts_file(prompts)
        if bidirectional and reverse:
            raise InputError(
                "--bidirectional and --reverse exclude each other: --bidirectional tracks backward and forward; remove "
                "one of them"
            )
        from masklet.media import open_video
        from masklet.video.jobs import first_tracked_frame, track_to_files

        first = first_tracked_frame(frame_prompts, start=start, reverse=reverse, bidirectional=bidirectional)
        _check_stop(stop, first, start=start, reverse=reverse)
        video = open_video(name)
        rewinding = {
            "--resume": resume,
            "--bidirectional": bidirectional,
            "--reverse": reverse,
            "--start": start is not None,
        }
        for option, given in rewinding.items():
            if given and not video.seekable:
                video.close()
                raise InputError(
                    f"{option} needs a video that can be read again, and the frames of {video.path!r} come once: "
                    "remove it, or save the stream to a file and track that"
                )
        job = track_to_files(
            deferred,
            video,
            frame_prompts,
            out,
            formats,
            resume=resume,
            options=options,
            start=start,
            stop=stop,
            reverse=reverse,
            bidirectional=bidirectional,
            save_session=save_session,
            overwrite=overwrite,
            description=deferred.description(),
            on_backward_frame=reporter.show_backward_frame,
        )
    else:
        _check_stop(stop, start or 0, start=start)
        from masklet.video import AutoTrackOptions
        from masklet.video.jobs import track_everything_to_files

        auto_options = AutoTrackOptions(
            detect_every=detect_every or DETECT_EVERY,
            max_objects=max_objects or MAX_OBJECTS,
            identities=not per_frame,
            reidentify=reidentify is not False,
        )
        opener = deferred.auto_track_opener(preset or PRESETS[0], auto_options, options)
        job = track_everything_to_files(
            opener, name, out, formats, start=start, stop=stop, history=not per_frame, overwrite=overwrite
        )
    run_tracking_job(job, reporter, quiet=quiet)


def run_tracking_job(job: TrackingJob, reporter: ProgressReporter, *, quiet: bool = False) -> None:
    """Run a job to its end; prints the files and the state of each object on standard output.

    Stopped with Ctrl-C the exit code is 130; if the video or the disk fails it is 2.

    Raises:
        MaskletError: if the job fails before its first frame.
    """
    reason, code = "", ExitCode.DONE
    try:
        with reporter, job:
            for progress in job:
                reporter.show(progress)
    except KeyboardInterrupt:
        frames = job.summary.frames
        reason = f"stopped after {frames} frame(s)" if frames else "stopped before the first frame"
        code = ExitCode.INTERRUPTED
    except MaskletError as error:
        if not job.summary.frames:
            raise
        reason, code = f"{error}; {job.summary.frames} frame(s) were tracked", ExitCode.ERROR
    summary, path = job.summary, job.video.path
    if not quiet and (summary.frames or not reason):
        rate = f", {summary.fps:.1f} frames/s" if summary.fps else ""
        dropped = f", {summary.dropped_frames} dropped because they came too fast" if summary.dropped_frames else ""
        typer.echo(f"{path}: {summary.frames} frames{rate}{dropped} -> {format_paths(summary.paths)}")
        if summary.history is None:
            for object_id, states in summary.object_states.items():
                counts = [f"{state} on {states.get(state, 0)}" for state in ("visible", "occluded", "lost")]
                typer.echo(f"object {object_id}: {counts[0]} frames, {', '.join(counts[1:])}")
            if summary.doubts:
                typer.echo(f"check frames {', '.join(map(str, summary.doubts))}")
        elif summary.history_path is None:
            typer.echo(f"{summary.num_masks} objects in {summary.frames} frames, each frame by itself")
        else:
            lines = str(summary.history).splitlines()
            more = f"and {len(lines) - MAX_OBJECTS_LISTED} more, in {summary.history_path}"
            for line in [*lines[:MAX_OBJECTS_LISTED], *([more] if len(lines) > MAX_OBJECTS_LISTED else [])]:
                typer.echo(line)
    if reason:
        hint = "; --resume continues" if summary.resumable else ""
        print_error(f"{reason}; written: {format_paths(summary.paths)}{hint}")
        raise typer.Exit(code)
    if summary.missing_frames is not None:
        found, declared = summary.missing_frames
        print_error(f"{path} ended early: it has {found} of {declared} frames, and these were tracked")
        raise typer.Exit(ExitCode.ERROR)


@dataclass(frozen=True)
class _DeferredModel:
    """The model of a job, opened when the job asks for it: after its files and prompts have been checked."""

    model: str | None
    device: str | None
    precision: str
    image_size: int | None
    runtime: RuntimeOptions
    memory_pooling: int

    def open(self) -> SAM:
        return open_model(self.model, self.device, self.precision, self.image_size, self.runtime, self.memory_pooling)

    def session(self, source: Video, *, resume: Path | None = None, options: TrackOptions | None = None) -> Session:
        return self.open().session(source, resume=resume, options=options)

    def auto_track_opener(self, preset: str, auto_options: AutoTrackOptions, options: TrackOptions) -> AutoTrackOpener:
        """Return what tracks all objects of a video.

        Raises:
            InputError: if the preset is unknown.
        """
        if preset not in PRESETS:
            raise InputError(f"--preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}")

        def open_stream(video: Video, *, start: int | None, stop: int | None) -> AutoTrackStream:
            return self.open().track(
                video,
                everything=preset,
                auto_options=auto_options,
                options=options,
                start=start,
                stop=stop,
            )

        return open_stream

    def description(self) -> Mapping[str, str | int | None]:
        """What identifies it; the same run resumes only with the same model."""
        name = "the built-in model" if self.model is None else self.model
        path = os.path.abspath(name) if os.path.isfile(name) else name
        pooling = {"memory_pooling": self.memory_pooling} if self.memory_pooling > 1 else {}  # newer than the others
        return {"model": path, "precision": self.precision, "image_size": self.image_size, **pooling}


def _check_mode(is_prompted: bool, prompted: Mapping[str, object], unprompted: Mapping[str, object]) -> None:
    """Refuse the options of the one way to track when the other is used."""
    for option, value in (unprompted if is_prompted else prompted).items():
        if not value:
            continue
        if is_prompted:
            raise PromptError(f"{option} is for videos without prompts, and there are prompts: remove one of the two")
        raise InputError(
            f"{option} needs prompts, and there are none: give --point 210,350, --box 300,0,500,400 or --mask "
            "mask.png, or remove it to track everything"
        )


def _check_stop(stop: int | None, first: int, *, start: int | None, reverse: bool = False) -> None:
    if stop is not None and (stop >= first if reverse else stop <= first):
        where = "the first one" if start is None else "--start"
        raise InputError(
            f"--stop {stop} leaves no frame to track, as tracking begins with frame {first} ({where}) and ends before "
            f"--stop: choose a number {'below' if reverse else 'above'} {first}"
        )
