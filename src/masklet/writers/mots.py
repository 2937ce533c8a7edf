"""MOTS text, as the tools of KITTI MOTS and MOTSChallenge read it.

One line an object and frame, `frame id class_id height width rle`, separated by spaces. `class_id` is the class of
the results plus one (1 is car and 2 pedestrian in KITTI MOTS), and `id` is class_id * 1000 + the caller's id, as
both benchmarks number objects; an id of 1000 or more is written as it is. Frames count from 0 as in KITTI MOTS,
from 1 as in MOTSChallenge with `first_frame=1`.
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
"""Objects a class can have in the numbering of MOTS."""


class MotsSink(Sink):
    """MOTS text, STEM_mots.txt: `frame id class_id height width rle`, sorted by frame.

    An empty mask has no line. Masks of one frame may not overlap in this format: the smaller one is kept, and the
    first object of which less than IoU 0.95 is left is named in a MaskletWarning, once a run. While it is written
    the file is STEM_mots.part.txt, which a killed program leaves behind with every finished frame.

    Example:
        >>> with MotsSink("out", "clip") as sink:
        ...     sink.write(frame)
        >>> sink.paths
        [PosixPath('out/clip_mots.txt')]
    """

    _file: AppendOnlyFile | None = None

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._overlap_warner = OverlapWarner("MOTS text")
        self._spans: dict[int, tuple[int, int]] = {}
        self._used_ids: dict[int, tuple[int, int]] = {}

    def _check_id(self, object_id: int) -> None:
        if object_id < 0:
            raise OutputError(
                f"object id {object_id} has no place in MOTS text: ids are 0 or more; number the objects from 1, or "
                "save coco"
            )

    def _write(self, results: Results, frame_idx: int) -> None:
        if self._file is None:
            self._file = AppendOnlyFile(self._path("_mots.part.txt"))
        text = "\n".join(self._format_lines(results, frame_idx))
        self._spans[frame_idx] = self._file.append(text) if text else (0, 0)

    def _format_lines(self, results: Results, frame_idx: int) -> list[str]:
        """The lines of one frame; masks that meet are cut so that each pixel has one owner."""
        labels = label_map(results)
        self._overlap_warner.check(results, labels, frame_idx)
        height, width = results.orig_shape
        rows = []
        for i, (own, kind) in enumerate(zip(results.ids.tolist(), results.classes.tolist(), strict=True)):
            mask = labels == i + 1
            if mask.any():
                counts = rle.encode(mask)["counts"]
                number = frame_idx + self.options.mots_first_frame
                rows.append(f"{number} {self._mots_id(own, kind)} {kind + 1} {height} {width} {counts}")
        return rows

    def _mots_id(self, object_id: int, class_id: int) -> int:
        """The id that the file has for the caller's; two that would meet there are refused."""
        number = (
            (class_id + 1) * MAX_INSTANCES_PER_CLASS + object_id if object_id < MAX_INSTANCES_PER_CLASS else object_id
        )
        if self._used_ids.setdefault(number, (object_id, class_id)) != (object_id, class_id):
            raise OutputError(
                f"object id {object_id} of class {class_id} and object id {self._used_ids[number][0]} would both be {number} "  # noqa: E501
                f"in MOTS text: use ids under {MAX_INSTANCES_PER_CLASS}, or save coco"
            )
        return number

    def _finalize(self) -> None:
        if self._file is None:
            return
        self._file.close()
        path, part = self._path("_mots.txt"), self._file.path
        spans = [self._spans[frame] for frame in sorted(self._spans)]
        with atomic_path(path) as temporary:
            if _in_order(spans, part.stat().st_size):
                os.replace(part, temporary)  # needs no room on a disk that is full
            else:
                copy_byte_ranges(part, temporary, spans)
        part.unlink(missing_ok=True)
        self._add_path(path)


def _in_order(spans: list[tuple[int, int]], size: int) -> bool:
    """Whether the lines of all frames follow each other in a file of `size` bytes, none written twice."""
    written = [span for span in spans if span[1]]
    return written == sorted(written) and sum(length for _, length in written) == size
