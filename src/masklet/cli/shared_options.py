"""Options and arguments that several commands have, each spelt and explained in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Device",
    "EvalModel",
    "Formats",
    "ImageSize",
    "ImageSources",
    "Model",
    "NegativePoints",
    "ObjectReportFile",
    "Out",
    "Points",
    "Precision",
    "Quiet",
    "ReportFile",
    "Resume",
    "VideoPrompt",
    "Workers",
]

ImageSources = Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Files, folders, globs or URLs.")]
Points = Annotated[
    list[str] | None, typer.Option("--point", "-p", metavar="X,Y", help="A point on the object (X,Y,0: off it).")
]
NegativePoints = Annotated[
    list[str] | None, typer.Option("--negative", "-n", metavar="X,Y", help="A point that is not on the object.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME|FILE", help="See `masklet models`; default: the built-in one."),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for what is written.")]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", "-f", metavar="NAME", help="overlay (default), png, coco, yolo, json, cutout."),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps; default: the best.")]
Precision = Annotated[str, typer.Option("--precision", help="fp32, bf16 or fp16.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

EvalModel = Annotated[str | None, typer.Option("--model", help="A name or a file; default: the built-in model.")]
ImageSize = Annotated[
    int | None,
    typer.Option("--image-size", help="Side that images and frames are brought to; default: the model's own."),
]
VideoPrompt = Annotated[
    str, typer.Option("--prompt", help="Said of each object on the first frame: mask, box or click.")
]
ReportFile = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write the results there too.")]
ObjectReportFile = Annotated[Path | None, typer.Option("--json", help="Write the figures of every object.")]
Resume = Annotated[
    bool,
    typer.Option("--resume/--anew", help="Go on with the file of --json that an earlier run left, or measure anew."),
]
Workers = Annotated[
    int, typer.Option("--workers", help="At once, each in a process with a model of its own; the same figures.", min=1)
]
