"""What all sinks share: a folder checked before any work, one stem, frames that come one by one.

What was written stays: a file that cannot be written is named in an OutputError, and closing the sink, which
leaving its `with` block does also after an error or Ctrl-C, finishes the files with the frames that came before.

What a format that gives each pixel one object loses where masks overlap, said once.

Sinks: a video's results on disk while it is tracked, one frame at a time, in memory that does not grow.

base      what all sinks share, and their options
video      video: H.264 in MP4 with the masks painted on it and the sound of the source
audio     the sound of a video, cut to a span and copied
images  png, masks: a PNG a frame, or one an object and frame
journal   coco: JSON lines that survive a crash and can be read back
mots      mots: MOTS text
arrays    numpy: one npz
lines     a text file that keeps every whole line
overlap   what is lost where masks overlap, said once
"""

from __future__ import annotations

import math
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, MaskletWarning, OutputError, StateError
from masklet.masks.drawing import Style
from masklet.results import MIN_ROUNDTRIP_IOU, Results
from masklet.writers.image_base import ensure_writable_folder

__all__ = ["OverlapWarner", "Sink", "SinkOptions", "format_frame_idx", "min_retained_iou", "safe_stem"]

LabelMap = npt.NDArray[np.uint16]


class OverlapWarner:
    """Warns at the first frame in which a label map keeps less than IoU 0.95 of a mask, and never again.

    Example:
        >>> notice = OverlapNotice("the label map")
        >>> notice.look(results, label_map(results), frame=12)
    """

    def __init__(self, format_name: str) -> None:
        self._format_name = format_name
        self._warned = False

    def check(self, results: Results, labels: LabelMap, frame_idx: int) -> None:
        """Compare the masks with `labels` (H, W), where n + 1 is row n of the results."""
        if self._warned or results.masks is None:
            return
        if np.count_nonzero(results.masks.data) == np.count_nonzero(labels):  # masks apart: nothing is lost
            return
        row, kept = min_retained_iou(results.masks.data, labels)
        if kept < MIN_ROUNDTRIP_IOU:
            self._warned = True
            warnings.warn(
                f"object {results.ids[row]} of frame {frame_idx}: {self._format_name} keeps IoU {kept:.2f} of its mask (under "  # noqa: E501
                f"{MIN_ROUNDTRIP_IOU}), because masks overlap and the smaller one is kept; masks or coco keep all of it "  # noqa: E501
                "(said once a run)",
                MaskletWarning,
                stacklevel=5,
            )


def min_retained_iou(masks: npt.NDArray[np.bool_], labels: LabelMap) -> tuple[int, float]:
    """The row of `masks` (N, H, W), N > 0, of which `labels` keep the smallest share, and that share as IoU.

    Example:
        >>> least_kept(masks, label_map(results))
        (0, 1.0)
    """
    left = np.bincount(labels.ravel(), minlength=len(masks) + 1)[1:]
    whole = masks.sum(axis=(1, 2))
    kept = np.where(whole > 0, left / np.maximum(whole, 1), 1.0)  # a part of a mask: its IoU is its share
    row = int(kept.argmin())
    return row, float(kept[row])


SinkT = TypeVar("SinkT", bound="Sink")

MAX_STEM_BYTES = 120
"""Bytes of a stem that are kept: with tag and suffix it stays under the 255 that file systems allow."""


@dataclass(frozen=True)
class SinkOptions:
    """How sinks write; each reads what concerns it.

    `fps` paces frames that have no `time`; `source` is the video the frames come from, whose audio the video sink
    keeps and whose images no sink replaces; `append` goes on where an earlier run of the same stem stopped.
    For video: `audio` keeps the sound, `boxes` and `labels` are drawn when asked for, `style` as in
    `Results.plot`, `crf` is the quality (0 best, 51 worst). `first_frame` is what MOTS text calls frame 0: 0 as
    in KITTI MOTS, 1 as in MOTSChallenge.

    Example:
        >>> SinkOptions(fps=25.0, source="clip.mp4", labels=True)

    Raises:
        InputError: frames a second that are not a positive number, or a quality out of range.
    """

    fps: float = 30.0
    source: str | os.PathLike[str] | None = None
    append: bool = False
    audio: bool = True
    boxes: bool = False
    labels: bool = False
    style: Style = field(default_factory=Style)
    crf: int = 20
    mots_first_frame: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise InputError(f"fps {self.fps!r} of a video must be over 0 and at most 1000: 30.0 is usual")
        if not 0 <= self.crf <= 51:
            raise InputError(f"crf {self.crf!r} must be 0 (best) to 51 (worst): 20 is usual")


