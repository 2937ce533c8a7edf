"""`masklet generate`: every object of an image, without prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.segment_job import MaskGeneratorArgs, SegmentJob, run_segment
from masklet.cli.shared_options import (
    IMAGE_FORMATS,
    PRESETS,
    Device,
    Formats,
    GraphCache,
    ImageSize,
    ImageSources,
    MaxImagePixels,
    Model,
    Out,
    Overwrite,
    Precision,
    Providers,
    Quiet,
    Threads,
    parse_formats,
    parse_runtime,
)

__all__ = ["generate"]


def generate(
    images: ImageSources,
    preset: Annotated[
        str, typer.Option("--preset", help=f"{', '.join(PRESETS)}: the values that the options below change.")
    ] = "default",
    points_per_side: Annotated[
        int | None, typer.Option("--points-per-side", metavar="N", help="Prompt a grid of N x N points.")
    ] = None,
    pred_iou_thresh: Annotated[
        float | None, typer.Option("--pred-iou-thresh", metavar="0..1", help="Drop masks with a lower predicted IoU.")
    ] = None,
    stability_score_thresh: Annotated[
        float | None, typer.Option("--stability-score-thresh", metavar="0..1", help="Drop masks less stable than this.")
    ] = None,
    box_nms_thresh: Annotated[
        float | None, typer.Option("--box-nms-thresh", metavar="0..1", help="Boxes that overlap by more are the same.")
    ] = None,
    crop_n_layers: Annotated[
        int | None, typer.Option("--crop-n-layers", metavar="N", help="Segment crops too: 2 x 2, then 4 x 4, ...")
    ] = None,
    min_mask_region_area: Annotated[
        int | None, typer.Option("--min-mask-region-area", metavar="PIXELS", help="Clear smaller holes and islands.")
    ] = None,
    use_m2m: Annotated[bool, typer.Option("--use-m2m", help="Refine every mask by a second pass (slow).")] = False,
    adaptive: Annotated[
        bool | None, typer.Option("--adaptive/--no-adaptive", help="Prompt only where no mask is yet.")
    ] = None,
    mask_nms_thresh: Annotated[
        float | None, typer.Option("--mask-nms-thresh", metavar="0..1", help="Masks that overlap by more are the same.")
    ] = None,
    refine: Annotated[
        int | None, typer.Option("--refine", metavar="N", help="Prompt the best N masks by their boxes too; 0: none.")
    ] = None,
    merge_thresh: Annotated[
        float | None,
        typer.Option("--merge-thresh", metavar="0..1", help="Average masks of points that overlap by more; 1: never."),
    ] = None,
    min_points: Annotated[
        int | None, typer.Option("--min-points", metavar="N", help="Drop masks that fewer points of the grid agree on.")
    ] = None,
    max_masks: Annotated[
        int | None, typer.Option("--max-masks", metavar="N", help="Keep only the best N masks.")
    ] = None,
    sort_by: Annotated[
        str | None, typer.Option("--sort-by", metavar="NAME", help="score (default) or area: what comes first.")
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
    """Segment everything in one image or many, and print how much of each is covered.

    Options that are not given are as in the preset, whose thresholds suit the model. --format is repeatable or a comma
    list.

    \b
    Examples:
      masklet generate dog.jpg
      masklet generate dog.jpg --preset fast
      masklet generate photos/ --preset fine --format coco --out masks
      masklet generate dog.jpg --points-per-side 16 --pred-iou-thresh 0.5 --sort-by area
    """
    options = MaskGeneratorArgs(
        preset,
        points_per_side=points_per_side,
        pred_iou_thresh=pred_iou_thresh,
        stability_score_thresh=stability_score_thresh,
        box_nms_thresh=box_nms_thresh,
        crop_n_layers=crop_n_layers,
        min_mask_region_area=min_mask_region_area,
        use_m2m=use_m2m or None,
        adaptive=adaptive,
        mask_nms_thresh=mask_nms_thresh,
        refine=refine,
        merge_thresh=merge_thresh,
        min_points=min_points,
        max_masks=max_masks,
        sort_by=sort_by,
    )
    run_segment(
        SegmentJob(
            sources=tuple(images),
            everything=options,
            formats=parse_formats(format, IMAGE_FORMATS),
            out=out,
            model=model,
            device=device,
            precision=precision,
            runtime=parse_runtime(threads, providers, graph_cache),
            image_size=image_size,
            overwrite=overwrite,
            quiet=quiet,
        )
    )
