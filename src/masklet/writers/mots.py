"""MOTS text, as the tools of KITTI MOTS and MOTSChallenge read it.

One line per object and frame, `frame id class_id height width rle`, separated by spaces. `class_id` is the class of
the results plus one (1 is car and 2 pedestrian in KITTI MOTS), and `id` is class_id * 1000 + object id, as both
benchmarks number objects; an object id of 1000 or more is written as it is. Frames count from 0 as in KITTI MOTS,
from 1 as in MOTSChallenge with `mots_first_frame=1`.
"""

from __future__ import annotations

import os

from masklet.atomic_files import atomic_path
from masklet.errors import OutputError
from masklet.masks import rle
from masklet.results import Results
from masklet.writers.append_file import AppendOnlyFile, copy_byte_ranges
from masklet.writers.mask_images import label_map
from masklet.writers.video_base import OverlapWarner, Sink, SinkOptions

__all__ = ["MotsSink"]

MAX_INSTANCES_PER_CLASS = 1000
"""Objects per class in the numbering of MOTS."""


class MotsSink(Sink):
    """Write STEM_mots.txt: `frame id class_id height width rle`, sorted by frame.

    An empty mask has no line. Masks of one frame may not overlap in this format: the smaller one is kept, and a
    MaskletWarning, once per run, names the first object that keeps less than IoU 0.95. While it is written the file is
    STEM_mots.part.txt; a killed program leaves it with every finished frame.
    """

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._file: AppendOnlyFile | None = None
        self._overlap_warner = OverlapWarner("MOTS text")
        self._byte_ranges: dict[int, tuple[int, int]] = {}
        self._used_ids: dict[int, tuple[int, int]] = {}

    def _check_id(self, object_id: int) -> None:
        if object_id < 0:
            raise OutputError(
                f"object id {object_id} does not fit into MOTS text: ids are 0 or more; number the objects from 1, or "
                "save coco"
            )

    def _write(self, results: Results, frame_idx: int) -> None:
        if self._file is None:
            self._file = AppendOnlyFile(self._path("_mots.part.txt"))
        labels = label_map(results)
        self._overlap_warner.check(results, labels, frame_idx)
        height, width = results.orig_shape
        frame = frame_idx + self.options.mots_first_frame
        lines = []
        for row, (object_id, class_id) in enumerate(zip(results.ids.tolist(), results.classes.tolist(), strict=True)):
            mask = labels == row + 1
            if not mask.any():
                continue
            number = object_id  # as the benchmarks number objects
            if object_id < MAX_INSTANCES_PER_CLASS:
                number += (class_id + 1) * MAX_INSTANCES_PER_CLASS
            first = self._used_ids.setdefault(number, (object_id, class_id))
            if first != (object_id, class_id):
                raise OutputError(
                    f"object id {object_id} of class {class_id} and object id {first[0]} would both be {number} in "
                    f"MOTS text: use ids under {MAX_INSTANCES_PER_CLASS}, or save coco"
                )
            lines.append(f"{frame} {number} {class_id + 1} {height} {width} {rle.encode(mask)['counts']}")
        self._byte_ranges[frame_idx] = self._file.append("\n".join(lines)) if lines else (0, 0)

    def _finalize(self) -> None:
        if self._file is None:
            return
        self._file.close()
        path, part = self._path("_mots.txt"), self._file.path
        ranges = [span for _, span in sorted(self._byte_ranges.items()) if span[1]]
        is_sorted = ranges == sorted(ranges) and sum(length for _, length in ranges) == part.stat().st_size
        with atomic_path(path) as temporary:
            if is_sorted:
                os.replace(part, temporary)  # needs no space on a full disk
            else:
                copy_byte_ranges(part, temporary, ranges)
        part.unlink(missing_ok=True)
        self.paths.append(path)
