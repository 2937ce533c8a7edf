"""`masklet annotate`: a folder in, labels out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, print_error, progress_bar
from masklet.cli.shared_options import Device, MaxImagePixels, Precision, Quiet, split_commas

if TYPE_CHECKING:
    from masklet.annotate import Progress

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
            help="Model of the masks, see `masklet models`; default: sam2_b.pt, with 'everything' the built-in one.",
        ),
    ] = "",
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="'a dog. a leash.'", help="Prompt of a detector by text."),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--classes", metavar="NAME|NUMBER", help="Only these; a list with commas.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Default: DATA_auto_annotate_labels, next to the data."),
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
    val_fraction: Annotated[
        float | None,
        typer.Option(
            "--val-fraction", metavar="0..1", help="Fraction of the images for val, the rest train; default: no split."
        ),
    ] = None,
    conf: Annotated[float, typer.Option("--conf", help="Lowest score of a detection.")] = 0.25,
    iou: Annotated[float, typer.Option("--iou", help="IoU above which the weaker of two boxes is removed.")] = 0.45,
    image_size: Annotated[int, typer.Option("--image-size", "--imgsz", help="Input side of the detector.")] = 640,
    max_det: Annotated[int, typer.Option("--max-det", help="Detections per image, at most.")] = 300,
    detector_masks: Annotated[
        bool, typer.Option("--detector-masks", help="Use the masks of a detector that predicts masks.")
    ] = False,
    everything: Annotated[str, typer.Option("--everything", help="Density of 'everything': fast, default, fine.")] = (
        "default"
    ),
    detect_every: Annotated[
        int, typer.Option("--detect-every", metavar="N", help="Run the detector on every N-th frame of a video.")
    ] = 10,
    images: Annotated[str, typer.Option("--images", help="Images in OUT/NAME: link, copy or none.")] = "link",
    segmentation: Annotated[
        str, typer.Option("--segmentation", help="rle (lossless), polygon or both, if a format has the choice.")
    ] = "rle",
    min_iou: Annotated[float, typer.Option("--min-iou", help="Lowest IoU of a polygon with its mask.")] = 0.98,
    batch: Annotated[int, typer.Option("--batch", help="Images per batch; 0: chosen for the detector.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Parallel processes.")] = 1,
    review_fraction: Annotated[
        float, typer.Option("--review-fraction", help="Fraction of the images on the review page; 0: none.")
    ] = 0.02,
    resume: Annotated[
        bool, typer.Option("--resume/--overwrite", help="Resume an earlier run, or remove what it wrote.")
    ] = True,
    device: Device = None,
    precision: Precision = "fp32",
    max_image_pixels: MaxImagePixels = None,
    quiet: Quiet = False,
) -> None:
    """Label images and videos automatically: a detector finds the objects, a segmentation model their masks.

    Stopped with Ctrl-C or by a crash, the same command resumes. Images that cannot be read are named on standard error
    and skipped; the exit code is then 2, or 1 after an error that masklet does not know. Files that you changed by hand
    are kept. Open review.html in the output folder afterwards.

    \b
    Examples:
      masklet annotate photos --det-model everything
      masklet annotate photos --det-model yolov8n.pt --sam-model sam2.1_t.pt --classes dog,person
      masklet annotate photos --det-model everything --format yolo --format coco --val-fraction 0.2 --out data
      masklet annotate 'shots/**/*.jpg' --det-model IDEA-Research/grounding-dino-tiny --text 'a dog. a leash.'
      masklet annotate clip.mp4 --det-model everything --everything fast --format coco
    """
    from masklet.annotate import AnnotateOptions
    from masklet.annotate import annotate as run
    from masklet.datasets import WriteOptions
    from masklet.detect.detector import DetectOptions

    chosen = tuple(int(word) if word.isdigit() else word for word in split_commas(classes)) or None
    options = AnnotateOptions(
        det_model=det_model,
        sam_model=sam_model,
        device=device or "",
        precision=precision,
        detect=DetectOptions(conf, iou, image_size, max_det, chosen, text),
        detector_masks=detector_masks,
        formats=tuple(split_commas(format)),
        write_options=WriteOptions(segmentation=segmentation, min_iou=min_iou, images=images),
        val_fraction=val_fraction,
        batch=batch,
        workers=workers,
        review_fraction=review_fraction,
        detect_every=detect_every,
        everything=everything,
    )
    last: Progress | None = None
    with (
        closing(run(data, options, out, resume=resume)) as events,
        progress_bar("annotating", None, enabled=not quiet) as step,
    ):
        try:
            for last in events:
                frame = "" if last.frame_idx is None else f", frame {last.frame_idx + 1} of {last.num_frames or '?'}"
                step(f"{last.name[-40:]}{frame}", completed=last.done, total=last.total)
                if last.failure:
                    print_error(last.failure)
        except KeyboardInterrupt:
            done = "before the first was done" if last is None else f"after {last.done} of {last.total}"
            print_error(f"stopped {done}; nothing is lost: the same command resumes from there")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    assert last is not None
    assert last.summary is not None
    if not quiet:
        typer.echo(str(last.summary))
    if last.summary.failures:
        print_error(f"{len(last.summary.failures)} image(s) or video(s) could not be annotated")
        is_fault = any(failure.is_unexpected for failure in last.summary.failures)
        raise typer.Exit(ExitCode.BROKEN if is_fault else ExitCode.ERROR)
