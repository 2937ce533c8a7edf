"""Sinks that write PNG files for every frame, into a folder with the stem of the video."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from masklet.atomic_files import atomic_path
from masklet.damaged_files import decoder_errors
from masklet.errors import OutputError
from masklet.results import Results
from masklet.writers.image_base import ensure_writable_folder
from masklet.writers.mask_images import label_map, label_map_image
from masklet.writers.video_base import OverlapWarner, Sink, SinkOptions, format_frame_idx

__all__ = ["MaskSink", "PngSink"]

SOFTWARE_TAG = "masklet"
"""The PNG text `Software` of files that masklet wrote: only these are removed by a later run."""

PNG_COMPRESSION = 3
"""zlib level, 0 to 9: a third of the time of the usual 6, for kilobytes."""


class FrameImageSink(Sink):
    """The base of sinks that write a folder of PNG files; the folder of the source images gets a suffix.

    Of an earlier run only files that masklet wrote are removed.
    """

    supports_append = True
    source_folder_suffix = "_png"
    """What follows the stem if the folder STEM has the source images."""
    has_object_folders = False
    """Whether each object has a folder, named by its id."""

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._output_folder: Path | None = None

    def _prepare_folder(self, results: Results) -> Path:
        """The output folder of this video; the first call creates it and removes the files of an earlier run."""
        if self._output_folder is None:
            folder = self._path("")
            sources = (os.path.dirname(results.path), os.fspath(self.options.source or ""))
            if any(os.path.isdir(source) and folder.is_dir() and folder.samefile(source) for source in sources):
                folder = self._path(self.source_folder_suffix)
            if not self.options.append and folder.is_dir():
                self._remove_previous_output(folder)
            ensure_writable_folder(folder)
            self._output_folder = folder
            self.paths.append(folder)
        return self._output_folder

    def _remove_previous_output(self, folder: Path) -> None:
        """Remove the numbered PNG files that masklet wrote into `folder`, and no others."""
        paths = list(folder.glob("*.png"))
        if self.has_object_folders:
            paths += [path for path in folder.glob("*/*.png") if path.parent.name.lstrip("-").isdigit()]
        for path in paths:
            if not path.stem.isdigit():
                continue
            try:
                with Image.open(path) as image:
                    is_ours = image.info.get("Software") == SOFTWARE_TAG
            except decoder_errors():  # a truncated or foreign file is not known to be ours
                continue
            if is_ours:
                path.unlink(missing_ok=True)


class PngSink(FrameImageSink):
    """Write STEM/00000.png per frame: a label map in the DAVIS palette, where a pixel is the object id or 0.

    Ids are 1 to 65535; a frame with an id over 255 is a 16-bit grayscale PNG. A pixel has one id, so the smaller of
    two overlapping masks is kept; a MaskletWarning, once per run, names the first object that keeps less than IoU
    0.95. `masks` and `coco` lose nothing. If STEM is the folder of the source images, the files are
    STEM_labels/00000.png.
    """

    source_folder_suffix = "_labels"

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._overlap_warner = OverlapWarner("the label map")

    def _check_id(self, object_id: int) -> None:
        if not 1 <= object_id <= 65535:
            raise OutputError(
                f"object id {object_id} does not fit into a label map: a pixel is 1 to 65535, and 0 is background; "
                "number the objects from 1, or save masks or coco"
            )

    def _write(self, results: Results, frame_idx: int) -> None:
        labels = label_map(results)
        self._overlap_warner.check(results, labels, frame_idx)
        ids = np.concatenate([[0], results.ids]).astype(np.uint16)
        image = label_map_image(ids[labels], int(ids.max()))
        _save_png(image, self._prepare_folder(results) / f"{format_frame_idx(frame_idx)}.png", results.path)


class MaskSink(FrameImageSink):
    """Write STEM/ID/00000.png per object and frame: lossless black and white, 255 inside and 0 outside.

    An object has a file for every frame in which it has a row, black where it is hidden. If STEM is the folder of the
    source images, the files are STEM_masks/ID/00000.png.
    """

    source_folder_suffix = "_masks"
    has_object_folders = True

    def _write(self, results: Results, frame_idx: int) -> None:
        folder = self._prepare_folder(results)
        masks = () if results.masks is None else results.masks.data
        for object_id, mask in zip(results.ids.tolist(), masks, strict=True):
            image = Image.fromarray(mask.astype(np.uint8) * 255)
            _save_png(image, folder / str(object_id) / f"{format_frame_idx(frame_idx)}.png", results.path)


def _save_png(image: Image.Image, path: Path, source: str) -> None:
    """Write a PNG marked as ours; never over the image it was made from."""
    if os.path.exists(source) and path.exists() and os.path.samefile(source, path):
        raise OutputError(f"{path} is the image that was tracked and is not replaced: choose another folder")
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", SOFTWARE_TAG)
    with atomic_path(path) as temporary:
        image.save(temporary, pnginfo=info, compress_level=PNG_COMPRESSION)
