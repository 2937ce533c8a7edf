"""`open_dataset`: a path becomes a data set, of whatever kind it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets.dataset import Choice, Dataset
from masklet.datasets.formats.coco import is_coco, open_coco
from masklet.datasets.formats.cvat import is_cvat, open_cvat
from masklet.datasets.formats.davis import is_davis, open_davis
from masklet.datasets.formats.labelme import is_labelme, open_labelme
from masklet.datasets.formats.native import is_stills, open_stills
from masklet.datasets.formats.png_masks import is_png, open_png
from masklet.datasets.formats.sa1b import is_sa1b, open_sa1b
from masklet.datasets.formats.sav import is_sav, open_sav
from masklet.datasets.formats.voc import is_voc, open_voc
from masklet.datasets.formats.yolo import is_yolo, open_yolo
from masklet.errors import SourceError
from masklet.media.image_source import missing

__all__ = ["KINDS", "Kind", "open_dataset"]


@dataclass(frozen=True)
class Kind:
    """A layout: what it looks like in one line, how it is recognised, and how it is opened."""

    about: str
    recognise: Callable[[Path], bool]
    open: Callable[[Path, Choice], Dataset]


KINDS: dict[str, Kind] = {
    "stills": Kind(
        "[SOURCE/]images/ID.jpg with masks/ID.json, a list of COCO run-length codes", is_stills, open_stills
    ),
    "davis": Kind(
        "DAVIS, YouTube-VOS, MOSE, LVOS: JPEGImages/[480p/]SEQ/*.jpg with Annotations/[480p/]SEQ/*.png",
        is_davis,
        open_davis,
    ),
    "sav": Kind(
        "SA-V: ID.mp4 with ID_manual.json or ID_auto.json; JPEGImages_24fps with Annotations_6fps", is_sav, open_sav
    ),
    "sa1b": Kind("SA-1B: sa_ID.jpg with sa_ID.json", is_sa1b, open_sa1b),
    "coco": Kind("a COCO instance JSON with its pictures, or a folder with annotations/*.json", is_coco, open_coco),
    "yolo": Kind("YOLO-seg: a data.yaml, or images/ID.jpg with labels/ID.txt (outlines)", is_yolo, open_yolo),
    "png": Kind("images/ID.jpg with masks/ID.png or masks/ID/*.png, or ID.jpg beside ID_mask.png", is_png, open_png),
    "voc": Kind(
        "Pascal VOC: JPEGImages/ID.jpg with SegmentationObject/ID.png and SegmentationClass/ID.png", is_voc, open_voc
    ),
    "labelme": Kind("LabelMe: ID.jpg with ID.json beside it, folders of any depth", is_labelme, open_labelme),
    "cvat": Kind("CVAT for images 1.1: annotations.xml with images/", is_cvat, open_cvat),
}
"""Every layout that is read, by name; where several fit, the first of the table is meant."""


def open_dataset(
    path: str | os.PathLike[str], *, kind: str | None = None, split: str | None = None, crowds: bool = False
) -> Dataset:
    """Stills or films with masks, in any of the layouts of `KINDS`.

    Nothing is decoded: an entry is read when it is asked for. `kind` is a key of `KINDS`; None: recognised by what is
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
    if kind is not None and kind not in KINDS:
        raise SourceError(
            f"kind={kind!r} is unknown; choose {', '.join(map(repr, KINDS))}, or None to have it recognised"
        )
    root = Path(path).expanduser()
    if not root.exists():
        raise SourceError(missing(str(path), "data set"))
    known = KINDS[kind or _recognised(root)]
    return known.open(root, Choice(split, crowds))


def _recognised(root: Path) -> str:
    for name, kind in KINDS.items():
        if kind.recognise(root):
            return name
    layouts = "".join(f"\n  {name:<7} {kind.about}" for name, kind in KINDS.items())
    raise SourceError(
        f"{root} is no data set that is known; check the path, or say which of these it should be (kind):{layouts}"
    )
