"""The base of all sinks: a checked folder, one stem per video, frames that are written one by one.

Closing a sink, which leaving its `with` block does also after an error or Ctrl-C, finishes the files with the frames
written so far. If a file cannot be written, an OutputError names it and what was written before stays.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, MaskletWarning, OutputError, StateError
from masklet.masks.drawing import Style
from masklet.results import MIN_ROUNDTRIP_IOU, Results
from masklet.writers.image_base import ensure_writable_folder
from masklet.writers.mask_images import retained_ious

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OverlapWarner", "Sink", "SinkOptions", "format_frame_idx", "safe_stem"]

MAX_STEM_BYTES = 120
"""Longest stem in bytes: with a suffix it stays under the 255 that file systems allow."""


@dataclass(frozen=True)
class SinkOptions:
    """The options of all sinks; each sink reads what concerns it.

    Args:
        fps: Frame rate for frames that have no `time`; up to any camera's.
        pixel_aspect: Width of a pixel by its height, which the video keeps for players, as `Video.pixel_aspect`.
        source: The video that the frames come from. The video sink keeps its audio, and no sink replaces its images.
        append: Resume the files of an earlier run with the same stem.
        audio: Whether the video keeps the audio of the source.
        boxes: Whether the video shows boxes.
        labels: Whether the video shows labels.
        style: How masks are drawn in the video, as in `Results.plot`.
        crf: Quality of the video, from 0 (best) to 51 (worst).
        mots_first_frame: Number of frame 0 in MOTS text: 0 as in KITTI MOTS, 1 as in MOTSChallenge.

    Example:
        >>> SinkOptions(fps=25.0, source="clip.mp4", labels=True).crf
        20

    Raises:
        InputError: if `fps`, `pixel_aspect` or `crf` is out of range.
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
    pixel_aspect: Fraction | float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise InputError(f"fps {self.fps!r} of a video must be over 0 and finite: 30.0 is usual")
        if not (math.isfinite(self.pixel_aspect) and self.pixel_aspect > 0):
            raise InputError(f"pixel_aspect {self.pixel_aspect!r} must be over 0 and finite: 1.0 is usual")
        if not 0 <= self.crf <= 51:
            raise InputError(f"crf {self.crf!r} must be 0 (best) to 51 (worst): 20 is usual")


class Sink(ABC):
    """Write the frames of one video while it is tracked; a context manager.

    The folder is created and checked when the sink is created, so that an unusable folder fails before a model runs.
    Files of an earlier run with the same stem are replaced when the first frame is written, not before. Memory does not
    grow with the number of frames, except for a few numbers per frame. `paths` has the files, or the folder of the
    numbered files.

    A format implements `_write`, and `_check_id` and `_finalize` if it needs them.

    Raises:
        OutputError: if the folder cannot be created or written.
        InputError: if `append` is set for a format that cannot be resumed.
    """

    supports_append = False
    """Whether the files of an earlier run can be resumed; other formats are rewritten from the coco lines."""

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        self.folder = Path(folder)
        self.stem = safe_stem(stem)
        self.options = options or SinkOptions()
        self.paths: list[Path] = []
        self._num_written = 0
        self._is_open = True
        if self.options.append and not self.supports_append:
            raise InputError(
                f"{type(self).__name__} cannot resume the file of an earlier run: read the coco lines with "
                "read_tracks and write them again, or remove append"
            )
        ensure_writable_folder(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OutputError as second:
            if error is None:
                raise
            warnings.warn(f"while another error was raised: {second}", MaskletWarning, stacklevel=2)

    def check_ids(self, object_ids: Iterable[int]) -> None:
        """Check that this format can represent these object ids, for example before a long video is tracked.

        Raises:
            OutputError: if an id does not fit; the message has the range of valid ids.
        """
        for object_id in object_ids:
            self._check_id(int(object_id))

    def write(self, results: Results) -> None:
        """Write one frame to disk.

        Raises:
            OutputError: if a file cannot be written, or an id does not fit into the format; what was written
                before stays.
            StateError: if the sink is closed, or it is a video and the frame is not after the one before.
        """
        if not self._is_open:
            raise StateError(
                f"{type(self).__name__} for {str(self.folder)!r} is closed; frames are written inside its with "
                "block: open a new sink, or move the write into the block"
            )
        self.check_ids(results.ids.tolist())
        self._write(results, self._num_written if results.frame_idx is None else results.frame_idx)
        self._num_written += 1

    def close(self) -> None:
        """Finish the files; leaving the `with` block does it, also after an error."""
        if self._is_open:
            self._is_open = False
            self._finalize()

    @abstractmethod
    def _write(self, results: Results, frame_idx: int) -> None:
        """Write one frame; the first call replaces the files of an earlier run."""

    def _check_id(self, object_id: int) -> None:  # noqa: B027
        """Raise OutputError for an object id that this format cannot represent; most formats accept all."""

    def _finalize(self) -> None:  # noqa: B027
        """Close the files and add them to `paths`."""

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.stem}{suffix}"


class OverlapWarner:
    """Warn at the first frame in which a label map keeps less than IoU 0.95 of a mask, once per run."""

    def __init__(self, format_name: str) -> None:
        self._format_name = format_name
        self._warned = False

    def check(self, results: Results, labels: npt.NDArray[np.uint16], frame_idx: int) -> None:
        """Compare the masks of a frame with its label map (H, W), where n + 1 is row n of the results."""
        if self._warned or results.masks is None:
            return
        if np.count_nonzero(results.masks.data) == np.count_nonzero(labels):  # no overlap
            return
        ious = retained_ious(results, labels)
        row = int(ious.argmin())
        if ious[row] < MIN_ROUNDTRIP_IOU:
            self._warned = True
            warnings.warn(
                f"object {results.ids[row]} of frame {frame_idx}: {self._format_name} keeps IoU {ious[row]:.2f} of its "
                f"mask (under {MIN_ROUNDTRIP_IOU}), because masks overlap and the smaller one is kept; masks or coco "
                "keep all of it (reported once per run)",
                MaskletWarning,
                stacklevel=4,
            )


def safe_stem(stem: str) -> str:
    """Make `stem` a file name that is valid on any system: no separators or control characters, not too long.

    Example:
        >>> safe_stem("rtsp://camera:554/street")
        'rtsp___camera_554_street'
    """
    name = (
        re.sub(r"[^\w ()+,.=@-]", "_", stem)
        .encode("utf-8", "replace")[:MAX_STEM_BYTES]
        .decode(errors="ignore")
        .strip(". ")
    )
    return name or "video"


def format_frame_idx(frame_idx: int) -> str:
    """Format a frame number for a file name, with five digits or more.

    Example:
        >>> format_frame_idx(12)
        '00012'
    """
    return f"{frame_idx:05d}"
