"""Everything about one image, and every way to take it along.

Objects as plain data, for JSON and for COCO.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import write_image, write_text
from masklet.errors import InputError, MaskletWarning, MissingExtraError
from masklet.masks import drawing, polygons, rle
from masklet.masks import ops as tight
from masklet.results.boxes_masks import Boxes, IndexLike, Masks, resolve_index

if TYPE_CHECKING:
    import pandas
    import supervision

__all__ = ["MIN_ROUNDTRIP_IOU", "CocoAnnotation", "ObjectRecord", "Results", "Segments"]


class Segments(TypedDict):
    """One ring as two lists of original-pixel coordinates."""

    x: list[float]
    y: list[float]


ObjectRecord = TypedDict(
    "ObjectRecord",
    {
        "prompt": int,
        "name": str,
        "class": int,
        "confidence": float,
        "area": int,
        "box": dict[str, float],
        "segments": Segments,
    },
)
"""One object as plain data: an entry of `to_json` (box x1, y1, x2, y2 in original pixels, area in pixels)."""


class CocoAnnotation(TypedDict):
    """One annotation of a COCO file (bbox x, y, width, height in original pixels)."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: int
    segmentation: rle.Rle | list[list[float]]
    iscrowd: int
    score: float


Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

MIN_ROUNDTRIP_IOU = 0.95
"""A text line that keeps less of a mask than this IoU is worth a warning."""


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """What was found in one image.

    `orig_img` (H, W, 3) RGB uint8; `path` where it came from; `masks` (N, H, W) bool, or None when there are
    none; `scores` (N,) predicted IoU, 0..1; `prompt_ids` (N,) which object each mask answers (its number in
    the prompt, in video its id); `classes` (N,) keys of `names`; `speed` milliseconds by stage; `logits`
    (N, h, w) low-resolution logits to feed back for refinement, or None.

    Of a frame of a video there is more: `frame` its number from 0, `time` in seconds (None where the source has
    no clock), `presence` (N,) the logit that the object is in the image, `states` "visible", "occluded" or
    "lost" for each row, and `ids`, the caller's own numbers. They are None for an image.

    A detector has boxes of its own, `xyxy` (N, 4), and may have no masks; else `boxes` are the tight ones of the masks.

    Example:
        >>> r = Results(image, "cat.jpg", Masks(masks), scores)
        >>> best = r[r.scores > 0.8]
        >>> best.plot().shape == image.shape
        True
    """

    orig_img: npt.NDArray[np.uint8]
    path: str
    masks: Masks | None
    scores: Floats
    prompt_ids: Ints = field(default_factory=lambda: np.zeros(0, np.int32), kw_only=True)
    classes: Ints = field(default_factory=lambda: np.zeros(0, np.int32), kw_only=True)
    names: dict[int, str] = field(default_factory=lambda: {0: "object"}, kw_only=True)
    speed: dict[str, float] = field(default_factory=dict, kw_only=True)
    logits: Floats | None = field(default=None, kw_only=True)
    frame_idx: int | None = field(default=None, kw_only=True)
    time: float | None = field(default=None, kw_only=True)
    object_scores: Floats | None = field(default=None, kw_only=True)
    states: tuple[str, ...] | None = field(default=None, kw_only=True)
    xyxy: Floats | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        count = len(self.scores)
        assert self.orig_img.ndim == 3, f"orig_img is (H, W, 3), got {self.orig_img.shape}"
        rows = self.masks if self.masks is not None else self.xyxy
        assert count == (len(rows) if rows is not None else 0), "one score for every mask or box"
        assert not count or self.masks is None or self.masks.orig_shape == self.orig_shape, (
            f"masks {self.masks} are not of the image's size {self.orig_shape}"
        )
        self._set_field("scores", np.asarray(self.scores, np.float32).reshape(-1))
        self._set_field("masks", self.masks if count else None)
        self._set_field("prompt_ids", _column(self.prompt_ids, np.arange(count)))
        self._set_field("classes", _column(self.classes, np.zeros(count)))
        assert len(self.prompt_ids) == len(self.classes) == count, "one prompt id and class for every mask"
        for name in ("logits", "object_scores", "states", "xyxy"):
            column = getattr(self, name)
            assert column is None or len(column) == count, f"{name} for every mask"
        if self.xyxy is not None:
            self._set_field("xyxy", np.asarray(self.xyxy, np.float32).reshape(-1, 4))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: IndexLike) -> Results:
        rows = resolve_index(index, len(self))
        return Results(
            self.orig_img,
            self.path,
            None if self.masks is None else self.masks[rows],
            self.scores[rows],
            prompt_ids=self.prompt_ids[rows],
            classes=self.classes[rows],
            names=self.names,
            speed=self.speed,
            logits=None if self.logits is None else self.logits[rows],
            frame_idx=self.frame_idx,
            time=self.time,
            object_scores=None if self.object_scores is None else self.object_scores[rows],
            states=None if self.states is None else tuple(self.states[i] for i in rows),
            xyxy=None if self.xyxy is None else self.xyxy[rows],
        )

    def __iter__(self) -> Iterator[Results]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.orig_shape
        scores = ", ".join(f"{score:.2f}" for score in self.scores[:5]) + (", ..." if len(self) > 5 else "")
        return f"Results({self.path!r}, {width}x{height} pixels, {len(self)} objects, scores [{scores}])"

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return int(self.orig_img.shape[0]), int(self.orig_img.shape[1])

    @cached_property
    def boxes(self) -> Boxes:
        """The detector's boxes, else the tight boxes of the masks, with score and class."""
        xyxy = self.xyxy
        if xyxy is None:
            xyxy = np.zeros((0, 4), np.float32) if self.masks is None else tight.masks_to_boxes(self.masks.data)
        return Boxes(xyxy, self.scores, self.classes.astype(np.float32), self.orig_shape)

    @property
    def ids(self) -> Ints:
        """(N,) the caller's own id of each object: another name for `prompt_ids`."""
        return self.prompt_ids

    def class_name(self, index: int) -> str:
        """The class name of object `index`; a class that `names` lacks is called by its number."""
        number = int(self.classes[index])
        return self.names.get(number, str(number))

    def plot(
        self,
        *,
        masks: bool = True,
        boxes: bool = False,
        labels: bool = False,
        style: drawing.Style | None = None,
    ) -> npt.NDArray[np.uint8]:
        """A copy of the image, (H, W, 3) RGB uint8, with masks and, if wanted, boxes and labels.

        Colors follow `prompt_ids` where these differ (one object keeps its color through a video).

        Example:
            >>> image = results.plot(boxes=True, labels=True)
        """
        image = self.orig_img.copy()
        colors = self._colors()
        if masks and self.masks is not None:
            image = drawing.draw_masks(image, self.masks.data, colors, style)
        if boxes:
            image = drawing.draw_boxes(image, self.boxes.xyxy, colors, style)
        if labels:
            texts = [f"{self.class_name(i)} {score:.2f}" for i, score in enumerate(self.scores)]
            image = drawing.draw_labels(image, texts, self.boxes.xyxy[:, :2], colors, style)
        return image

    def save(self, path: str | os.PathLike[str] | None = None, *, boxes: bool = False, labels: bool = False) -> Path:
        """Write `plot()` to `path`, by default STEM_masks.png in the current folder; returns where.

        Example:
            >>> results.save("out/cat.jpg", labels=True)
            PosixPath('out/cat.jpg')

        Raises:
            OutputError: a suffix that names no image format, or a folder that cannot be written.
        """
        return write_image(path or f"{self.stem}_masks.png", self.plot(boxes=boxes, labels=labels))

    def show(self) -> None:
        """Open `plot()` in the viewer of this computer (Pillow chooses it)."""
        from PIL import Image

        Image.fromarray(self.plot(boxes=True, labels=True)).show(title=self.path)

    def cutout(self, index: int) -> npt.NDArray[np.uint8]:
        """Object `index` alone on transparency: (h, w, 4) RGBA uint8, cropped to its box.

        Example:
            >>> write_image("cat.png", results.cutout(0))

        Raises:
            InputError: boxes without masks, as a detector finds them.
        """
        one = self[index]
        if one.masks is None:
            raise InputError(f"object {index} has a box and no mask; save_crop writes the boxes of a detector")
        return drawing.cutout(self.orig_img, one.masks.data[0])

    def save_crop(self, save_dir: str | os.PathLike[str]) -> list[Path]:
        """Write the box of each object, cut from the image, to save_dir/NAME/STEM_NUMBER.png.

        An object with an empty mask has nothing to crop and is left out.

        Example:
            >>> results.save_crop("crops")
            [PosixPath('crops/object/cat_0.png')]
        """
        written = []
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.xyxy.astype(int).tolist()):
            if x2 > x1:
                folder = re.sub(r"[^\w -]", "_", self.class_name(i))  # a class name is no path
                target = Path(save_dir) / folder / f"{self.stem}_{i}.png"
                written.append(write_image(target, self.orig_img[y1:y2, x1:x2]))
        return written

    def save_txt(self, path: str | os.PathLike[str], *, save_conf: bool = False) -> Path:
        """Write YOLO segmentation text: a line an object, `class x1 y1 x2 y2 ...` as fractions 0..1.

        The format holds one ring an object, so holes and further parts hang on bridges one pixel wide. What a
        reader gets back is compared with the mask: a `MaskletWarning` names each object that keeps an IoU
        under 0.95. `to_coco` loses nothing. An empty mask has no line. Boxes without masks have lines of
        `class x y width height`, as YOLO's detectors are trained on.

        Example:
            >>> results.save_txt("labels/cat.txt")
            PosixPath('labels/cat.txt')
        """
        return write_text(path, "".join(line + "\n" for line in self.yolo_lines(save_conf=save_conf)))

    def yolo_lines(self, *, save_conf: bool = False) -> list[str]:
        """The lines of `save_txt`, with the same warnings."""
        if self.masks is None:
            return [self._yolo_line(i, box, save_conf) for i, box in enumerate(self.boxes.xywhn)]
        lines = []
        for i, mask in enumerate(self.masks.data):
            ring = polygons.contour_ring(mask)
            if len(ring):
                _warn_of_loss(i, polygons.contour_roundtrip_iou(mask, ring))
                lines.append(self._yolo_line(i, ring / self.orig_shape[::-1], save_conf))
        return lines

    def _yolo_line(self, i: int, fractions: npt.NDArray[np.floating[Any]], save_conf: bool) -> str:
        numbers = " ".join(f"{n:.6f}" for n in fractions.ravel().tolist())
        return f"{self.classes[i]} {numbers}" + (f" {self.scores[i]:.6f}" if save_conf else "")

    def summary(self) -> list[ObjectRecord]:
        """Every object as plain numbers and text, ready for JSON.

        Example:
            >>> results.summary()[0]["box"]
            {'x1': 98.0, 'y1': 101.0, 'x2': 199.0, 'y2': 203.0}
        """
        return [self._record(i) for i in range(len(self))]

    def to_json(self, *, indent: int | None = 2) -> str:
        """`summary()` as JSON text.

        Example:
            >>> json.loads(results.to_json())[0]["name"]
            'object'
        """
        return json.dumps(self.summary(), indent=indent)

    def to_df(self) -> pandas.DataFrame:
        """One row an object: prompt, name, class, confidence, area, x1, y1, x2, y2 (original pixels).

        Raises:
            MissingExtraError: pandas is not installed (extra `table`).
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError.for_package("pandas", "table") from error
        columns = ["prompt", "name", "class", "confidence", "area", "x1", "y1", "x2", "y2"]
        return pandas.DataFrame([{**record, **record["box"]} for record in self.summary()], columns=columns)

    def to_coco(self, *, image_id: int = 1, first_id: int = 1) -> list[CocoAnnotation]:
        """COCO annotations with run-length masks: lossless, holes and parts included.

        `category_id` is the class plus one, because COCO tools keep 0 for the background. Boxes without masks have
        an empty segmentation.

        Example:
            >>> results.to_coco()[0]["segmentation"]["size"]
            [480, 640]
        """
        return [self._annotation(i, image_id, first_id + i) for i in range(len(self))]

    def _annotation(self, i: int, image_id: int, number: int) -> CocoAnnotation:
        x1, y1, x2, y2 = self.boxes.xyxy[i].tolist()
        mask = None if self.masks is None else self.masks.data[i]
        return {
            "id": number,
            "image_id": image_id,
            "category_id": int(self.classes[i]) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": self._area(i),
            "segmentation": [] if mask is None else rle.encode(mask),
            "iscrowd": 0,
            "score": float(self.scores[i]),
        }

    def _area(self, i: int) -> int:
        """Pixels of the mask, or of the box where there is none."""
        if self.masks is not None:
            return int(np.count_nonzero(self.masks.data[i]))
        x1, y1, x2, y2 = self.boxes.xyxy[i].tolist()
        area: int = round((x2 - x1) * (y2 - y1))
        return area

    def to_supervision(self) -> supervision.Detections:
        """The same as `supervision.Detections`; `prompt_id` and `class_name` are in its `data`.

        Raises:
            MissingExtraError: supervision is not installed (extra `supervision`).
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingExtraError.for_package("supervision", "supervision") from error
        if not len(self):
            return supervision.Detections.empty()
        names = np.array([self.class_name(i) for i in range(len(self))])
        return supervision.Detections(
            xyxy=self.boxes.xyxy,
            mask=None if self.masks is None else self.masks.data,
            confidence=self.scores,
            class_id=self.classes.astype(int),
            data={"class_name": names, "prompt_id": self.prompt_ids},
        )

    @property
    def stem(self) -> str:
        """The name of the image without folder and suffix; `image` when it has none."""
        return Path(self.path.split("?")[0]).stem or "image"

    def _record(self, i: int) -> ObjectRecord:
        ring = self.masks.xy[i] if self.masks is not None else np.zeros((0, 2), np.float32)
        x, y = ring.T.tolist()
        return {
            "prompt": int(self.prompt_ids[i]),
            "name": self.class_name(i),
            "class": int(self.classes[i]),
            "confidence": round(float(self.scores[i]), 6),
            "area": self._area(i),
            "box": dict(zip(("x1", "y1", "x2", "y2"), self.boxes.xyxy[i].tolist(), strict=True)),
            "segments": {"x": x, "y": y},
        }

    def _colors(self) -> list[drawing.Color]:
        ids = self.prompt_ids.tolist()
        return [drawing.palette_color(n) for n in (ids if len(set(ids)) == len(ids) else range(len(ids)))]

    def _set_field(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def _column(values: Ints, default: npt.NDArray[Any]) -> Ints:
    """`values` as int32, or `default` when nothing was given."""
    return np.asarray(values if len(values) else default, np.int32)


def _warn_of_loss(index: int, roundtrip_iou: float) -> None:
    if roundtrip_iou < MIN_ROUNDTRIP_IOU:
        warnings.warn(
            f"object {index}: as one ring, YOLO text keeps IoU {roundtrip_iou:.2f} of its mask (under {MIN_ROUNDTRIP_IOU}), "  # noqa: E501
            "because of separate parts or holes; to_coco() or the png format keep all of it",
            MaskletWarning,
            stacklevel=4,
        )
