"""Videos: the detector looks at every so many frames, what it finds is followed in between, and is one where it is one.

A video is done as a whole: its records go to a file beside the journal, so that a long one needs no memory, and from
there into the journal when its last frame is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotation_models import Models
from masklet.annotate.annotation_records import ImageAnnotation, ObjectAnnotation
from masklet.annotate.events import BatchDone, FrameDone, InputDone
from masklet.annotate.inputs import InputFile
from masklet.errors import InputError, ModelError, OutputError, SourceError
from masklet.masks.ops import masks_to_boxes
from masklet.masks.rle import encode
from masklet.media import open_video

if TYPE_CHECKING:
    from masklet.results import Results
    from masklet.video import AutoTrackStream
    from masklet.video import Detection as Seen

__all__ = ["annotate_video", "attach_frames", "frame_name"]


def annotate_video(models: Models, item: InputFile, temp_dir: Path) -> Iterator[FrameDone | BatchDone]:
    """A step a frame, and one when the video is done; `scratch` is the folder for its records on the way.

    A video that cannot be read, or that this model cannot follow, says why.

    Raises:
        MaskletError: a model that cannot be had, or a detector without the classes that are wanted.
        OutputError: the records cannot be written.
    """
    models.load()
    stamp = item.fingerprint()
    spool = temp_dir / f"film-{hashlib.sha256(item.name.encode()).hexdigest()[:16]}.jsonl"
    count = objects = 0
    try:
        with _auto_track(models, item) as following, open(spool, "w", encoding="utf-8", newline="\n") as file:
            for results in following:
                record = _frame_annotation(item, results, following)
                file.write(record.to_line() + "\n")
                count, objects = count + 1, objects + len(record.objects)
                yield FrameDone(item, record.frame_idx or 0, following.video.num_frames, len(record.objects))
        done = InputDone(item, stamp, count, objects, records_file=spool)
    except OutputError:
        raise
    except (InputError, ModelError) as error:
        failure = ImageAnnotation(item.name, item.path, None, split=item.split, failure=f"{item.path}: {error}")
        done = InputDone.from_record(item, stamp, failure)
    except OSError as error:
        raise OutputError(f"{spool} cannot be written ({error.strerror or error}): make room, and run again") from error
    yield BatchDone((done,), models.class_names)


def attach_frames(records: Iterable[ImageAnnotation]) -> Iterator[tuple[ImageAnnotation, npt.NDArray[np.uint8] | None]]:
    """Records with the frames they are about, (H, W, 3) RGB, read in one pass; images are files: None.

    Raises:
        SourceError: the video cannot be read any more.
    """
    waiting = iter(records)
    first = next(waiting, None)
    if first is None or first.video is None:
        yield from ((record, None) for record in (first, *waiting) if record is not None)
        return
    wanted: ImageAnnotation | None = first
    with open_video(first.path) as video:
        for frame in video:
            if wanted is not None and frame.index == wanted.frame_idx:
                yield wanted, frame.rgb
                wanted = next(waiting, None)
    if wanted is not None:
        raise SourceError(f"{first.path} ends before frame {wanted.frame_idx}, which was found in before: begin anew")


def frame_name(item: InputFile, frame_idx: int) -> str:
    """The name of a frame of a video in labels.

    Example:
        >>> frame_name(Item("clips/dog", "clips/dog.mp4"), 12)
        'clips/dog/000012'
    """
    return f"{item.name}/{frame_idx:06d}"


def _auto_track(models: Models, item: InputFile) -> AutoTrackStream:
    options = models.options
    return models.segmenter.track(
        open_video(item.path), detector=lambda rgb: _detect_frame(models, rgb), detect_every=options.detect_every
    )


def _detect_frame(models: Models, rgb: npt.NDArray[np.uint8]) -> Iterable[Seen]:
    """What the detector finds in a frame: masks where it draws its own, else boxes."""
    from masklet.video import Detection as Seen

    [found] = models.detect([rgb])
    codes = found.rles if models.uses_detector_masks else None
    return [
        Seen(
            float(found.scores[row]),
            mask=None if codes is None else codes[row],
            box=found.xyxy[row],
            class_id=int(found.classes[row]),
            name=models.class_names.get(int(found.classes[row]), str(found.classes[row])),
        )
        for row in range(len(found))
    ]


def _frame_annotation(item: InputFile, results: Results, stream: AutoTrackStream) -> ImageAnnotation:
    assert results.frame_idx is not None
    masks = np.zeros((0, *results.orig_shape), bool) if results.masks is None else results.masks.data
    numbers = np.arange(1, len(results) + 1) if results.ids is None else results.ids
    rows = [row for row in range(len(masks)) if masks[row].any()]
    objects = tuple(_object_annotation(results, stream, row, int(numbers[row]), masks[row]) for row in rows)
    name = frame_name(item, results.frame_idx)
    height, width = results.orig_shape
    return ImageAnnotation(
        name, item.path, (height, width), objects, item.split, video=item.name, frame_idx=results.frame_idx
    )


def _object_annotation(
    results: Results, stream: AutoTrackStream, row: int, track_id: int, mask: npt.NDArray[np.bool_]
) -> ObjectAnnotation:
    """A followed object on one frame: its score is the detector's of when it was found, the box that of its mask."""
    x1, y1, x2, y2 = masks_to_boxes(mask[None])[0].tolist()
    iou = round(float(results.scores[row]), 4)
    life = stream.track_history.active.get(track_id)
    return ObjectAnnotation(
        class_id=int(results.classes[row]),
        score=iou if life is None else round(life.score, 4),
        box=(x1, y1, x2, y2),
        rle=encode(mask),
        area=int(np.count_nonzero(mask)),
        mask_box=(x1, y1, x2, y2),
        predicted_iou=iou,
        track_id=track_id,
    )
