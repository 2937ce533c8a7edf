"""`masklet batch`: the images or videos of a source, shard by shard, to a file for each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from enum import Enum
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, print_error, print_notice, progress_bar
from masklet.cli.shared_options import Device, MaxImagePixels, Model, Precision, Quiet, split_commas

if TYPE_CHECKING:
    from masklet.scale import Stage
    from masklet.scale.run_batch import BatchProgress
    from masklet.scale.stage_rows import Cell

__all__ = ["batch", "merge"]

LOG_INTERVAL_S = 60.0
"""Between two lines of progress, for the logs of jobs."""
MAX_SHOWN_FAILURES = 20
"""Failures that are printed; all are in the manifest."""
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Folders, globs, .txt lists, .csv or .parquet tables, .tar archives; also as URLs.",
    ),
]


class BatchEngine(str, Enum):
    """What divides the items, in place of shards."""

    RAY = "ray"


class Task(str, Enum):
    """What is done with each item."""

    EVERYTHING = "everything"
    ANNOTATE = "annotate"
    TRACK = "track"
    EMBED = "embed"


def batch(
    source: Sources,
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR|URL", help="Output folder, the same for all shards.")],
    task: Annotated[
        Task, typer.Option("--task", help="everything: masks of images. annotate: with classes. track: videos.")
    ] = Task.EVERYTHING,
    model: Model = None,
    shard: Annotated[
        str,
        typer.Option(
            "--shard", metavar="INDEX/COUNT|auto", help="Which items; auto: by the variables of SLURM and torchrun."
        ),
    ] = "0/1",
    prompts: Annotated[
        str, typer.Option("--prompts", help="everything, or columns: points, labels, bboxes of a table, as JSON.")
    ] = "everything",
    everything: Annotated[
        str | None,
        typer.Option("--everything", help="Density of masks: fast, default, fine; default: fast for videos."),
    ] = None,
    det_model: Annotated[
        str, typer.Option("--det-model", metavar="NAME|FILE", help="Detector of annotate, as in `masklet annotate`.")
    ] = "everything",
    text: Annotated[
        str | None, typer.Option("--text", metavar="'a dog. a leash.'", help="Prompt of a detector by text.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--classes", metavar="NAME|NUMBER", help="Only these; a list with commas.")
    ] = None,
    pooled: Annotated[
        bool, typer.Option("--pooled/--whole", help="Of embed: the mean over an image, or all places.")
    ] = True,
    batch_size: Annotated[int, typer.Option("--batch", min=1, help="Images that go into the model together.")] = 1,
    read_ahead: Annotated[int, typer.Option("--read-ahead", min=1, help="Items that are read ahead.")] = 16,
    lease: Annotated[
        float, typer.Option("--lease", metavar="SECONDS", help="After which the item of a dead process is taken.")
    ] = 120.0,
    resume: Annotated[
        bool, typer.Option("--resume/--overwrite", help="Keep finished items, or process those of the shard again.")
    ] = True,
    allow_failed: Annotated[
        bool, typer.Option("--allow-failed", help="Exit with 0 although items failed, which the manifest has.")
    ] = False,
    chunk: Annotated[
        int | None, typer.Option("--chunk", metavar="FRAMES", help="Of track: cut long videos into parts of so many.")
    ] = None,
    overlap: Annotated[
        int, typer.Option("--overlap", metavar="FRAMES", help="Of --chunk: frames that two parts share.")
    ] = 8,
    engine: Annotated[
        BatchEngine | None, typer.Option("--on", help="Divide the items over a Ray cluster, in place of shards.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Of the cluster: auto, ray://HOST:10001; default: RAY_ADDRESS, else a new one."),
    ] = None,
    actors: Annotated[
        int | None, typer.Option("--actors", min=1, help="On Ray: processes; default: as many as there is room for.")
    ] = None,
    cpus: Annotated[float, typer.Option("--cpus", help="On Ray: processors of each process.")] = 1.0,
    gpus: Annotated[
        float | None, typer.Option("--gpus", help="On Ray: GPUs of each process, such as 0.25; default: measured.")
    ] = None,
    device: Device = None,
    precision: Precision = "auto",
    max_image_pixels: MaxImagePixels = None,
    quiet: Quiet = False,
) -> None:
    """Segment, annotate, track or embed the items of a source: on one machine or many, resumable.

    Each item becomes a file in OUT/items, and a line in OUT/manifest. An item that fails does not end the run: its line
    says why. Processes with the same shard share its items. The exit code is 0 if every item of the shard is finished,
    1 if some failed, and 2 if nothing could run. `masklet batch merge OUT` joins the manifests.

    \b
    Examples:
      masklet batch photos --out masks
      masklet batch 's3://bucket/train-{000..120}.tar' --out s3://bucket/masks --shard 0/8
      srun masklet batch videos.csv --out tracks --task track --shard auto
      masklet batch s3://bucket/photos --out s3://bucket/masks --on ray --address auto
      masklet batch merge masks --to coco
    """
    from masklet.errors import InputError, MaskletError
    from masklet.scale import VideoTracker
    from masklet.scale.items import ItemSource
    from masklet.scale.redact_urls import redact_urls
    from masklet.scale.run_batch import BatchOptions, run_batch
    from masklet.scale.shards import Shard
    from masklet.scale.video_chunks import ChunkOptions

    place = Shard.parse(shard, os.environ)
    if engine is not None and (place.count > 1 or not resume):
        raise InputError(f"--on {engine.value} goes without --shard and --overwrite: it divides all items itself")
    device = device or (_local_device() if engine is None else None)
    stage, settings = _stage(
        task, model, device, precision, prompts, everything, det_model, text, split_commas(classes), pooled, batch_size
    )
    kind = "videos" if task is Task.TRACK else "images"
    if isinstance(stage, VideoTracker) and chunk is not None:
        stage = replace(stage, chunks=ChunkOptions(chunk, overlap))
        settings |= {"chunk": chunk, "overlap": overlap}
    last: BatchProgress | None = None
    num_shown = 0
    logged_at = started = time.monotonic()
    try:
        if engine is BatchEngine.RAY:
            from masklet.scale import ray

            cluster = ray.join_cluster(address)
            if not quiet:
                print_notice(f"runs on {cluster}")
            on_ray = ray.RayOptions(address, actors, cpus, gpus=gpus, batch_size=batch_size, lease_s=lease)
            running = ray.run(source, stage, out, on_ray, settings=settings, kind=kind)
        else:
            options = BatchOptions(batch_size=batch_size, read_ahead=read_ahead, lease_s=lease, resume=resume)
            running = run_batch(ItemSource(source, kind, place, exclude=out), stage, out, options, settings=settings)
        with (
            closing(running) as events,
            progress_bar(f"shard {place}", None, enabled=not quiet) as step,
            _interrupted_by_termination(),
        ):
            for last in events:
                if not quiet and time.monotonic() - logged_at >= LOG_INTERVAL_S:
                    logged_at = time.monotonic()
                    counts = f"{last.done} done, {last.failed} failed, {last.finished_before} finished before"
                    print_notice(f"shard {place}: {counts}, {last.done / (logged_at - started):.2f} items/s")
                step(last.item[-40:], completed=last.done + last.failed + last.finished_before)
                if last.outcome == "failed" and (num_shown := num_shown + 1) <= MAX_SHOWN_FAILURES:
                    print_error(f"{last.item}: {last.error}")
    except KeyboardInterrupt:
        print_error(f"stopped after {0 if last is None else last.done} items: the same command resumes")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except MaskletError as error:
        raise type(error)(redact_urls(str(error))) from None
    done, failed, before = (0, 0, 0) if last is None else (last.done, last.failed, last.finished_before)
    if not quiet:
        typer.echo(f"shard {place}: {done} done, {failed} failed, {before} finished before -> {redact_urls(out)}")
    if failed and not allow_failed:
        raise typer.Exit(ExitCode.BROKEN)


def merge(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The output folder of `masklet batch`.")],
    to: Annotated[str | None, typer.Option("--to", help="Write a dataset too: coco, parquet or webdataset.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="SOURCE", help="Count the items that are missing; for webdataset, needed."),
    ] = None,
    samples_per_archive: Annotated[int, typer.Option(min=1, help="Of webdataset.")] = 1000,
) -> None:
    """Join the manifests of all shards to OUT/manifest.jsonl, and the masks to one dataset.

    The exit code is 1 if an item failed or is missing.

    \b
    Examples:
      masklet batch merge masks --source photos
      masklet batch merge masks --source photos --to webdataset
    """
    from masklet.scale.items import ItemSource
    from masklet.scale.merge_batch import merge_batch
    from masklet.scale.redact_urls import redact_urls
    from masklet.scale.run_batch import read_settings

    kind = "videos" if read_settings(out).get("task") == Task.TRACK.value else "images"
    items = ItemSource(source, kind, exclude=out) if source else None
    summary = merge_batch(out, to, items, samples_per_archive=samples_per_archive)  # type: ignore[arg-type]
    missing = f", {summary.missing} missing" if source else ""
    typer.echo(f"{summary.done} done, {summary.failed} failed{missing}, {summary.seconds:.1f} s")
    for name, reason in summary.failures:
        print_error(f"{name}: {reason}")
    for name in summary.missing_names:
        print_error(f"{name} is missing: run its shard again")
    for file in summary.files:
        typer.echo(f"-> {redact_urls(file)}")
    if not summary.is_complete:
        raise typer.Exit(ExitCode.BROKEN)


def _stage(
    task: Task,
    model: str | None,
    device: str | None,
    precision: str,
    prompts: str,
    everything: str | None,
    det_model: str,
    text: str | None,
    classes: list[str],
    pooled: bool,
    batch_size: int,
) -> tuple[Stage, dict[str, Cell]]:
    """Return the stage of a task, and the settings that its files depend on."""
    from masklet.annotate import AnnotateOptions
    from masklet.detect.detector import DetectOptions
    from masklet.scale import Annotator, Embedder, Segmenter, VideoTracker

    settings: dict[str, Cell] = {"task": task.value, "model": model, "precision": precision}
    if task is Task.EMBED:
        return Embedder(model, device, precision, pooled=pooled), {**settings, "pooled": pooled}
    if task is Task.ANNOTATE:
        chosen = tuple(int(word) if word.isdigit() else word for word in classes) or None
        options = AnnotateOptions(
            det_model=det_model,
            sam_model=model or "",
            device=device or "",
            precision="fp32" if precision == "auto" else precision,
            detect=DetectOptions(classes=chosen, text=text),
            everything=everything or "default",
            batch=batch_size,
        )
        more = {"det_model": det_model, "text": text, "classes": classes, "everything": options.everything}
        return Annotator(options), {**settings, **more}
    density = everything or ("fast" if task is Task.TRACK else "default")
    settings |= {"prompts": prompts, "everything": density}
    kind = VideoTracker if task is Task.TRACK else Segmenter
    return kind(model, device, precision, prompts=prompts, everything=density), settings  # type: ignore[arg-type]


def _local_device() -> str | None:
    """Return the GPU of this process, where SLURM or torchrun started several on one machine; None otherwise."""
    import torch

    number = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or ""
    if number.isdecimal() and torch.cuda.device_count() > 1:
        return f"cuda:{int(number) % torch.cuda.device_count()}"
    return None


@contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """Treat SIGTERM, by which schedulers end a job, as Ctrl-C: leases are given back."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
