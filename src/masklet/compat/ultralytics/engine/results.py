"""`Results`, `Boxes` and `Masks` of ultralytics over a `masklet.Results`: torch tensors, and images in BGR.

Coordinates are original pixels unless a name ends in `n` (then fractions of width and height, 0..1).
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from masklet.atomic_files import write_image
from masklet.errors import InputError, MissingExtraError
from masklet.masks import drawing
from masklet.results import Boxes as NativeBoxes
from masklet.results import Masks as NativeMasks
from masklet.results import Results as NativeResults
from masklet.results.boxes_masks import resolve_index

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Self

__all__ = ["Boxes", "Masks", "Results", "RowsOfImage"]

Rows = Any
"""A tensor, or after `numpy()` an array."""
Pixels = npt.NDArray[np.uint8]
WITHOUT_EFFECT = ("font", "im_gpu", "kpt_line", "kpt_radius", "probs")
"""Keywords of `plot` that change nothing: there are no keypoints and no probabilities, and Pillow's font is used."""


@dataclass(frozen=True, eq=False, repr=False)
class RowsOfImage:
    """One row of `data` per object of an image of `orig_shape` (height, width); a tensor or an array."""

    data: Rows
    orig_shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Self:
        return replace(self, data=self.data[_row_numbers(index, len(self))])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, orig_shape={self.orig_shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return tuple(self.data.shape)

    def numpy(self) -> Self:
        """Return the same with an array as data."""
        return replace(self, data=_as_array(self.data))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return the same with a tensor as data, converted as `Tensor.to` does."""
        return replace(self, data=torch.as_tensor(self.data).to(*args, **kwargs))

    def cpu(self) -> Self:
        """Return the same in main memory; an array stays one."""
        return self.to("cpu") if isinstance(self.data, Tensor) else self

    def cuda(self) -> Self:
        """Return the same on the GPU."""
        return self.to("cuda")

    def _like_data(self, array: npt.NDArray[np.float32]) -> Rows:
        """Return an array as what `data` is: an array, or a tensor on the same device."""
        return torch.as_tensor(array, device=self.data.device) if isinstance(self.data, Tensor) else array


@dataclass(frozen=True, eq=False, repr=False)
class Boxes(RowsOfImage):
    """N boxes: `data` (N, 6) is x1, y1, x2, y2, confidence, class; (N, 7) has the id of a track before the confidence.

    Example:
        >>> boxes = Boxes(torch.tensor([[10.0, 20, 30, 60, 0.5, 2]]), (80, 100))
        >>> boxes.xywh.tolist(), boxes.cls.tolist(), boxes.is_track
        ([[20.0, 40.0, 20.0, 40.0]], [2.0], False)

    Raises:
        InputError: if data has another shape.
    """

    def __post_init__(self) -> None:
        data = self.data[None] if self.data.ndim == 1 else self.data
        if data.ndim != 2 or data.shape[1] not in (6, 7):
            raise InputError(
                f"boxes of shape {tuple(self.data.shape)} must be (N, 6), x1 y1 x2 y2 confidence class, or (N, 7) with "
                "an id before the confidence; masklet.results.Boxes takes each by its name"
            )
        object.__setattr__(self, "data", data)

    @property
    def is_track(self) -> bool:
        """Whether boxes have ids."""
        return bool(self.data.shape[1] == 7)

    @property
    def xyxy(self) -> Rows:
        """Left, top, right, bottom, (N, 4)."""
        return self.data[:, :4]

    @property
    def conf(self) -> Rows:
        """(N,) scores, 0..1."""
        return self.data[:, -2]

    @property
    def cls(self) -> Rows:
        """(N,) classes, as floats."""
        return self.data[:, -1]

    @property
    def id(self) -> Rows | None:
        """(N,) ids of tracks, as floats; None without."""
        return self.data[:, 4] if self.is_track else None

    @property
    def xywh(self) -> Rows:
        """Center x, center y, width, height, (N, 4)."""
        return self._like_data(self._native.xywh)

    @property
    def xyxyn(self) -> Rows:
        """`xyxy` as fractions."""
        return self._like_data(self._native.xyxyn)

    @property
    def xywhn(self) -> Rows:
        """`xywh` as fractions."""
        return self._like_data(self._native.xywhn)

    @property
    def _native(self) -> NativeBoxes:
        rows = _as_array(self.data).astype(np.float32)
        return NativeBoxes(rows[:, :4], rows[:, -2], rows[:, -1], self.orig_shape)


@dataclass(frozen=True, eq=False, repr=False)
class Masks(RowsOfImage):
    """N masks: `data` (N, H, W) at the size of the image.

    Example:
        >>> Masks(torch.ones(4, 6, dtype=torch.bool), (4, 6)).xyn[0].shape
        (4, 2)

    Raises:
        InputError: if data has another shape.
    """

    def __post_init__(self) -> None:
        data = self.data[None] if self.data.ndim == 2 else self.data
        if data.ndim != 3 or tuple(data.shape[1:]) != tuple(self.orig_shape):
            raise InputError(
                f"masks of shape {tuple(self.data.shape)} must be (N, H, W) at the size of the image, "
                f"{self.orig_shape}: enlarge them first, or take those of masklet.SAM, which have it"
            )
        object.__setattr__(self, "data", data)

    @cached_property
    def xy(self) -> list[npt.NDArray[np.float32]]:
        """One ring (K, 2) per mask."""
        return self._native.xy

    @property
    def xyn(self) -> list[npt.NDArray[np.float32]]:
        """`xy` as fractions."""
        return [np.divide(ring, self.orig_shape[::-1], dtype=np.float32) for ring in self.xy]

    @property
    def _native(self) -> NativeMasks:
        return NativeMasks(_as_array(self.data) > 0)


class Results:
    """The objects of one image; `native` is the `masklet.Results` behind them.

    `boxes` are `Boxes`. `masks` are `Masks`, and None without objects or with a detector of boxes.

    Example:
        >>> image = np.zeros((80, 100, 3), np.uint8)
        >>> results = Results(image, "dog.jpg", {2: "dog"}, boxes=torch.tensor([[10.0, 20, 30, 60, 0.5, 2]]))
        >>> results.verbose(), results.summary()[0]["box"]
        ('1 dog, ', {'x1': 10.0, 'y1': 20.0, 'x2': 30.0, 'y2': 60.0})

    Raises:
        InputError: if boxes or masks have another shape, or there are masks without boxes, probabilities, keypoints or
            rotated boxes.
    """

    native: NativeResults
    boxes: Boxes
    masks: Masks | None
    save_dir: str | None = None
    """Where files of the prediction are; None if none were written."""
    probs = keypoints = obb = None

    def __init__(
        self,
        orig_img: Pixels,
        path: str,
        names: Mapping[int, str],
        boxes: Rows | None = None,
        masks: Rows | None = None,
        probs: None = None,
        keypoints: None = None,
        obb: None = None,
        speed: Mapping[str, float | None] | None = None,
    ) -> None:
        for name, value in (("probs", probs), ("keypoints", keypoints), ("obb", obb)):
            if value is not None:
                raise InputError(f"{name} of an image are not in masklet: leave them out; there are boxes and masks")
        if masks is not None and (boxes is None or len(boxes) != len(masks)):
            raise InputError(
                f"{len(masks)} masks need as many boxes, with their scores; masklet.Results takes masks and scores"
            )
        size = (int(orig_img.shape[0]), int(orig_img.shape[1]))
        self.boxes = Boxes(torch.zeros(0, 6) if boxes is None else boxes, size)
        self.masks = Masks(masks, size) if masks is not None and len(masks) else None
        rows = _as_array(self.boxes.data)
        self.native = NativeResults(
            np.ascontiguousarray(orig_img[..., ::-1]),
            path,
            None if self.masks is None else self.masks._native,
            rows[:, -2],
            ids=rows[:, 4].astype(np.int32) if self.boxes.is_track else np.zeros(0, np.int32),
            classes=rows[:, -1].astype(np.int32),
            names=dict(names),
            speed={stage: took for stage, took in (speed or {}).items() if took is not None},
            xyxy=rows[:, :4],
        )

    @classmethod
    def from_native(
        cls, native: NativeResults, classes: npt.NDArray[np.integer[Any]] | None = None, *, tracked: bool = False
    ) -> Results:
        """Make results of those of masklet; `classes` (N,) replace theirs, each named by its number.

        If they are `tracked`, boxes have their ids.

        Example:
            >>> masks = NativeMasks(np.ones((1, 4, 6), bool))
            >>> native = NativeResults(np.zeros((4, 6, 3), np.uint8), "dog.jpg", masks, np.ones(1))
            >>> Results.from_native(native, np.array([1])).names
            {0: '0', 1: '1'}
        """
        if classes is not None:
            names = {number: str(number) for number in range(int(classes.max(initial=0)) + 1)}
            native = replace(native, classes=np.asarray(classes, np.int32), names=names)
        made = cls.__new__(cls)
        made.native = native
        rows = native.boxes.data
        if tracked and len(native):
            rows = np.insert(rows, 4, native.ids, axis=1)
        made.boxes = Boxes(torch.from_numpy(rows), native.orig_shape)
        made.masks = None
        if native.masks is not None and len(native):
            made.masks = Masks(torch.from_numpy(np.require(native.masks.data, requirements="W")), native.orig_shape)
        return made

    def __len__(self) -> int:
        return len(self.native)

    def __getitem__(self, index: Any) -> Results:
        rows = _row_numbers(index, len(self))
        chosen = self._with_rows(lambda all_rows: all_rows[rows])
        chosen.native = self.native[rows]
        if not len(chosen):
            chosen.masks = None
        return chosen

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Results({self.path!r}, {width}x{height} pixels, {self.verbose().rstrip(', ')})"

    @property
    def path(self) -> str:
        """Where the image came from."""
        return self.native.path

    @path.setter
    def path(self, path: str) -> None:
        self.native = replace(self.native, path=path)

    @cached_property
    def orig_img(self) -> Pixels:
        """The image, (H, W, 3) BGR."""
        return np.ascontiguousarray(self.native.orig_img[..., ::-1])

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.native.orig_shape

    @property
    def names(self) -> dict[int, str]:
        """Class number to name."""
        return self.native.names

    @property
    def speed(self) -> dict[str, float | None]:
        """Milliseconds of preprocess, inference and postprocess; None if not measured."""
        given = dict(self.native.speed)
        first, last = given.pop("preprocess", None), given.pop("postprocess", None)
        return {"preprocess": first, "inference": sum(given.values()) if given else None, "postprocess": last}

    def cpu(self) -> Results:
        """Return the same with tensors in main memory."""
        return self._with_rows(lambda rows: rows.cpu())

    def numpy(self) -> Results:
        """Return the same with arrays."""
        return self._with_rows(lambda rows: rows.numpy())

    def cuda(self) -> Results:
        """Return the same with tensors on the GPU."""
        return self._with_rows(lambda rows: rows.cuda())

    def to(self, *args: Any, **kwargs: Any) -> Results:
        """Return the same with tensors converted as `Tensor.to` does."""
        return self._with_rows(lambda rows: rows.to(*args, **kwargs))

    def _with_rows(self, change: Callable[[Any], Any]) -> Results:
        changed = copy.copy(self)
        changed.boxes, changed.masks = change(self.boxes), None if self.masks is None else change(self.masks)
        return changed

    def plot(
        self,
        conf: bool = True,
        line_width: float | None = None,
        font_size: float | None = None,
        *,
        pil: bool = False,
        img: Pixels | None = None,
        labels: bool = True,
        boxes: bool = True,
        masks: bool = True,
        show: bool = False,
        save: bool = False,
        filename: str | os.PathLike[str] | None = None,
        color_mode: str = "class",
        **others: Any,
    ) -> Pixels | Image.Image:
        """Draw masks, boxes and labels on a copy of the image, or of `img`, (H, W, 3) BGR uint8.

        With `pil` it is a PIL image. Labels belong to boxes. Colors follow the class, with "instance" the row.

        Raises:
            InputError: if a keyword or the color mode is unknown.
            OutputError: if the file to save cannot be written.
        """
        for name, value in others.items():
            if name not in WITHOUT_EFFECT:
                raise InputError(f"{name}={value!r:.40} is no keyword of plot here; masklet.masks.drawing draws freely")
        if color_mode not in ("class", "instance"):
            raise InputError(f"color_mode={color_mode!r:.40} must be 'class' or 'instance'")
        native, style = self.native, drawing.Style(line_width=round(line_width or 0), font_size=round(font_size or 0))
        numbers = native.classes.tolist() if color_mode == "class" else range(len(self))
        colors = [drawing.palette_color(number) for number in numbers]
        rgb = native.orig_img.copy() if img is None else np.ascontiguousarray(img[..., ::-1])
        if masks and native.masks is not None:
            rgb = drawing.draw_masks(rgb, native.masks.data, colors, style)
        if boxes:
            rgb = drawing.draw_boxes(rgb, native.boxes.xyxy, colors, style)
        if boxes and labels:
            texts = [native.class_name(i) + (f" {native.scores[i]:.2f}" if conf else "") for i in range(len(self))]
            rgb = drawing.draw_labels(rgb, texts, native.boxes.xyxy[:, :2], colors, style)
        if show:
            Image.fromarray(rgb).show(title=self.path)
        if save:
            write_image(filename or f"results_{native.stem}.jpg", rgb)
        return Image.fromarray(rgb) if pil else np.ascontiguousarray(rgb[..., ::-1])

    def show(self, *args: Any, **kwargs: Any) -> None:
        """Open `plot()` in this computer's image viewer; the arguments are those of `plot`."""
        self.plot(*args, **{**kwargs, "show": True})

    def save(self, filename: str | os.PathLike[str] | None = None, *args: Any, **kwargs: Any) -> str:
        """Write `plot()` to `filename`, by default results_STEM.jpg, and return the path; others as for `plot`.

        Raises:
            OutputError: if the suffix names no image format or the folder cannot be written.
        """
        target = os.fspath(filename or f"results_{self.native.stem}.jpg")
        self.plot(*args, **{**kwargs, "save": True, "filename": target})
        return target

    def verbose(self) -> str:
        """Return how many objects of each class there are, as "2 dogs, 1 cat, ".

        Example:
            >>> Results(np.zeros((4, 6, 3), np.uint8), "empty.jpg", {}).verbose()
            '(no detections), '
        """
        counts = Counter(sorted(self.native.classes.tolist()))
        texts = [f"{count} {self.names.get(number, number)}{'s' * (count > 1)}, " for number, count in counts.items()]
        return "".join(texts) or "(no detections), "

    def save_txt(self, txt_file: str | os.PathLike[str], save_conf: bool = False) -> str:
        """Write YOLO text, one line per object, and return the path; see `masklet.Results.save_txt`.

        Raises:
            OutputError: if the file cannot be written.
        """
        return str(self.native.save_txt(txt_file, save_conf=save_conf))

    def save_crop(self, save_dir: str | os.PathLike[str], file_name: str | os.PathLike[str] = "im.jpg") -> None:
        """Write the box of each object, cropped from the image, to save_dir/CLASS/file_name.

        Further objects of a class are numbered from 2, as im2.jpg. Empty boxes are skipped.

        Raises:
            OutputError: if a file cannot be written.
        """
        name, written = Path(file_name), Counter[str]()
        for i, (x1, y1, x2, y2) in enumerate(self.native.boxes.xyxy.astype(int).clip(0).tolist()):
            crop = self.native.orig_img[y1:y2, x1:x2]
            if crop.size:
                folder = re.sub(r"[^\w -]", "_", self.native.class_name(i))  # a class name is no path
                written[folder] += 1
                number = "" if written[folder] == 1 else str(written[folder])
                write_image(Path(save_dir, folder, f"{name.stem}{number}{name.suffix or '.jpg'}"), crop)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Convert every object to name, class, confidence, box, and track_id and segments if it has them.

        With `normalize`, coordinates are fractions of width and height.
        """
        height, width = self.orig_shape if normalize else (1, 1)
        records = []
        for i, found in enumerate(self.native.summary()):
            sides = {"x1": width, "y1": height, "x2": width, "y2": height}
            record: dict[str, Any] = {
                "name": found["name"],
                "class": found["class"],
                "confidence": round(found["confidence"], decimals),
                "box": {key: round(found["box"][key] / side, decimals) for key, side in sides.items()},
            }
            if self.boxes.is_track:
                record["track_id"] = int(self.native.ids[i])
            if self.masks is not None:
                x, y = found["segments"]["x"], found["segments"]["y"]
                record["segments"] = {
                    "x": [round(value / width, decimals) for value in x],
                    "y": [round(value / height, decimals) for value in y],
                }
            records.append(record)
        return records

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Convert `summary()` to JSON text."""
        return json.dumps(self.summary(normalize, decimals), indent=2)

    tojson = to_json

    def to_df(self, normalize: bool = False, decimals: int = 5) -> pandas.DataFrame:
        """Convert `summary()` to a data frame, one row per object.

        Raises:
            MissingExtraError: if pandas is not installed (extra `table`).
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError.for_package("pandas", "table") from error
        return pandas.DataFrame(self.summary(normalize, decimals))

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Convert `to_df()` to CSV text.

        Raises:
            MissingExtraError: if pandas is not installed (extra `table`).
        """
        return str(self.to_df(normalize, decimals).to_csv())


def _as_array(rows: Rows) -> npt.NDArray[Any]:
    return rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)


def _row_numbers(index: Any, count: int) -> npt.NDArray[np.intp]:
    """Convert an index, which may be a tensor, to row numbers."""
    return resolve_index(_as_array(index) if isinstance(index, Tensor) else index, count)
