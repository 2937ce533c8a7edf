"""Results on disk: one table of writers, each a context manager over a folder.

overlay   STEM_overlay.png          the image with its masks painted on it
png       STEM.png                  label map in the palette of DAVIS; per_object: STEM_mask_0.png ...
coco      annotations.coco.json     one file for the run, lossless run-length masks
yolo      STEM.txt, classes.txt     one line an object, one ring
json      STEM.json                 boxes, scores and outlines as plain data
cutout    STEM_cutout_0.png ...     each object alone on transparency

And of a video while it is tracked: one table of sinks, to which frames are given one by one.

video     STEM_overlay.mp4          video with the masks painted on it, H.264 with the sound of the source
png       STEM/00000.png            label map in the palette of DAVIS, a pixel is the object's id
masks     STEM/ID/00000.png         black and white, one an object and frame
coco      STEM_masks.jsonl          run-length masks, a line a frame; `read_tracks` reads it back
mots      STEM_mots.txt             MOTS text: frame id class_id height width rle
numpy     STEM_masks.npz            boolean arrays, a frame at a time
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
"""Every format by its name."""

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
"""Every format of a tracked video by its name."""


def open_writer(name: str, out_dir: str | os.PathLike[str], *, per_object: bool = False) -> Writer:
    """A writer of format `name` into `out_dir`, which is made and tried at once.

    `per_object` is for `png`: one black and white image an object in place of one label map.

    Example:
        >>> with open_writer("overlay", "out") as writer:
        ...     for results in model("shots/"):
        ...         writer.write(results)
        >>> writer.paths
        [PosixPath('out/cat_overlay.png'), PosixPath('out/dog_overlay.png')]

    Raises:
        InputError: no such format, or an option it does not have.
        OutputError: a folder that cannot be made or written.
    """
    _check_format_name(name, WRITERS)
    if per_object and name != "png":
        raise InputError(f"format {name!r} has no option per_object; only 'png' has it: leave it out")
    return MaskWriter(out_dir) if per_object else WRITERS[name](out_dir)


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
    """A sink of format `name` into `out_dir`, which is made and tried at once; files begin with `stem`.

    `fps` paces frames without a `time` (30.0 unless said), `source` is the video they come from, `append` goes on
    with an earlier run. These three are also in `options`, beside what only one format needs; what is given here
    counts.

    Example:
        >>> with open_sink("video", "out", stem="clip", fps=30.0, source="clip.mp4") as sink:
        ...     for frame in model.track("clip.mp4", points=[210, 350], labels=[1]):
        ...         sink.write(frame)
        >>> sink.paths
        [PosixPath('out/clip_overlay.mp4')]

    Raises:
        InputError: no such format, an option that cannot be meant, or `append` for a format that cannot go on.
        OutputError: a folder that cannot be made or written, or no encoder for a video.
    """
    _check_format_name(name, SINKS)
    chosen = options or SinkOptions()
    chosen = replace(
        chosen,
        fps=chosen.fps if fps is None else fps,
        source=chosen.source if source is None else source,
        append=chosen.append or append,
    )
    return SINKS[name](out_dir, stem, chosen)


def _check_format_name(name: str, formats: Iterable[str]) -> None:
    names = list(formats)
    if name not in names:
        near = difflib.get_close_matches(str(name).lower(), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose one of them"
        raise InputError(f"no format {name!r}; formats are {', '.join(names)}: {hint}")
