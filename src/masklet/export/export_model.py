"""Export a loaded model: trace its parts, write their graphs, compare each with the model, and describe them."""

from __future__ import annotations

import copy
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, ModelError, OutputError
from masklet.export.export_manifest import (
    CONSTANTS_FILE,
    FORMAT_VERSION,
    MANIFEST_FILE,
    describe_file,
    describe_model,
    network_arrays,
)
from masklet.export.export_parity import BOUNDS, ParityBounds, ParityMeter, compare_images, compare_video
from masklet.export.graph_files import GraphFiles
from masklet.export.graph_parts import MEMORY_SLOTS, GraphPart, image_parts, pointer_slots, video_parts
from masklet.export.onnx_graphs import OPSET
from masklet.export.onnx_layouts import write_layout
from masklet.export.reduced_precision import check_precision, part_precision
from masklet.load_model import LoadedModel
from masklet.models.sam2 import SAM2
from masklet.runtime import standard_torch
from masklet.transforms import ImageTransform

__all__ = ["FORMATS", "LAYOUTS", "PARTS", "PRECISIONS", "ModelExportOptions", "export_model"]

FORMATS = ("onnx", "openvino", "torch")
PARTS = ("image", "video", "all")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
LAYOUTS = ("masklet", "anylabeling", "transformers", "onnxruntime")
"""The first of each is the default."""
NUM_SAMPLE_IMAGES, NUM_SAMPLE_FRAMES = 2, 20
SAMPLE_FRAME_SIZE = (288, 480)

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ModelExportOptions:
    """What to export, and how.

    Raises:
        InputError: if a value is unknown, or two do not go together.
    """

    format: str = "onnx"
    parts: str = "image"
    precision: str = "fp32"
    layout: str = "masklet"
    min_iou: float | None = None
    """Least mean IoU of the masks of every part with those of the model; None: by precision (`BOUNDS`)."""

    def __post_init__(self) -> None:
        for name, allowed in (("format", FORMATS), ("parts", PARTS), ("precision", PRECISIONS), ("layout", LAYOUTS)):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} {value!r:.40} is unknown; choose one of {', '.join(allowed)}")
        if self.layout != LAYOUTS[0] and (self.format, self.parts) != ("onnx", "image"):
            raise InputError(
                f"layout {self.layout} has the image parts as ONNX only, not format {self.format} with parts "
                f"{self.parts}: leave both out, or choose the layout masklet"
            )
        if self.min_iou is not None and not 0 <= self.min_iou <= 1:
            raise InputError(
                f"min_iou {self.min_iou!r} must be from 0 to 1, such as 0.98; leave it out for the default"
            )
        check_precision(self.format, self.precision, self.parts)

    def bounds(self, part: str) -> ParityBounds:
        """Return what a part must hold."""
        bounds = BOUNDS[part_precision(part, self.precision)]
        return bounds if self.min_iou is None else replace(bounds, mask_iou=self.min_iou)


