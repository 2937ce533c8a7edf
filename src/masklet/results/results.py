"""`Results`: the objects of one image, and their exports to images, YOLO text, JSON, COCO and data frames."""

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
from masklet.masks.ops import masks_to_boxes
from masklet.results.boxes_masks import Boxes, IndexLike, Masks, resolve_index
from masklet.written_files import WrittenFiles

if TYPE_CHECKING:
    import pandas
    import supervision

__all__ = ["LOW_CONFIDENCE", "MIN_ROUNDTRIP_IOU", "CocoAnnotation", "ObjectRecord", "Results", "Segments", "image_stem"]


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
        "low_confidence": bool,
        "area": int,
        "box": dict[str, float],
        "segments": Segments,
    },
)
"""One object as plain data: an entry of `to_json` (`prompt` is its id; box x1, y1, x2, y2 in original pixels)."""


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

LOW_CONFIDENCE = 0.5
"""A mask with a lower predicted IoU needs another click or a box (docs/internals/builtin_errors.md)."""
MIN_ROUNDTRIP_IOU = 0.95
"""A YOLO line that keeps less of a mask than this IoU causes a warning."""


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """The objects of one image.

    Example:
        >>> image, masks = np.zeros((4, 6, 3), np.uint8), np.ones((2, 4, 6), bool)
        >>> results = Results(image, "cat.jpg", Masks(masks), np.array([0.9, 0.7]))
        >>> best = results[results.scores > 0.8]
        >>> len(best), best.plot().shape
        (1, (4, 6, 3))
    """

    orig_img: npt.NDArray[np.uint8]
    """The image, (H, W, 3) RGB."""
    path: str
    """Where the image came from."""
    masks: Masks | None
    """(N, H, W) bool, (0, H, W) without objects; None only where a detector found boxes alone."""
    scores: Floats
    """(N,) predicted IoU of each mask, 0..1; of a detector, its confidence."""
    ids: Ints = field(default_factory=lambda: np.zeros(0, np.int32), kw_only=True)
    """(N,) on a frame of a video the object's id; on an image the index of the prompt that the row answers."""
    classes: Ints = field(default_factory=lambda: np.zeros(0, np.int32), kw_only=True)
    """(N,) keys of `names`."""
    names: dict[int, str] = field(default_factory=lambda: {0: "object"}, kw_only=True)
    speed: dict[str, float] = field(default_factory=dict, kw_only=True)
    """Milliseconds by stage."""
    logits: Floats | None = field(default=None, kw_only=True)
    """(N, h, w) low-resolution logits; pass them back with further prompts to refine the masks."""
    frame_idx: int | None = field(default=None, kw_only=True)
    """The frame's number from 0; None for an image, as are the next three."""
    time: float | None = field(default=None, kw_only=True)
    """In seconds; None if the source has no clock."""
    object_scores: Floats | None = field(default=None, kw_only=True)
    """(N,) the logit that the object is in the frame."""
    states: tuple[str, ...] | None = field(default=None, kw_only=True)
    """For each row "visible", "occluded" or "lost"."""
    xyxy: Floats | None = field(default=None, kw_only=True)
    """(N, 4) boxes of a detector; None: `boxes` are the tight ones of the masks."""

    def __post_init__(self) -> None:
        count = len(self.scores)
        assert self.orig_img.ndim == 3, f"orig_img is (H, W, 3), got {self.orig_img.shape}"
        rows = self.masks if self.masks is not None else self.xyxy
        assert count == (len(rows) if rows is not None else 0), "one score for every mask or box"
        assert not count or self.masks is None or self.masks.orig_shape == self.orig_shape, (
            f"masks {self.masks} are not of the image's size {self.orig_shape}"
        )
        columns: dict[str, object] = {
            "scores": np.asarray(self.scores, np.float32).reshape(-1),
            "masks": self.masks if count else Masks(np.zeros((0, *self.orig_shape), bool)),
            "ids": np.asarray(self.ids if len(self.ids) else np.arange(count), np.int32),
            "classes": np.asarray(self.classes if len(self.classes) else np.zeros(count), np.int32),
            "xyxy": None if self.xyxy is None else np.asarray(self.xyxy, np.float32).reshape(-1, 4),
        }
        for name, column in columns.items():
            object.__setattr__(self, name, column)
        assert len(self.ids) == len(self.classes) == count, "one id and class for every mask"
        for name in ("logits", "object_scores", "states", "xyxy"):
            column = getattr(self, name)
            assert column is None or len(column) == count, f"{name} for every mask"

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: IndexLike) -> Results:
        rows = resolve_index(index, len(self))
        return Results(
            self.orig_img,
            self.path,
            None if self.masks is None else self.masks[rows],
            self.scores[rows],
            ids=self.ids[rows],
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
    def low_confidence(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the predicted IoU of a mask is below `LOW_CONFIDENCE`; False for boxes without masks.

        Example:
            >>> masks = Masks(np.ones((2, 4, 6), bool))
            >>> Results(np.zeros((4, 6, 3), np.uint8), "cat.jpg", masks, np.array([0.9, 0.3])).low_confidence
            array([False,  True])
        """
        return (self.scores < LOW_CONFIDENCE) & (self.masks is not None)

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return int(self.orig_img.shape[0]), int(self.orig_img.shape[1])

    @property
    def stem(self) -> str:
        """The name of the image without folder and suffix; `image` if it has none."""
        return image_stem(self.path)

    @cached_property
    def boxes(self) -> Boxes:
        """The detector's boxes, else the tight boxes of the masks, with score and class."""
        xyxy = self.xyxy
        if xyxy is None:
            assert self.masks is not None, "masks or boxes"
            xyxy = masks_to_boxes(self.masks.data)
        return Boxes(xyxy, self.scores, self.classes.astype(np.float32), self.orig_shape)

    def class_name(self, index: int) -> str:
        """Return the class name of object `index`, or its class number if `names` lacks it."""
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
        """Draw masks, boxes and labels on a copy of the image, (H, W, 3) RGB uint8.

        Colors follow `ids` if these differ, so an object keeps its color through a video.
        """
        image = self.orig_img.copy()
        ids = self.ids.tolist()
        colors = [drawing.palette_color(n) for n in (ids if len(set(ids)) == len(ids) else range(len(ids)))]
        if masks and self.masks is not None:
            image = drawing.draw_masks(image, self.masks.data, colors, style)
        if boxes:
            image = drawing.draw_boxes(image, self.boxes.xyxy, colors, style)
        if labels:
            texts = [f"{self.class_name(i)} {score:.2f}" for i, score in enumerate(self.scores)]
            image = drawing.draw_labels(image, texts, self.boxes.xyxy[:, :2], colors, style)
        return image

    def save(self, path: str | os.PathLike[str] | None = None, *, boxes: bool = False, labels: bool = False) -> Path:
        """Write `plot()` to `path`, by default STEM_masks.png in the current folder, and return the path.

        Example:
            >>> results.save("out/cat.jpg", labels=True)  # doctest: +SKIP
            PosixPath('out/cat.jpg')

        Raises:
            OutputError: if the suffix names no image format or the folder cannot be written.
        """
        return write_image(path or f"{self.stem}_masks.png", self.plot(boxes=boxes, labels=labels))

    def show(self) -> None:
        """Open `plot()` in this computer's image viewer (Pillow chooses it)."""
        from PIL import Image

        Image.fromarray(self.plot(boxes=True, labels=True)).show(title=self.path)

    def cutout(self, index: int) -> npt.NDArray[np.uint8]:
        """Cut out object `index` as (h, w, 4) RGBA uint8, cropped to its box, transparent outside the mask.

        Example:
            >>> write_image("cat.png", results.cutout(0))  # doctest: +SKIP

        Raises:
            InputError: if the results are boxes without masks.
        """
        one = self[index]
        if one.masks is None:
            raise InputError(f"object {index} has a box and no mask; save_crop writes the boxes of a detector")
        return drawing.cutout(self.orig_img, one.masks.data[0])

    def save_crop(self, save_dir: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
        """Write the box of each object, cropped from the image, to save_dir/NAME/STEM_NUMBER.png.

        An object with an empty mask is skipped. A file that masklet did not write is kept, unless `overwrite`.

        Example:
            >>> results.save_crop("crops")  # doctest: +SKIP
            [PosixPath('crops/object/cat_0.png')]

        Raises:
            OutputError: if a file cannot be written, or is somebody else's.
        """
        written, files = [], WrittenFiles(save_dir, overwrite=overwrite)
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.xyxy.astype(int).tolist()):
            if x2 > x1:
                folder = re.sub(r"[^\w -]", "_", self.class_name(i))  # a class name is no path
                target = Path(save_dir) / folder / f"{self.stem}_{i}.png"
                with files.protect():
                    written.append(write_image(target, self.orig_img[y1:y2, x1:x2]))
        files.close()
        return written

    def save_txt(self, path: str | os.PathLike[str], *, save_conf: bool = False) -> Path:
        """Write YOLO segmentation text: one line per object, `class x1 y1 x2 y2 ...` as fractions 0..1.

        The format has one ring per object, so holes and further parts are joined by bridges one pixel wide. What a
        reader gets back is compared with the mask: a `MaskletWarning` names each object that keeps an IoU under 0.95.
        `to_coco` is lossless. An empty mask has no line. Boxes without masks give lines of `class x y width height`,
        as YOLO's detectors are trained on.

        Example:
            >>> results.save_txt("labels/cat.txt")  # doctest: +SKIP
            PosixPath('labels/cat.txt')
        """
        return write_text(path, "".join(line + "\n" for line in self.yolo_lines(save_conf=save_conf)))

    def yolo_lines(self, *, save_conf: bool = False) -> list[str]:
        """Return the lines of `save_txt`, with the same warnings."""
        rows: list[tuple[int, npt.NDArray[np.floating[Any]]]] = []
        if self.masks is None:
            rows += enumerate(self.boxes.xywhn)
        for i, mask in enumerate(self.masks.data if self.masks is not None else ()):
            ring = polygons.contour_ring(mask)
            if not len(ring):
                continue
            iou = polygons.contour_roundtrip_iou(mask, ring)
            if iou < MIN_ROUNDTRIP_IOU:
                warnings.warn(
                    f"object {i}: as one ring, YOLO text keeps IoU {iou:.2f} of its mask (under {MIN_ROUNDTRIP_IOU}), "
                    "because of separate parts or holes; to_coco() or the png format keep all of it",
                    MaskletWarning,
                    stacklevel=3,
                )
            rows.append((i, ring / self.orig_shape[::-1]))
        lines = []
        for i, fractions in rows:
            numbers = " ".join(f"{n:.6f}" for n in fractions.ravel().tolist())
            lines.append(f"{self.classes[i]} {numbers}" + (f" {self.scores[i]:.6f}" if save_conf else ""))
        return lines

    def summary(self) -> list[ObjectRecord]:
        """Convert every object to plain numbers and text, ready for JSON.

        Example:
            >>> masks = Masks(np.eye(4, 6, dtype=bool)[None])
            >>> Results(np.zeros((4, 6, 3), np.uint8), "cat.jpg", masks, np.ones(1)).summary()[0]["box"]
            {'x1': 0.0, 'y1': 0.0, 'x2': 4.0, 'y2': 4.0}
        """
        rings = [np.zeros((0, 2), np.float32)] * len(self) if self.masks is None else self.masks.xy
        records: list[ObjectRecord] = []
        for i, ring in enumerate(rings):
            x, y = ring.T.tolist()
            records.append(
                {
                    "prompt": int(self.ids[i]),
                    "name": self.class_name(i),
                    "class": int(self.classes[i]),
                    "confidence": round(float(self.scores[i]), 6),
                    "low_confidence": bool(self.low_confidence[i]),
                    "area": self._area(i),
                    "box": dict(zip(("x1", "y1", "x2", "y2"), self.boxes.xyxy[i].tolist(), strict=True)),
                    "segments": {"x": x, "y": y},
                }
            )
        return records

    def to_json(self, *, indent: int | None = 2) -> str:
        """Convert `summary()` to JSON text."""
        return json.dumps(self.summary(), indent=indent)

    def to_df(self) -> pandas.DataFrame:
        """Convert to one row per object: prompt, name, class, confidence, area, x1, y1, x2, y2 (original pixels).

        Raises:
            MissingExtraError: if pandas is not installed (extra `table`).
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError.for_package("pandas", "table") from error
        columns = ["prompt", "name", "class", "confidence", "area", "x1", "y1", "x2", "y2"]
        return pandas.DataFrame([{**record, **record["box"]} for record in self.summary()], columns=columns)

    def to_coco(self, *, image_id: int = 1, first_id: int = 1) -> list[CocoAnnotation]:
        """Convert to COCO annotations with run-length masks: lossless, holes and parts included.

        `category_id` is the class plus one, because COCO tools reserve 0 for the background. Boxes without masks have
        an empty segmentation.

        Example:
            >>> masks = Masks(np.eye(4, 6, dtype=bool)[None])
            >>> Results(np.zeros((4, 6, 3), np.uint8), "cat.jpg", masks, np.ones(1)).to_coco()[0]["segmentation"]
            {'size': [4, 6], 'counts': '014000004'}
        """
        annotations: list[CocoAnnotation] = []
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.xyxy.tolist()):
            annotations.append(
                {
                    "id": first_id + i,
                    "image_id": image_id,
                    "category_id": int(self.classes[i]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": self._area(i),
                    "segmentation": [] if self.masks is None else rle.encode(self.masks.data[i]),
                    "iscrowd": 0,
                    "score": float(self.scores[i]),
                }
            )
        return annotations

    def _area(self, i: int) -> int:
        """Return the pixels of the mask, or of the box if there is no mask."""
        if self.masks is not None:
            return int(np.count_nonzero(self.masks.data[i]))
        x1, y1, x2, y2 = self.boxes.xyxy[i].tolist()
        area: int = round((x2 - x1) * (y2 - y1))
        return area

    def to_supervision(self) -> supervision.Detections:
        """Convert to `supervision.Detections`; `prompt_id` and `class_name` are in its `data`.

        On a frame of a video `tracker_id` is the object's id, which annotators color by and zones count.

        Raises:
            MissingExtraError: if supervision is not installed (extra `supervision`).
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
            tracker_id=None if self.frame_idx is None else self.ids.astype(int),
            data={"class_name": names, "prompt_id": self.ids},
        )

    @classmethod
    def from_supervision(
        cls,
        detections: supervision.Detections,
        image: npt.NDArray[np.uint8],
        *,
        path: str = "image",
        frame_idx: int | None = None,
    ) -> Results:
        """Convert `supervision.Detections` of an image (H, W, 3) RGB, row by row in their order.

        `ids` are those of its tracker, else `prompt_id` in its `data`, else 0, 1, ...; `frame_idx` makes it a frame of
        a video, whose ids go back to supervision as `tracker_id`.

        Example:
            >>> results = Results.from_supervision(tracker.update(detections), rgb, frame_idx=7)  # doctest: +SKIP

        Raises:
            InputError: if the masks are not of the image's size.
        """
        count, data = len(detections), detections.data
        masks = None if detections.mask is None else np.asarray(detections.mask, bool)  # they may be compressed
        if masks is not None and count and masks.shape[1:] != image.shape[:2]:
            raise InputError(
                f"masks of {masks.shape[1:]} are not of the image, which is {image.shape[:2]}: resize them"
            )
        classes = np.zeros(count, np.int32) if detections.class_id is None else detections.class_id.astype(np.int32)
        names = [str(name) for name in data.get("class_name", [])] or [str(number) for number in classes]
        scores = np.ones(count, np.float32) if detections.confidence is None else detections.confidence
        ids = detections.tracker_id if detections.tracker_id is not None else data.get("prompt_id", np.arange(count))
        return cls(
            image,
            path,
            None if masks is None else Masks(masks),
            scores,
            ids=np.asarray(ids, np.int32),
            classes=classes,
            names=dict(zip(classes.tolist(), names, strict=True)) or {0: "object"},
            frame_idx=frame_idx,
            xyxy=detections.xyxy,
        )


def image_stem(path: str) -> str:
    """Return the name of an image without folder and suffix, of an address without its query; `image` if it has none.

    Example:
        >>> image_stem("photos/what?.png"), image_stem("https://example.org/cat.jpg?size=2")
        ('what?', 'cat')
    """
    return Path(path.split("?")[0] if "://" in path else path).stem or "image"
