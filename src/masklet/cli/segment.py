"""`masklet segment`: pictures and prompts in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.grammar import Words, parse
from masklet.cli.job import Job, formats_of, work

__all__ = ["segment"]


def segment(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Files, folders, globs or URLs.")],
    point: Annotated[
        list[str] | None, typer.Option("--point", "-p", metavar="X,Y", help="A point on the object (X,Y,0: off it).")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option("--negative", "-n", metavar="X,Y", help="A point that is not on the object.")
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", "-b", metavar="X1,Y1,X2,Y2", help="A box around an object; several: several objects."),
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option("--mask", metavar="FILE", help="A rough mask: a picture that is bright on the object."),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Every point is an object of its own.")] = False,
    multimask: Annotated[bool, typer.Option("--multimask", help="Three candidates an object, best first.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME|FILE", help="See `masklet models`; default: the built-in one."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for what is written.")] = Path(
        "masklet-out"
    ),
    format: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", metavar="NAME", help="overlay (default), png, coco, yolo, json, cutout."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps; default: the best.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="fp32, bf16 or fp16.")] = "fp32",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Segment what you point at, in one picture or many.

    Coordinates are pixels of the original picture, x to the right and y down. All points describe one object,
    unless --each makes every point an object; every box is an object. One box and points together describe one
    object. --format is repeatable or a comma list.

    \b
    Examples:
      masklet segment dog.jpg --point 150,150
      masklet segment dog.jpg --point 150,150 --negative 300,40
      masklet segment dog.jpg --box 100,100,200,200 --box 300,80,420,200
      masklet segment dog.jpg --box 100,100,200,200 --point 150,150 --model sam2.1_b.pt
      masklet segment dog.jpg --point 150,150 --point 310,90 --each --format png,coco
      masklet segment photos/ --box 0,0,640,480 --out masks --format cutout
      masklet segment dog.jpg --mask rough.png --multimask
    """
    words = Words(point or (), negative or (), box or (), mask or (), each)
    work(
        Job(
            sources=tuple(pictures),
            prompts=parse(words),
            formats=formats_of(format),
            out=out,
            model=model,
            device=device,
            precision=precision,
            multimask=multimask or None,
            quiet=quiet,
        )
    )