class Sink(ABC):
    """Writes the frames of one video while it is tracked; a context manager.

    Making one makes the folder and tries it, so that an unusable folder is known before a model runs. Files of
    an earlier run with the same stem are replaced when the first frame is written, not before. Memory does not
    grow with the number of frames but for a few numbers each. `paths` has the files, or the folder that holds
    numbered files.

    Example:
        >>> with open_sink("coco", "out", stem="clip") as sink:
        ...     for frame in model.track("clip.mp4", points=[210, 350], labels=[1]):
        ...         sink.write(frame)
        >>> sink.paths
        [PosixPath('out/clip_masks.jsonl')]

    Raises:
        OutputError: the folder cannot be made or written.
        InputError: `append` for a format that cannot go on.
    """

    supports_append = False
    """Whether an earlier run can be gone on with; the others are written anew from the coco lines."""

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        self.folder = Path(folder)
        self.stem = safe_stem(stem)
        self.options = options or SinkOptions()
        self.paths: list[Path] = []
        self._num_written = 0
        self._is_open = True
        if self.options.append and not self.supports_append:
            raise InputError(
                f"{type(self).__name__} cannot go on with a file of an earlier run: read the coco lines with "
                "read_tracks and write them again, or leave append out"
            )
        ensure_writable_folder(self.folder)

    def __enter__(self: SinkT) -> SinkT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OutputError as second:
            if error is None:
                raise
            warnings.warn(f"while another error was on its way: {second}", MaskletWarning, stacklevel=2)

    def check_ids(self, object_ids: Iterable[int]) -> None:
        """Whether this format can hold these object ids; better asked before tracking than after an hour.

        Example:
            >>> sink.check([1, 2, 300])

        Raises:
            OutputError: an id that the format has no room for; the message says which ids it has.
        """
        for number in object_ids:
            self._check_id(int(number))

    def write(self, results: Results) -> None:
        """Write one frame; it is on its way to disk when this returns.

        Raises:
            OutputError: a file cannot be written, or an id that the format cannot hold; what was written
                before stays.
            StateError: the sink is closed, or it is a video and the frame is not after the one before.
        """
        if not self._is_open:
            raise StateError(
                f"{type(self).__name__} for {str(self.folder)!r} is closed; frames are written inside its with "
                "block: open a new sink, or move the write into the block"
            )
        self.check_ids(results.ids.tolist())
        frame = self._num_written if results.frame_idx is None else results.frame_idx
        self._write(results, frame)
        self._num_written += 1

    def close(self) -> None:
        """Finish the files; leaving the `with` block does it, also after an error."""
        if self._is_open:
            self._is_open = False
            self._finalize()

    @abstractmethod
    def _write(self, results: Results, frame_idx: int) -> None:
        """Write one frame; the first call replaces what an earlier run left."""

    def _check_id(self, object_id: int) -> None:
        """Raise OutputError for an object id that this format cannot hold; most hold all."""
        return

    def _finalize(self) -> None:
        """Close and name what is still open; most formats have nothing of the kind."""
        return

    def _path(self, suffix: str) -> Path:
        """Folder, stem and tail put together."""
        return self.folder / f"{self.stem}{suffix}"

    def _add_path(self, path: Path) -> None:
        if path not in self.paths:
            self.paths.append(path)


def safe_stem(stem: str) -> str:
    """`stem` as a file name can hold it on any system: no separators, no control characters, not too long.

    Example:
        >>> safe_stem("rtsp://camera:554/street")
        'rtsp___camera_554_street'
    """
    name = re.sub(r"[^\w ()+,.=@-]", "_", stem).encode()[:MAX_STEM_BYTES].decode(errors="ignore").strip(". ")
    return name or "video"


def format_frame_idx(frame_idx: int) -> str:
    """Five digits, more where they are needed: the number of a frame in file names.

    Example:
        >>> frame_number(12)
        '00012'
    """
    return f"{frame_idx:05d}"
