"""`open_dataset`: a path becomes a data set, of whatever kind it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets.dataset import Dataset, ReadOptions
from masklet.datasets.formats.coco import is_coco, open_coco
from masklet.datasets.formats.cvat import is_cvat, open_cvat
from masklet.datasets.formats.davis import is_davis, open_davis
from masklet.datasets.formats.labelme import is_labelme, open_labelme
from masklet.datasets.formats.native import is_native, open_native
from masklet.datasets.formats.png_masks import is_png, open_png
from masklet.datasets.formats.sa1b import is_sa1b, open_sa1b
from masklet.datasets.formats.sav import is_sav, open_sav
from masklet.datasets.formats.voc import is_voc, open_voc
from masklet.datasets.formats.yolo import is_yolo, open_yolo
from masklet.errors import SourceError
from masklet.media.image_source import missing_path_message

__all__ = ["DATA_FORMATS", "DataFormat", "open_dataset"]


@dataclass(frozen=True)
class DataFormat:
    """A layout: what it looks like in one line, how it is recognized, and how it is opened."""

    description: str
    matches: Callable[[Path], bool]
    open: Callable[[Path, ReadOptions], Dataset]


DATA_FORMATS: dict[str, DataFormat] = {
    "stills": DataFormat(
        "[SOURCE/]images/ID.jpg with masks/ID.json, a list of COCO run-length codes", is_native, open_native
    ),
    "davis": DataFormat(
        "DAVIS, YouTube-VOS, MOSE, LVOS: JPEGImages/[480p/]SEQ/*.jpg with Annotations/[480p/]SEQ/*.png",
        is_davis,
        open_davis,
    ),
    "sav": DataFormat(
        "SA-V: ID.mp4 with ID_manual.json or ID_auto.json; JPEGImages_24fps with Annotations_6fps", is_sav, open_sav
    ),
    "sa1b": DataFormat("SA-1B: sa_ID.jpg with sa_ID.json", is_sa1b, open_sa1b),
    "coco": DataFormat("a COCO instance JSON with its images, or a folder with annotations/*.json", is_coco, open_coco),
    "yolo": DataFormat("YOLO-seg: a data.yaml, or images/ID.jpg with labels/ID.txt (outlines)", is_yolo, open_yolo),
    "png": DataFormat(
        "images/ID.jpg with masks/ID.png or masks/ID/*.png, or ID.jpg beside ID_mask.png", is_png, open_png
    ),
    "voc": DataFormat(
        "Pascal VOC: JPEGImages/ID.jpg with SegmentationObject/ID.png and SegmentationClass/ID.png", is_voc, open_voc
    ),
    "labelme": DataFormat("LabelMe: ID.jpg with ID.json beside it, folders of any depth", is_labelme, open_labelme),
    "cvat": DataFormat("CVAT for images 1.1: annotations.xml with images/", is_cvat, open_cvat),
}
"""Every layout that is read, by name; where several fit, the first of the table is meant."""


def open_dataset(
    path: str | os.PathLike[str],
    *,
    data_format: str | None = None,
    split: str | None = None,
    include_crowds: bool = False,
) -> Dataset:
    """Stills or videos with masks, in any of the layouts of `KINDS`.

    Nothing is decoded: an entry is read when it is asked for. `kind` is a key of `KINDS`; None: recognized by what is
    there. `split` is a part of the data, such as train; None: everything there is. `crowds` takes the regions
    that COCO calls crowds too.

    Example:
        >>> data = open_dataset("coco", split="val2017")
        >>> annotated = data.entries[0].read([0])[0]
        >>> annotated.rgb.shape, list(annotated.masks)
        ((426, 640, 3), [1, 2, 3])

    Raises:
        SourceError: no such path, kind or split, or nothing there that is read. What concerns single entries is
            not raised here but named in `Dataset.problems`, or raised by `Entry.read`.
    """
    if data_format is not None and data_format not in DATA_FORMATS:
        raise SourceError(
            f"kind={data_format!r} is unknown; choose {', '.join(map(repr, DATA_FORMATS))}, or None to have it recognized"  # noqa: E501
        )
    root = Path(path).expanduser()
    if not root.exists():
        raise SourceError(missing_path_message(str(path), "data set"))
    known = DATA_FORMATS[data_format or _detect_format(root)]
    return known.open(root, ReadOptions(split, include_crowds))


def _detect_format(root: Path) -> str:
    for name, kind in DATA_FORMATS.items():
        if kind.matches(root):
            return name
    layouts = "".join(f"\n  {name:<7} {kind.description}" for name, kind in DATA_FORMATS.items())
    raise SourceError(
        f"{root} is no data set that is known; check the path, or say which of these it should be (kind):{layouts}"
    )
