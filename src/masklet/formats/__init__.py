"""Results on disk: one table of writers, each a context manager over a folder.

overlay   STEM_overlay.png          the picture with its masks painted on it
png       STEM.png                  label map in the palette of DAVIS; per_object: STEM_mask_0.png ...
coco      annotations.coco.json     one file for the run, lossless run-length masks
yolo      STEM.txt, classes.txt     one line an object, one ring
json      STEM.json                 boxes, scores and outlines as plain data
cutout    STEM_cutout_0.png ...     each object alone on transparency
"""

from __future__ import annotations

import difflib
import os
from types import MappingProxyType

from masklet.errors import InputError
from masklet.formats.base import Writer
from masklet.formats.labels import CocoWriter, JsonWriter, YoloWriter
from masklet.formats.pictures import CutoutWriter, MaskWriter, OverlayWriter, PngWriter

__all__ = ["WRITERS", "Writer", "open_writer"]

WRITERS = MappingProxyType[str, type[Writer]](
    {
        "overlay": OverlayWriter,
        "png": PngWriter,
        "coco": CocoWriter,
        "yolo": YoloWriter,
        "json": JsonWriter,
        "cutout": CutoutWriter,
    }
)
"""Every format by its name."""


def open_writer(name: str, out_dir: str | os.PathLike[str], *, per_object: bool = False) -> Writer:
    """A writer of format `name` into `out_dir`, which is made and tried at once.

    `per_object` is for `png`: one black and white picture an object in place of one label map.

    Example:
        >>> with open_writer("overlay", "out") as writer:
        ...     for results in model("shots/"):
        ...         writer.write(results)
        >>> writer.paths
        [PosixPath('out/cat_overlay.png'), PosixPath('out/dog_overlay.png')]

    Raises:
        InputError: no such format, or an option it does not have.
        OutputError: a folder that cannot be made or written.
    """
    if name not in WRITERS:
        near = difflib.get_close_matches(str(name).lower(), WRITERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose one of them"
        raise InputError(f"no format {name!r}; formats are {', '.join(WRITERS)}: {hint}")
    if per_object and name != "png":
        raise InputError(f"format {name!r} has no option per_object; only 'png' has it: leave it out")
    return MaskWriter(out_dir) if per_object else WRITERS[name](out_dir)