@contextmanager
def complete_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder beside `out` that becomes `out` when the block ends well, and is removed otherwise.

    Raises:
        OutputError: if `out` is there and not empty, unless it is an earlier export and `overwrite` is set; or if the
            folder cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not (out.is_dir() and (out / MANIFEST_FILE).is_file()):
            raise OutputError(f"{out} is there and is no export of masklet, and is kept: choose another folder")
        if not overwrite:
            raise OutputError(f"{out} has an export already: choose another folder, or replace it (--overwrite)")
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    retired = temporary.with_suffix(".old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rename(retired)
        temporary.rename(out)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        if retired.exists() and not out.exists():
            retired.rename(out)
        raise OutputError(
            f"{out} could not be written ({error.strerror or error}); choose a folder that is writable and has room"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def sample_images(count: int = NUM_SAMPLE_IMAGES) -> list[Rgb]:
    """Draw procedural photographs, the same in every run."""
    from masklet.synthetic import ProceduralSource

    return [ProceduralSource().sample_image(np.random.default_rng(seed)).rgb for seed in range(count)]


def sample_video() -> tuple[Rgb, npt.NDArray[np.bool_]]:
    """Draw frames (T, H, W, 3) in which objects cover each other, and the masks (N, H, W) of the first."""
    from masklet.synthetic import SCENARIOS, ProceduralSource

    clip = SCENARIOS["occlusion"](0, 0, SAMPLE_FRAME_SIZE, NUM_SAMPLE_FRAMES, ProceduralSource())
    return clip.frames_THW3, clip.masks_TNHW[0]


def selected_parts(loaded: LoadedModel, options: ModelExportOptions) -> Iterator[GraphPart]:
    """Yield the parts to export.

    Raises:
        ModelError: if parts for video are selected, and the model has no memory.
    """
    parts = options.parts
    if parts != "image":
        network = loaded.require_sam2("be exported for videos")
        if not network.supports_video:
            raise ModelError(
                f"{loaded.name} ({loaded.path}) has no memory in its file: export its image parts (--parts image)"
            )
    if parts != "video":
        is_own, expands = options.layout == LAYOUTS[0], options.format == "torch"
        yield from image_parts(loaded.network, expands=expands, fixed_size=not is_own)
    if parts != "image":
        yield from video_parts(network)


@standard_torch()
def export_model(
    loaded: LoadedModel,
    out: str | PathLike[str],
    options: ModelExportOptions | None = None,
    *,
    images: Sequence[Rgb] | None = None,
    overwrite: bool = False,
    on_step: Callable[[str], None] | None = None,
) -> Path:
    """Export a loaded model to the folder `out`, and return it.

    The folder is written completely or not at all. Every graph is compared with the model; if one deviates more than
    its precision allows, nothing is written.

    Args:
        images: RGB (H, W, 3) for comparison and calibration; None: procedural ones.
        overwrite: whether to replace an earlier export.
        on_step: called with the name of each step before it.

    Raises:
        InputError: if the model has no such part, or the options do not go together.
        MissingExtraError: if a package for the format is not installed.
        OutputError: if a graph deviates too much, or the folder cannot be written.
    """
    options = options or ModelExportOptions()
    images = sample_images() if images is None else list(images)
    if next(loaded.network.parameters()).device.type != "cpu":  # graphs are traced and compared there
        loaded = replace(loaded, network=copy.deepcopy(loaded.network).cpu())
    network, report = loaded.network.eval(), on_step or (lambda step: None)
    if options.layout == "transformers" and not isinstance(network, SAM2):
        raise InputError(
            f"{loaded.name} is a SAM 1, of which the layout transformers is not written: choose the layout masklet, "
            "anylabeling or onnxruntime"
        )
    is_own, has_video = options.layout == LAYOUTS[0], options.parts != "image"
    pixels = (
        ImageTransform((rgb.shape[0], rgb.shape[1]), network.still_image_size, network.keeps_aspect_ratio)
        .preprocess(rgb)
        .numpy()
        for rgb in images
    )
    with complete_folder(Path(out), overwrite=overwrite) as folder:
        files = GraphFiles(folder, options.format, options.precision, pixels)
        for part in selected_parts(loaded, options):
            report(f"writing {part.name}")
            files.write(part)
        meter = ParityMeter(files.graphs, with_keys=is_own)
        report("comparing with the model")
        compare_images(meter, network, images)
        if has_video and isinstance(network, SAM2):
            compare_video(meter, network, *sample_video())
        bounds = {name: options.bounds(name) for name in files.graphs}
        meter.check(bounds)
        if is_own:
            np.savez(folder / CONSTANTS_FILE, **network_arrays(network))
            entries = [*files.entries, describe_file(folder / CONSTANTS_FILE, "constants", folder)]
        else:
            report(f"writing the layout {options.layout}")
            written = write_layout(options.layout, folder, files.paths, loaded)
            entries = [describe_file(path, role, folder) for path, role in written]
        slots = {slots: pointer_slots(slots) for slots in MEMORY_SLOTS} if has_video else {}
        manifest = {
            "format_version": FORMAT_VERSION,
            "masklet_version": import_module("masklet").__version__,
            "layout": options.layout,
            "format": options.format,
            "precision": options.precision,
            "opset": OPSET if options.format == "onnx" else None,
            "parts": list(files.graphs),
            "files": entries,
            **describe_model(loaded, slots),
            "parity": {
                "images": len(images),
                "frames": NUM_SAMPLE_FRAMES if has_video else 0,
                "bounds": {name: asdict(bound) for name, bound in bounds.items()},
                "measured": meter.report(),
            },
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        (folder / MANIFEST_FILE).write_text(text, encoding="utf-8", newline="\n")
    return Path(out)
