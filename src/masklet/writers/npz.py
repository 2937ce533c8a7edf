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
"""Upper bound in bytes of what an entry takes besides its data: its header and its line of the directory."""


class NpzSink(Sink):
    """Write STEM_masks.npz for `np.load`, which reads one array at a time.

    `frames` (T,) int64 are the frame numbers, ascending; `times` (T,) float64 seconds, NaN where unknown; and
    for frame 12 there are `ids_00012` (N,) int32, `masks_00012` (N, H, W) bool and `scores_00012` (N,) float32. N may
    be 0. While it is written the file is STEM_masks.part.npz; it is readable only after the sink is closed.

    Example:
        >>> video = np.load("out/clip_masks.npz")  # doctest: +SKIP
        >>> video["masks_00012"][video["ids_00012"] == 7]  # doctest: +SKIP
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
                with zipfile.ZipFile(part) as old, zipfile.ZipFile(temporary, "w") as new:
                    for name in dict.fromkeys(old.namelist()):  # of several entries with one name the last is read
                        new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED, compresslevel=1)
            else:
                os.replace(part, temporary)
        part.unlink(missing_ok=True)
        self.paths.append(path)


class _Archive:
    """A zip that grows by complete frames: disk space for each, and for the directory, is reserved before writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._num_entries = 0
        try:
            self._file = open(path, "w+b")  # noqa: SIM115
        except OSError as error:
            raise write_error(path, error) from error
        self._zip = zipfile.ZipFile(self._file, "w")

    def add(self, arrays: dict[str, Array], *, last: bool = False) -> None:
        """Write arrays and, with `last`, the directory of the zip.

        Raises:
            OutputError: if they cannot be written; then nothing was written.
        """
        entries = {}
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            entries[f"{name}.npy"] = buffer.getvalue()
        try:
            if not last:  # reserve what these entries and the directory of all entries can take
                self._num_entries += len(entries)
                size = sum(len(data) + len(data) // 1000 for data in entries.values())
                size += ZIP_ENTRY_OVERHEAD * (self._num_entries + 3)
                if hasattr(os, "posix_fallocate"):  # elsewhere a full disk shows only while writing
                    self._file.flush()
                    os.posix_fallocate(self._file.fileno(), self._file.tell(), size)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Duplicate name")  # a frame written again: the later one is read
                for name, data in entries.items():
                    self._zip.writestr(name, data, zipfile.ZIP_DEFLATED, compresslevel=1)
            if last:
                with self._file:
                    self._zip.close()
                    self._file.truncate()
                    self._file.flush()
                    os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error
