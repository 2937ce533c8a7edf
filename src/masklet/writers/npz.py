"""Masks as NumPy arrays in one file, written frame by frame."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import atomic_path
from masklet.results import Results
from masklet.writers.append_file import write_error
from masklet.writers.video_base import Sink, SinkOptions, format_frame_idx

__all__ = ["NpzSink"]

Array = npt.NDArray[Any]

ZIP_ENTRY_OVERHEAD = 256
"""Bytes that an entry takes beside its data, header and line of the table of contents together, at most."""


class NpzSink(Sink):
    """NumPy arrays, STEM_masks.npz, for `np.load`, which reads one array at a time.

    `frames` (T,) int64 the numbers of the frames, ascending; `times` (T,) float64 seconds, NaN where not known; and
    for frame 12 `ids_00012` (N,) int32, `masks_00012` (N, H, W) bool and `scores_00012` (N,) float32. N may be 0.
    While it is written the file is STEM_masks.part.npz; only closing the sink makes it readable.

    Example:
        >>> with ArraySink("out", "clip") as sink:
        ...     sink.write(frame)
        >>> video = np.load("out/clip_masks.npz")
        >>> video["masks_00012"][video["ids_00012"] == 7]
    """

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._times: dict[int, float] = {}
        self._has_duplicates = False
        self._archive: _Archive | None = None

    def _write(self, results: Results, frame_idx: int) -> None:
        self._archive = self._archive or _Archive(self._path("_masks.part.npz"))
        height, width = results.orig_shape
        masks = np.zeros((0, height, width), bool) if results.masks is None else results.masks.data
        number = format_frame_idx(frame_idx)
        self._archive.add({f"ids_{number}": results.ids, f"masks_{number}": masks, f"scores_{number}": results.scores})
        self._has_duplicates |= frame_idx in self._times
        self._times[frame_idx] = np.nan if results.time is None else results.time

    def _finalize(self) -> None:
        if self._archive is None:
            return
        frames = sorted(self._times)
        times = np.array([self._times[frame] for frame in frames], np.float64)
        self._archive.add({"frames": np.array(frames, np.int64), "times": times}, last=True)
        part, path = self._archive.path, self._path("_masks.npz")
        with atomic_path(path) as temporary:
            if self._has_duplicates:
                _copy_latest(part, temporary)
            else:
                os.replace(part, temporary)
        part.unlink(missing_ok=True)
        self._add_path(path)


class _Archive:
    """A zip that grows by whole frames: room for each, and for the table of contents, is had before it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = 0
        try:
            self._file = open(path, "w+b")  # noqa: SIM115
        except OSError as error:
            raise write_error(path, error) from error
        self._zip = zipfile.ZipFile(self._file, "w")

    def add(self, arrays: dict[str, Array], *, last: bool = False) -> None:
        """Write arrays and, with `last`, the table of contents; raises OutputError and then nothing was written."""
        packed = {f"{name}.npy": _npy(array) for name, array in arrays.items()}
        try:
            if not last:
                self._reserve(packed)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Duplicate name")  # a frame written again: the later one is read
                for name, data in packed.items():
                    self._zip.writestr(name, data, zipfile.ZIP_DEFLATED, compresslevel=1)
            if last:
                self._close()
        except OSError as error:
            raise write_error(self.path, error) from error

    def _reserve(self, packed: dict[str, bytes]) -> None:
        """Have the disk set aside what these entries and a table of contents for all can take."""
        self._entries += len(packed)
        size = sum(len(data) + len(data) // 1000 for data in packed.values()) + ZIP_ENTRY_OVERHEAD * (self._entries + 3)
        if hasattr(os, "posix_fallocate"):  # elsewhere a full disk shows only while writing
            self._file.flush()
            os.posix_fallocate(self._file.fileno(), self._file.tell(), size)

    def _close(self) -> None:
        with self._file:
            self._zip.close()
            self._file.truncate()
            self._file.flush()
            os.fsync(self._file.fileno())


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _copy_latest(old: Path, new: Path) -> None:
    """Copy a zip, of entries with one name only the last."""
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name in dict.fromkeys(source.namelist()):
            target.writestr(name, source.read(name))
