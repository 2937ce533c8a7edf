"""`masklet export`: a model as graphs for other runtimes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.console import print_notice
from masklet.cli.shared_options import ImageSize, MemoryPooling, Quiet, open_model

__all__ = ["export"]


def export(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A name or a file; default: the built-in model.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write; complete or not at all.")],
    format: Annotated[str, typer.Option("--format", "-f", help="onnx, openvino or torch.")] = "onnx",
    parts: Annotated[str, typer.Option("--parts", help="image, video or all.")] = "image",
    precision: Annotated[str, typer.Option("--precision", help="fp32, fp16, bf16 or int8.")] = "fp32",
    layout: Annotated[
        str, typer.Option("--layout", help="Names of files: masklet, anylabeling, transformers or onnxruntime.")
    ] = "masklet",
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="PATH", help="Images for comparison and calibration; repeatable."),
    ] = None,
    min_iou: Annotated[
        float | None,
        typer.Option(
            "--min-iou", metavar="X", help="Least mean IoU of masks with those of the model; default: by precision."
        ),
    ] = None,
    image_size: ImageSize = None,
    memory_pooling: MemoryPooling = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in the folder.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model as graphs that run without PyTorch, and compare each with the model.

    If a graph deviates more than its precision allows, the command names it and writes nothing.

    \b
    Examples:
      masklet export --out builtin-onnx --parts all
      masklet export sam2.1_t.pt --out tiny-onnx
      masklet export sam2.1_t.pt --out tiny-int8 --precision int8 --image photos
      masklet export mobile_sam.pt --out anylabeling --layout anylabeling
    """
    from masklet.export.export_manifest import MANIFEST_FILE
    from masklet.export.export_model import ModelExportOptions

    options = ModelExportOptions(format=format, parts=parts, precision=precision, layout=layout, min_iou=min_iou)
    sam = open_model(model, "cpu", "fp32", image_size, None, memory_pooling)

    def show_step(step: str) -> None:
        if not quiet:
            print_notice(step)

    folder = sam.export(out, options, images=image, overwrite=overwrite, on_step=show_step)
    manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    if quiet:
        return
    for entry in manifest["files"]:
        typer.echo(f"{entry['name']:<28} {entry['bytes'] / 1e6:8.1f} MB")
    for name, measured in manifest["parity"]["measured"].items():
        error = max(measured["relative_error"].values(), default=0.0)
        typer.echo(
            f"{name:<28} largest error {error:.1e}, mask IoU {measured['mask_iou_mean']:.4f} "
            f"(least {measured['mask_iou_min']:.4f})"
        )
