"""`masklet segment`: images and prompts in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.segment_job import SegmentJob, run_segment
from masklet.cli.segment_prompts import parse_segment_prompts
from masklet.cli.shared_options import (
    IMAGE_FORMATS,
    Device,
    Formats,
    GraphCache,
    ImageSize,
    ImageSources,
    MaxImagePixels,
    Model,
    NegativePoints,
    Out,
    Overwrite,
    Points,
    Precision,
    Providers,
    Quiet,
    Threads,
    parse_formats,
    parse_runtime,
)

__all__ = ["segment"]


def segment(
    images: ImageSources,
    point: Points = None,
    negative: NegativePoints = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", "-b", metavar="X1,Y1,X2,Y2", help="A box around an object; several: several objects."),
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option("--mask", metavar="FILE", help="A rough mask: an image that is bright on the object."),
    ] = None,
    point_per_object: Annotated[
        bool, typer.Option("--point-per-object", help="Every point is an object by itself.")
    ] = False,
    multimask: Annotated[bool, typer.Option("--multimask", help="Three candidates per object, best first.")] = False,
    fill_hole_area: Annotated[
        int | None,
        typer.Option(
            "--fill-hole-area",
            metavar="N",
            min=0,
            help="Clear holes and specks of at most N pixels; 0: none; default: relative to the object.",
        ),
    ] = None,
    model: Model = None,
    out: Out = Path("masklet-out"),
    format: Formats = None,
    image_size: ImageSize = None,
    device: Device = None,
    precision: Precision = "auto",
    threads: Threads = None,
    providers: Providers = None,
    graph_cache: GraphCache = None,
    max_image_pixels: MaxImagePixels = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Segment the objects you point at, in one image or many.

    Coordinates are pixels of the original image, x to the right and y down. All points describe one object,
    unless --point-per-object makes every point an object; every box is an object. One box and points together describe
    one object. --format is repeatable or a comma list.

    \b
    Examples:
      masklet segment dog.jpg --point 150,150
      masklet segment dog.jpg --point 150,150 --negative 300,40
      masklet segment dog.jpg --box 100,100,200,200 --box 300,80,420,200
      masklet segment dog.jpg --box 100,100,200,200 --point 150,150 --model sam2.1_b.pt
      masklet segment dog.jpg --point 150,150 --point 310,90 --point-per-object --format png,coco
      masklet segment photos/ --box 0,0,640,480 --out masks --format cutout
      masklet segment dog.jpg --mask rough.png --multimask
    """
    run_segment(
        SegmentJob(
            sources=tuple(images),
            prompts=parse_segment_prompts(
                point or (), negative or (), box or (), mask or (), point_per_object=point_per_object
            ),
            formats=parse_formats(format, IMAGE_FORMATS),
            out=out,
            model=model,
            device=device,
            precision=precision,
            runtime=parse_runtime(threads, providers, graph_cache),
            image_size=image_size,
            multimask=multimask or None,
            fill_hole_area=fill_hole_area,
            overwrite=overwrite,
            quiet=quiet,
        )
    )
