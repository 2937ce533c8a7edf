"""Write results to disk: writers for images, sinks for the frames of a tracked video.

Writers are context managers over a folder and take the results of many images:

overlay   STEM_overlay.png          the image with its masks drawn on it
png       STEM.png                  label map in the DAVIS palette; with per_object: STEM_mask_0.png ...
coco      annotations.coco.json     one file per run, lossless run-length masks
yolo      STEM.txt, classes.txt     one line and one ring per object
json      STEM.json                 boxes, scores and outlines as plain data
cutout    STEM_cutout_0.png ...     each object alone on a transparent background

Sinks are context managers over one video and take its frames one by one while it is tracked:

video     STEM_overlay.mp4          video with the masks drawn on it, H.264 with the audio of the source
png       STEM/00000.png            label map in the DAVIS palette, a pixel is the object id
masks     STEM/ID/00000.png         black and white, one file per object and frame
coco      STEM_masks.jsonl          run-length masks, one line per frame; `read_tracks` reads it back
mots      STEM_mots.txt             MOTS text: frame id class_id height width rle
numpy     STEM_masks.npz            boolean arrays, one frame at a time
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from masklet.errors import InputError
from masklet.writers.annotations import CocoWriter, JsonWriter, YoloWriter
from masklet.writers.frame_images import MaskSink, PngSink
from masklet.writers.image_base import Writer
from masklet.writers.mask_images import CutoutWriter, MaskWriter, OverlayWriter, PngWriter
from masklet.writers.mots import MotsSink
from masklet.writers.npz import NpzSink
from masklet.writers.tracks_jsonl import (
    CocoSink,
    FrameRecord,
    TrackRecord,
    read_tracks,
    tracked_frames,
    truncate_tracks,
)
from masklet.writers.video import VideoSink
from masklet.writers.video_base import Sink, SinkOptions

__all__ = [
    "SINKS",
    "WRITERS",
    "FrameRecord",
    "Sink",
    "SinkOptions",
    "TrackRecord",
    "Writer",
    "open_sink",
    "open_writer",
    "read_tracks",
    "tracked_frames",
    "truncate_tracks",
]

WRITERS = MappingProxyType[str, type[Writer]](
    {
        "overlay": OverlayWriter,
        "png": PngWriter,
        "coco": CocoWriter,
        "yolo": YoloWriter,
        "json": JsonWriter,
        "cutout": CutoutWriter,
    }
)
"""The writer of each image format, by name."""

SINKS = MappingProxyType[str, type[Sink]](
    {
        "video": VideoSink,
        "png": PngSink,
        "masks": MaskSink,
        "coco": CocoSink,
        "mots": MotsSink,
        "numpy": NpzSink,
    }
)
"""The sink of each video format, by name."""


def open_writer(
    name: str,
    out_dir: str | os.PathLike[str],
    *,
    per_object: bool = False,
    overwrite: bool = False,
    root: str | os.PathLike[str] | None = None,
) -> Writer:
    """Open a writer of format `name` into `out_dir`, which is created and checked at once.

    `per_object` is an option of `png`: one black and white image per object instead of one label map. With `overwrite`,
    files that masklet did not write or that were changed since are replaced too. Images below the folder `root` keep
    their subfolders.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from masklet.results import Masks, Results
        >>> results = Results(np.zeros((4, 6, 3), np.uint8), "cat.jpg", Masks(np.ones((1, 4, 6), bool)), [0.9])
        >>> with tempfile.TemporaryDirectory() as folder, open_writer("overlay", folder) as writer:
        ...     [path.name for path in writer.write(results)]
        ['cat_overlay.png']

    Raises:
        InputError: if there is no such format, or it has no option `per_object`.
        OutputError: if the folder cannot be created or written, or the file of the entire run is somebody else's.
    """
    _check_format_name(name, WRITERS)
    if per_object and name != "png":
        raise InputError(f"format {name!r} has no option per_object; only 'png' has it: remove the option")
    writer = MaskWriter if per_object else WRITERS[name]
    return writer(out_dir, overwrite=overwrite, root=root)


def open_sink(
    name: str,
    out_dir: str | os.PathLike[str],
    *,
    stem: str,
    fps: float | None = None,
    source: str | os.PathLike[str] | None = None,
    append: bool = False,
    options: SinkOptions | None = None,
) -> Sink:
    """Open a sink of format `name` into `out_dir`, which is created and checked at once.

    Args:
        stem: Beginning of the file names.
        fps: Frame rate for frames without a `time`, 30.0 by default.
        source: The video that the frames come from.
        append: Resume the file of an earlier run.
        options: These three and the options of single formats; `fps`, `source` and `append` override it.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from masklet.results import Masks, Results
        >>> frame = Results(np.zeros((4, 6, 3), np.uint8), "clip.mp4", Masks(np.ones((1, 4, 6), bool)), [0.9])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_sink("coco", folder, stem="clip") as sink:
        ...         sink.write(frame)
        ...     [(record.frame_idx, record.objects[0].area) for record in read_tracks(sink.paths[0])]
        [(0, 24)]

    Raises:
        InputError: if there is no such format, an option is invalid, or the format does not support `append`.
        OutputError: if the folder cannot be created or written, or a video has no encoder.
    """
    _check_format_name(name, SINKS)
    options = options or SinkOptions()
    options = replace(
        options,
        fps=options.fps if fps is None else fps,
        source=options.source if source is None else source,
        append=options.append or append,
    )
    return SINKS[name](out_dir, stem, options)


def _check_format_name(name: str, formats: Iterable[str]) -> None:
    names = list(formats)
    if name not in names:
        near = difflib.get_close_matches(str(name).lower(), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose one of them"
        raise InputError(f"no format {name!r}; formats are {', '.join(names)}: {hint}")
