"""`masklet annotate`: a folder in, labels out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from masklet.cli.console import PROGRESS_DELAY_S, print_error
from masklet.cli.shared_options import Device, Precision, Quiet

if TYPE_CHECKING:
    from masklet.annotate import Progress, Summary

__all__ = ["annotate"]


def annotate(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Folders, globs, images or videos.")],
    det_model: Annotated[
        str,
        typer.Option(
            "--det-model", metavar="NAME|FILE", help="A detector; 'everything' needs no download and knows no classes."
        ),
    ] = "yolov8x.pt",
    sam_model: Annotated[
        str,
        typer.Option(
            "--sam-model",
            "-m",
            metavar="NAME|FILE",
            help="Who draws the masks, see `masklet models`; default: sam2_b.pt, with 'everything' the built-in one.",
        ),
    ] = "",
    text: Annotated[
        str | None, typer.Option("--text", metavar="'a dog. a leash.'", help="What a detector by text looks for.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--classes", metavar="NAME|NUMBER", help="Only these; a list with commas.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Default: beside the data, DATA_auto_annotate_labels."),
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="yolo, coco, labelme, davis, voc or cvat, each in OUT/NAME; default: YOLO-seg texts in OUT itself.",
        ),
    ] = None,
    train_fraction: Annotated[
        float | None, typer.Option("--split", metavar="SHARE", help="So much for training, the rest val: 0.8.")
    ] = None,
    conf: Annotated[float, typer.Option("--conf", help="Lowest score of a detection.")] = 0.25,
    iou: Annotated[float, typer.Option("--iou", help="Overlap from which on the weaker of two boxes goes.")] = 0.45,
    image_size: Annotated[int, typer.Option("--imgsz", help="Side that images are brought to for the detector.")] = 640,
    max_det: Annotated[int, typer.Option("--max-det", help="Most detections an image.")] = 300,
    detector_masks: Annotated[
        bool, typer.Option("--detector-masks", help="Take the masks of a detector that draws its own.")
    ] = False,
    everything: Annotated[str, typer.Option("--everything", help="How densely it asks: fast, default, fine.")] = (
        "default"
    ),
    detect_every: Annotated[
        int, typer.Option("--every", help="Frames of a video between two looks of the detector.")
    ] = 10,
    images: Annotated[str, typer.Option("--pictures", help="In OUT/NAME: link, copy or none.")] = "link",
    segmentation: Annotated[
        str, typer.Option("--segmentation", help="rle (lossless), polygon or both, where a format has the choice.")
    ] = "rle",
    min_iou: Annotated[float, typer.Option("--min-iou", help="What polygons keep of each mask at least.")] = 0.98,
    batch: Annotated[int, typer.Option("--batch", help="Images at once; 0: as suits the detector.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes side by side.")] = 1,
    review_fraction: Annotated[
        float, typer.Option("--review", help="Share of images on the review sheet; 0: none.")
    ] = 0.02,
    resume: Annotated[
        bool, typer.Option("--resume/--anew", help="Go on where an earlier run stopped, or remove what it wrote.")
    ] = True,
    device: Device = None,
    precision: Precision = "fp32",
    quiet: Quiet = False,
) -> None:
    """Label images and videos by themselves: a detector finds objects, a segmenting model draws them.

    Stopped with Ctrl-C or by a crash, the same command goes on where it was. Images that cannot be read are named on
    standard error and left out; the exit code is then 2. Look at review.html in the output folder afterwards.

    \b
    Examples:
      masklet annotate photos --det-model everything
      masklet annotate photos --det-model yolov8n.pt --sam-model sam2.1_t.pt --classes dog,person
      masklet annotate photos --det-model everything --format yolo --format coco --split 0.8 --out data
      masklet annotate 'shots/**/*.jpg' --det-model IDEA-Research/grounding-dino-tiny --text 'a dog. a leash.'
      masklet annotate clip.mp4 --det-model everything --everything fast --format coco
    """
    from masklet.annotate import AnnotateOptions
    from masklet.annotate import annotate as stream
    from masklet.datasets import WriteOptions
    from masklet.detect.detector import DetectOptions

    options = AnnotateOptions(
        det_model=det_model,
        sam_model=sam_model,
        device=device or "",
        precision=precision,
        detect=DetectOptions(conf, iou, image_size, max_det, _classes(classes), text),
        detector_masks=detector_masks,
        formats=tuple(_split_commas(format)),
        write_options=WriteOptions(segmentation=segmentation, min_iou=min_iou, images=images),
        val_fraction=None if train_fraction is None else 1 - train_fraction,
        batch=batch,
        workers=workers,
        review_fraction=review_fraction,
        detect_every=detect_every,
        everything=everything,
    )
    _finish(_run_with_progress(stream(data, options, out, resume=resume), quiet=quiet), quiet=quiet)


def _finish(summary: Summary, *, quiet: bool) -> None:
    if not quiet:
        typer.echo(str(summary))
    if summary.failures:
        print_error(f"{len(summary.failures)} image(s) or video(s) could not be annotated")
        raise typer.Exit(2)


def _run_with_progress(stream: Generator[Progress, None, None], *, quiet: bool) -> Summary:
    """The summary, with progress on a terminal until it is there; failures are told as they come."""
    last: Progress | None = None
    with closing(stream), _progress_display(enabled=not quiet) as show:
        try:
            for last in stream:
                show(last)
                if last.failure:
                    print_error(last.failure)
        except KeyboardInterrupt:
            print_error(_stopped(last))
            raise typer.Exit(130) from None
    assert last is not None
    assert last.summary is not None
    return last.summary


def _stopped(last: Progress | None) -> str:
    done = f"after {last.done} of {last.total}" if last is not None else "before the first was done"
    return f"stopped {done}; nothing is lost: the same command goes on from there"


@contextmanager
def _progress_display(*, enabled: bool) -> Iterator[Callable[[Progress], None]]:
    """A function that shows progress on a terminal, once it takes longer than a moment."""
    console = Console(stderr=True)
    if not enabled or not console.is_terminal:
        yield lambda progress: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=console, transient=True, redirect_stdout=False)
    task, started = bar.add_task("annotating", total=None), time.monotonic()

    def show(progress: Progress) -> None:
        if time.monotonic() - started > PROGRESS_DELAY_S:
            bar.start()
        of = "" if progress.frame_idx is None else f", frame {progress.frame_idx + 1} of {progress.num_frames or '?'}"
        bar.update(task, completed=progress.done, total=progress.total, description=f"{progress.name[-40:]}{of}")

    try:
        yield show
    finally:
        bar.stop()


def _split_commas(values: list[str] | None) -> Iterator[str]:
    """Repeated words and comma lists, one after the other."""
    return (word.strip() for words in values or () for word in words.split(",") if word.strip())


def _classes(given: list[str] | None) -> tuple[int | str, ...] | None:
    found = tuple(int(word) if word.isdigit() else word for word in _split_commas(given))
    return found or None
