"""Options and arguments that several commands have, each spelled and explained in one place, and how they are read."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from masklet.cli.console import loading_progress
from masklet.errors import InputError, OutputError

if TYPE_CHECKING:
    from masklet.exported import RuntimeOptions
    from masklet.sam import SAM
    from masklet.video import MemoryName, RecentFrames, TrackOptions

__all__ = [
    "IMAGE_FORMATS",
    "PRESETS",
    "VIDEO_FORMATS",
    "AllowedHosts",
    "DataFormat",
    "Device",
    "EvalModel",
    "Formats",
    "GraphCache",
    "Host",
    "ImageSize",
    "ImageSources",
    "IncludeCrowds",
    "MaxImagePixels",
    "Memories",
    "Memory",
    "MemoryPooling",
    "Model",
    "NegativePoints",
    "ObjectReportFile",
    "Out",
    "Overwrite",
    "Pointers",
    "Points",
    "Precision",
    "Providers",
    "Quiet",
    "ReportFile",
    "Resume",
    "Scenarios",
    "Split",
    "Threads",
    "Token",
    "VideoPrompt",
    "Workers",
    "check_report_file",
    "open_model",
    "parse_formats",
    "parse_runtime",
    "split_commas",
    "track_options",
]

REPORT_KEYS = (
    {"data_format", "findings"},  # convert, data check
    {"protocol", "model", "options"},  # eval, bench
    {"benchmark", "metrics", "objects"},  # eval score, eval of a benchmark
    {"model", "data", "counts"},  # val
)
"""What the JSON of a report has at its top, by command."""
IMAGE_FORMATS = ("overlay", "png", "coco", "yolo", "json", "cutout")
"""As `masklet.writers.WRITERS`, which takes a second to import; the first is the default."""
VIDEO_FORMATS = ("video", "masks", "png", "coco", "mots", "numpy")
"""As `masklet.writers.SINKS`; the first is the default."""
PRESETS = ("fast", "default", "fine")
"""As `masklet.image.automatic_mask_generator.PRESETS`."""


def _set_max_image_pixels(value: int | None) -> int | None:
    """Set the environment variable of `--max-image-pixels`, which other processes of the run inherit."""
    if value is not None:
        os.environ["MASKLET_MAX_IMAGE_PIXELS"] = str(value)
    return value


def check_report_file(path: Path | None) -> Path | None:
    """Check that a report may be written to `path`: nothing is there, an empty file, or a report of masklet.

    Raises:
        OutputError: if another file is there, or a folder.
    """
    if path is None or not path.exists():
        return path
    try:
        content = path.read_text(encoding="utf-8") if path.is_file() else "a folder"
        document = json.loads(content or "[]")
    except (OSError, ValueError, RecursionError):
        document = None
    reports = document if isinstance(document, list) else [document]
    if not all(isinstance(one, dict) and any(keys <= one.keys() for keys in REPORT_KEYS) for one in reports):
        raise OutputError(f"{path} is there and is no report of masklet, and is kept: give --report another name")
    return path


def _check_new_report(context: typer.Context, path: Path | None) -> Path | None:
    """Check the file of `--report` before the work, except where the command has a way to replace it."""
    has_way = any(one.name in ("resume", "overwrite") for one in context.command.params)
    return path if has_way else check_report_file(path)


ImageSources = Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, globs or URLs.")]
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
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files too that masklet did not write, or that were changed since.")
]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", "-f", metavar="NAME", help="overlay (default), png, coco, yolo, json, cutout."),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or 1, mps; default: the best.")]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", help="fp32, bf16, fp16, or auto: bf16 where this machine is faster with it at the same masks."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Threads of the processor; default: chosen by quota and load.", min=1),
]
Providers = Annotated[
    str | None,
    typer.Option(
        "--providers",
        metavar="A,B",
        help="Where an exported folder runs: providers of ONNX Runtime, best first, or a device of OpenVINO; "
        "default: the CPU.",
    ),
]
GraphCache = Annotated[
    Path | None,
    typer.Option(
        "--graph-cache", metavar="DIR", help="Keep an exported folder's graphs there as prepared, for the next start."
    ),
]
MemoryPooling = Annotated[
    int,
    typer.Option(
        "--memory-pooling", metavar="1|2", help="2: average memories 2 x 2: faster, with other masks.", min=1, max=2
    ),
]
Memories = Annotated[
    int,
    typer.Option("--memories", metavar="N", help="Attend to N frames before, besides prompted ones.", min=1, max=6),
]
Pointers = Annotated[
    int, typer.Option("--pointers", metavar="N", help="Attend to so many object pointers.", min=1, max=16)
]
MaxImagePixels = Annotated[
    int | None,
    typer.Option(
        "--max-image-pixels",
        metavar="N",
        min=1,
        help="Width times height of the largest image that is read; default: 500000000.",
        callback=_set_max_image_pixels,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size", "--imgsz", metavar="N", help="Side that images are scaled to; default: that of the model."
    ),
]

EvalModel = Annotated[str | None, typer.Option("--model", help="A name or a file; default: the built-in model.")]
VideoPrompt = Annotated[
    str, typer.Option("--prompt", help="Prompt of each object on the first frame: mask, box or click.")
]
DataFormat = Annotated[
    str | None, typer.Option("--data-format", help="Format of the data set; default: recognized (see docs/data.md).")
]
Split = Annotated[str | None, typer.Option("--split", help="One split, such as val or 2017/val; default: all.")]
IncludeCrowds = Annotated[
    bool, typer.Option("--include-crowds", help="Read the regions marked iscrowd in COCO files too.")
]
Memory = Annotated[
    str,
    typer.Option(
        "--memory",
        metavar="NAME",
        help="Which memories are kept and attended to: sam2, sam2long, samurai or dam4sam.",
    ),
]
Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario",
        metavar="NAME",
        help="occlusion, twins, reentry, fast, small, long, thin or transparency; repeatable; default: all of them.",
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write the results there too.", callback=_check_new_report),
]
ObjectReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Write the results of every object there too.", callback=_check_new_report
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume/--overwrite", help="Resume the --report file of an earlier run, or measure again."),
]
Workers = Annotated[
    int, typer.Option("--workers", help="Parallel processes, each with its own model; the same results.", min=1)
]

Host = Annotated[str, typer.Option(help="Address to listen on; other machines need a token.")]
Token = Annotated[
    str | None, typer.Option(envvar="MASKLET_TOKEN", help="What clients send to be let in; at least 16 characters.")
]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", help="A name by which browsers call the server; repeatable."),
]


def split_commas(values: Iterable[str] | None) -> list[str]:
    """Split repeated options and comma lists into words.

    Example:
        >>> split_commas(["png, coco", "json"])
        ['png', 'coco', 'json']
    """
    return [word.strip() for value in values or () for word in value.split(",") if word.strip()]


def parse_formats(values: Iterable[str] | None, formats: Sequence[str]) -> tuple[str, ...]:
    """Read format names, each once; without any, the first of `formats`.

    Example:
        >>> parse_formats(["png,COCO", "png"], IMAGE_FORMATS)
        ('png', 'coco')

    Raises:
        InputError: if a name is not one of `formats`.
    """
    names = [name.lower() for word in split_commas(values) for name in word.split()]
    for name in names:
        if name not in formats:
            near = difflib.get_close_matches(name, formats, n=1)
            hint = f"did you mean {near[0]}?" if near else "choose one of them"
            raise InputError(f"no format {name!r}; formats are {', '.join(formats)}: {hint}")
    return tuple(dict.fromkeys(names)) or (formats[0],)


def parse_runtime(threads: int | None, providers: str | None, graph_cache: Path | None) -> RuntimeOptions:
    """Read the options of `--threads`, `--providers` and `--graph-cache`."""
    from masklet.exported import RuntimeOptions

    return RuntimeOptions(threads, tuple(split_commas([providers or ""])), graph_cache)


def track_options(
    memory: str = "sam2", memories: int = 6, pointers: int = 16, non_overlapping: bool | None = None
) -> TrackOptions:
    """Read the options of `--memory`, `--memories` and `--pointers`, and of overlapping objects.

    Raises:
        InputError: if there is no such memory policy, or it decides itself how many memories there are.
    """
    from masklet.video import RecentFrames, TrackOptions

    selector: RecentFrames | None = RecentFrames(memories, pointers)
    if selector == RecentFrames():
        selector = None  # the rule of the policy
    elif memory != "sam2":
        raise InputError(f"--memory {memory} has its own rule of memories: remove --memories and --pointers")
    return TrackOptions(memory=cast("MemoryName", memory), memory_selector=selector, non_overlapping=non_overlapping)


def open_model(
    model: str | None,
    device: str | None = None,
    precision: str = "fp32",
    image_size: int | None = None,
    runtime: RuntimeOptions | None = None,
    memory_pooling: int = 1,
) -> SAM:
    """Open the model, with progress on a terminal while it is downloaded and read.

    Raises:
        InputError: if providers or a cache folder are given for a model that is no exported folder.
    """
    with loading_progress(model or "the built-in model") as progress:
        from masklet.sam import SAM

        return SAM(
            model,
            device=device,
            precision=precision,
            image_size=image_size,
            memory_pooling=memory_pooling,
            progress=progress,
            threads=None if runtime is None else runtime.threads,
            providers=None if runtime is None else runtime.providers,
            cache_dir=None if runtime is None else runtime.cache_dir,
        )
