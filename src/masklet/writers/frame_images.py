"""Sinks that write one PNG or several for every frame, into a folder with the stem of the video."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from masklet.atomic_files import atomic_path
from masklet.errors import OutputError
from masklet.masks.label_map import davis_palette
from masklet.results import Results
from masklet.writers.image_base import ensure_writable_folder
from masklet.writers.mask_images import label_map
from masklet.writers.video_base import OverlapWarner, Sink, SinkOptions, format_frame_idx

__all__ = ["MaskSink", "PngSink"]

SOFTWARE_TAG = "masklet"
"""What the PNG text `Software` says in our files: files of an earlier run are known by it and by nothing else."""

PNG_COMPRESSION = 3
"""Of zlib, 0 to 9: a third of the time of the usual 6, for kilobytes."""


class FrameImageSink(Sink):
    """A folder of PNG files; in the folder of the images themselves it gets a name of its own.

    Of an earlier run only files that masklet wrote are removed.
    """

    supports_append = True
    source_folder_suffix = "_png"
    """What the stem has after it when the folder STEM is the source's own."""
    _output_folder: Path | None = None

    def _prepare_folder(self, results: Results) -> Path:
        """The folder of this video; the first call clears it."""
        if self._output_folder is None:
            plain = self._path("")
            sources = [os.path.dirname(results.path), os.fspath(self.options.source or "")]
            own = any(_same_folder(plain, source) for source in sources)
            self._output_folder = self._path(self.source_folder_suffix) if own else plain
            if not self.options.append:
                _remove_previous_output(self._output_folder)
            ensure_writable_folder(self._output_folder)
            self._add_path(self._output_folder)
        return self._output_folder


class PngSink(FrameImageSink):
    """One label map a frame, STEM/00000.png: a pixel is the object's id, 0 for background, in the palette of DAVIS.

    Ids are 1 to 65535; a frame with an id over 255 is a gray 16-bit PNG. A pixel holds one id, so where masks
    overlap the smaller one is kept; the first object of which less than IoU 0.95 is left is named in a
    MaskletWarning, once a run. `masks` and `coco` lose nothing. Where STEM is the folder of the source's own
    images it is STEM_labels/00000.png.

    Example:
        >>> with PngSink("out", "clip") as sink:
        ...     sink.write(frame)
        >>> sink.paths
        [PosixPath('out/clip')]
    """

    source_folder_suffix = "_labels"

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._overlap_warner = OverlapWarner("the label map")

    def _check_id(self, object_id: int) -> None:
        if not 1 <= object_id <= 65535:
            raise OutputError(
                f"object id {object_id} has no place in a label map: a pixel holds 1 to 65535, and 0 is background; "
                "number the objects from 1, or save masks or coco"
            )

    def _write(self, results: Results, frame_idx: int) -> None:
        labels = label_map(results)
        self._overlap_warner.check(results, labels, frame_idx)
        ids = np.concatenate([[0], results.ids]).astype(np.uint16)[labels]
        wide = bool(len(results)) and int(results.ids.max()) > 255
        image = Image.fromarray(ids if wide else ids.astype(np.uint8))
        if not wide:
            image.putpalette(davis_palette().tobytes())
        _save_png(image, self._prepare_folder(results) / f"{format_frame_idx(frame_idx)}.png", results.path)


class MaskSink(FrameImageSink):
    """One black and white PNG an object and frame, STEM/ID/00000.png: lossless, 255 inside and 0 outside.

    An object has a file for every frame that has a row for it, black where it is hidden. Where STEM is the folder
    of the source's own images it is STEM_masks/ID/00000.png.

    Example:
        >>> with MaskSink("out", "clip") as sink:
        ...     sink.write(frame)
        >>> sink.paths
        [PosixPath('out/clip')]
    """

    source_folder_suffix = "_masks"

    def _write(self, results: Results, frame_idx: int) -> None:
        folder = self._prepare_folder(results)
        masks = () if results.masks is None else results.masks.data
        for number, mask in zip(results.ids.tolist(), masks, strict=True):
            image = Image.fromarray(mask.astype(np.uint8) * 255)
            _save_png(image, folder / str(number) / f"{format_frame_idx(frame_idx)}.png", results.path)

    def _prepare_folder(self, results: Results) -> Path:
        fresh = self._output_folder is None
        folder = super()._prepare_folder(results)
        if fresh and not self.options.append and folder.is_dir():
            for child in folder.iterdir():
                if child.name.lstrip("-").isdigit():
                    _remove_previous_output(child)
        return folder


def _save_png(image: Image.Image, path: Path, source: str) -> None:
    """Write a PNG that says who made it; never over the image it was made from."""
    if os.path.exists(source) and path.exists() and os.path.samefile(source, path):
        raise OutputError(f"{path} is the image that was tracked and is not replaced: choose another folder")
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Software", SOFTWARE_TAG)
    with atomic_path(path) as temporary:
        image.save(temporary, pnginfo=notes, compress_level=PNG_COMPRESSION)


def _same_folder(folder: Path, source: str) -> bool:
    return os.path.isdir(source) and folder.is_dir() and os.path.samefile(folder, source)


def _remove_previous_output(folder: Path) -> None:
    """Remove the numbered PNG files that masklet wrote into `folder`, and no other."""
    for path in folder.glob("*.png") if folder.is_dir() else ():
        if path.stem.isdigit() and _is_written_by_masklet(path):
            path.unlink(missing_ok=True)


def _is_written_by_masklet(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == SOFTWARE_TAG
    except OSError:  # a cut or foreign file is not known to be ours
        return False
