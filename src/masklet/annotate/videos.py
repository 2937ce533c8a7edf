"""Annotate videos: the detector runs on every n-th frame, and its objects are tracked in between.

A video is done in one piece: its records go to a file next to the log, so that a long video needs no memory, and from
there into the log when its last frame is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotation_models import Models
from masklet.annotate.annotation_records import ImageAnnotation, ObjectAnnotation, unexpected_failure
from masklet.annotate.events import BatchDone, FrameDone, InputDone
from masklet.annotate.inputs import InputFile
from masklet.errors import InputError, MissingExtraError, ModelError, OutputError, SourceError
from masklet.masks.ops import masks_to_boxes
from masklet.masks.rle import encode
from masklet.media import open_video

if TYPE_CHECKING:
    from masklet.results import Results
    from masklet.video import AutoTrackStream
    from masklet.video import Detection as FrameDetection

__all__ = ["annotate_video", "attach_frames"]


def annotate_video(models: Models, item: InputFile, temp_dir: Path) -> Iterator[FrameDone | BatchDone]:
    """Annotate a video: yield an event per frame, and one when the video is done.

    `temp_dir` gets the file of its records. A video that cannot be read, or that the model cannot track, becomes a
    record with a failure.

    Raises:
        MaskletError: if a model cannot be loaded, or the detector lacks a requested class.
        OutputError: if the records cannot be written.
    """
    models.load()
    fingerprint = item.fingerprint()
    records_file = (
        temp_dir / f"video-{hashlib.sha256(item.name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.jsonl"
    )
    count = objects = 0
    try:
        stream = models.load_segmenter().track(
            open_video(item.path),
            detector=lambda rgb: _detect_frame(models, rgb),
            detect_every=models.options.detect_every,
        )
        with stream, open(records_file, "w", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
            for results in stream:
                record = _frame_annotation(item, results, stream)
                file.write(record.to_line() + "\n")
                count, objects = count + 1, objects + len(record.objects)
                yield FrameDone(item, record.frame_idx or 0, stream.video.num_frames, len(record.objects))
        done = InputDone(item, fingerprint, count, objects, records_file=records_file)
    except OutputError:
        raise
    except (InputError, ModelError) as error:
        failure = ImageAnnotation(item.name, item.path, None, split=item.split, failure=f"{item.path}: {error}")
        done = InputDone.from_record(item, fingerprint, failure)
    except OSError as error:
        raise OutputError(
            f"{records_file} cannot be written ({error.strerror or error}): free disk space, and run again"
        ) from error
    except MissingExtraError:
        raise
    except Exception as error:
        reason = unexpected_failure(item.path, error)
        done = InputDone.from_record(
            item, fingerprint, ImageAnnotation(item.name, item.path, None, split=item.split, failure=reason)
        )
    yield BatchDone((done,), models.class_names)


def attach_frames(records: Iterable[ImageAnnotation]) -> Iterator[tuple[ImageAnnotation, npt.NDArray[np.uint8] | None]]:
    """Attach the frame (H, W, 3) RGB to each record of a video, read in one pass; records of images get None.

    Raises:
        SourceError: if the video cannot be read any more.
    """
    remaining = iter(records)
    first = next(remaining, None)
    if first is None or first.video is None:
        yield from ((record, None) for record in (first, *remaining) if record is not None)
        return
    record: ImageAnnotation | None = first
    with open_video(first.path) as video:
        for frame in video:
            if record is not None and frame.index == record.frame_idx:
                yield record, frame.rgb
                record = next(remaining, None)
    if record is not None:
        raise SourceError(
            f"{first.path} ends before frame {record.frame_idx}, which was annotated before: overwrite the earlier run "
            "(resume=False, --overwrite)"
        )


def _detect_frame(models: Models, rgb: npt.NDArray[np.uint8]) -> Iterable[FrameDetection]:
    """The detections of a frame as the tracker takes them: with masks if those of the detector are used."""
    from masklet.video import Detection as FrameDetection

    [detections] = models.detect([rgb])
    rles = detections.rles if models.uses_detector_masks else None
    return [
        FrameDetection(
            float(detections.scores[row]),
            mask=None if rles is None else rles[row],
            box=detections.xyxy[row],
            class_id=int(detections.classes[row]),
            name=models.class_names.get(int(detections.classes[row]), str(detections.classes[row])),
        )
        for row in range(len(detections))
    ]


def _frame_annotation(item: InputFile, results: Results, stream: AutoTrackStream) -> ImageAnnotation:
    """The objects of a tracked frame; their score is that of their detection, their box that of their mask."""
    assert results.frame_idx is not None
    objects = []
    for row, mask in enumerate(() if results.masks is None else results.masks.data):
        if not mask.any():
            continue
        x1, y1, x2, y2 = masks_to_boxes(mask[None])[0].tolist()
        iou = round(float(results.scores[row]), 4)
        track_id = row + 1 if results.ids is None else int(results.ids[row])
        track = stream.track_history.active.get(track_id)
        objects.append(
            ObjectAnnotation(
                class_id=int(results.classes[row]),
                score=iou if track is None else round(track.score, 4),
                box=(x1, y1, x2, y2),
                rle=encode(mask),
                area=int(np.count_nonzero(mask)),
                mask_box=(x1, y1, x2, y2),
                predicted_iou=iou,
                track_id=track_id,
            )
        )
    return ImageAnnotation(
        f"{item.name}/{results.frame_idx:06d}",
        item.path,
        results.orig_shape,
        tuple(objects),
        item.split,
        video=item.name,
        frame_idx=results.frame_idx,
    )
