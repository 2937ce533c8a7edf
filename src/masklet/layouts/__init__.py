"""Writing labelled data sets, in the layouts people have: YOLO, COCO, LabelMe, DAVIS, Pascal VOC, CVAT.

records    what is written, how, and what was lost
base       what all writers have in common
journal    what was done, so that a run that broke off is gone on with
pictures   pictures copied, linked or written
tracing    outlines that keep a promised IoU
maps       label maps, where one object hides another
naming     names of classes as a format can hold them
yolo, coco, labelme, davis, voc, cvat   the layouts, a file each
converting from any layout that is read into any that is written
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from types import MappingProxyType

from masklet.errors import InputError
from masklet.layouts.base import LayoutWriter
from masklet.layouts.coco import CocoLayout
from masklet.layouts.converting import Item, Step, class_names, convert, items_of
from masklet.layouts.cvat import CvatLayout
from masklet.layouts.davis import DavisLayout
from masklet.layouts.labelme import LabelmeLayout
from masklet.layouts.records import LabelledObject, LabelledPicture, LayoutOptions, Loss
from masklet.layouts.voc import VocLayout
from masklet.layouts.yolo import YoloLayout

__all__ = [
    "LAYOUTS",
    "Item",
    "LabelledObject",
    "LabelledPicture",
    "LayoutOptions",
    "LayoutWriter",
    "Loss",
    "Step",
    "class_names",
    "convert",
    "items_of",
    "open_layout",
]

LAYOUTS = MappingProxyType[str, type[LayoutWriter]](
    {writer.layout: writer for writer in (YoloLayout, CocoLayout, LabelmeLayout, DavisLayout, VocLayout, CvatLayout)}
)
"""Every layout that is written, by name."""


def open_layout(
    name: str,
    out_dir: str | os.PathLike[str],
    *,
    names: Mapping[int, str] | None = None,
    options: LayoutOptions | None = None,
) -> LayoutWriter:
    """A writer of layout `name` into `out_dir`, which is made and tried at once, and gone on with if it was begun.

    `names` are the classes by number, from 0 without gaps.

    Example:
        >>> with open_layout("yolo", "out", names={0: "dog"}) as writer:
        ...     writer.write(LabelledPicture(Path("photos/rex.jpg"), "rex", (480, 640), (dog,)))
        >>> writer.paths
        [PosixPath('out/labels/rex.txt'), PosixPath('out/classes.txt'), PosixPath('out/data.yaml')]

    Raises:
        InputError: no such layout, or the folder was begun with other options or class names.
        OutputError: the folder cannot be made or written, or another process writes it.
    """
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, LAYOUTS, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose one of them"
        raise InputError(f"no layout {name!r} to write; layouts are {', '.join(LAYOUTS)}: {hint}")
    return LAYOUTS[name](out_dir, names or {}, options or LayoutOptions())
