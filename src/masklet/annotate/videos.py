"""Films: the detector looks at every so many frames, what it finds is followed in between, and is one where it is one.

A film is done as a whole: its records go to a file beside the journal, so that a long one needs no memory, and from
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
from masklet.annotate.annotation_records import Found, Record
from masklet.annotate.events import BatchDone, FrameDone, ItemDone
from masklet.annotate.inputs import Item
from masklet.errors import InputError, ModelError, OutputError, SourceError
from masklet.masks.ops import from_masks
from masklet.masks.rle import encode
from masklet.media import open_video

if TYPE_CHECKING:
    from masklet.results import Results
    from masklet.video import Following
    from masklet.video import Found as Seen

__all__ = ["film_steps", "frame_name", "with_pixels"]


def film_steps(models: Models, item: Item, scratch: Path) -> Iterator[FrameDone | BatchDone]:
    """A step a frame, and one when the film is done; `scratch` is the folder for its records on the way.

    A film that cannot be read, or that this model cannot follow, says why.

    Raises:
        MaskletError: a model that cannot be had, or a detector without the classes that are wanted.
        OutputError: the records cannot be written.
    """
    models.open()
    stamp = item.stamp()
    spool = scratch / f"film-{hashlib.sha256(item.name.encode()).hexdigest()[:16]}.jsonl"
    count = objects = 0
    try:
        with _followed(models, item) as following, open(spool, "w", encoding="utf-8", newline="\n") as file:
            for results in following:
                record = _record(item, results, following)
                file.write(record.to_line() + "\n")
                count, objects = count + 1, objects + len(record.objects)
                yield FrameDone(item, record.frame or 0, following.video.count, len(record.objects))
        done = ItemDone(item, stamp, count, objects, spool=spool)
    except OutputError:
        raise
    except (InputError, ModelError) as error:
        failure = Record(item.name, item.path, None, part=item.part, failure=f"{item.path}: {error}")
        done = ItemDone.of(item, stamp, failure)
    except OSError as error:
        raise OutputError(f"{spool} cannot be written ({error.strerror or error}): make room, and run again") from error
    yield BatchDone((done,), models.names)


def with_pixels(records: Iterable[Record]) -> Iterator[tuple[Record, npt.NDArray[np.uint8] | None]]:
    """Records with the frames they are about, (H, W, 3) RGB, read in one pass; pictures are files: None.

    Raises:
        SourceError: the film cannot be read any more.
    """
    waiting = iter(records)
    first = next(waiting, None)
    if first is None or first.film is None:
        yield from ((record, None) for record in (first, *waiting) if record is not None)
        return
    wanted: Record | None = first
    with open_video(first.path) as video:
        for frame in video:
            if wanted is not None and frame.index == wanted.frame:
                yield wanted, frame.rgb
                wanted = next(waiting, None)
    if wanted is not None:
        raise SourceError(f"{first.path} ends before frame {wanted.frame}, which was found in before: begin anew")


def frame_name(item: Item, frame: int) -> str:
    """The name of a frame of a film in labels.

    Example:
        >>> frame_name(Item("clips/dog", "clips/dog.mp4"), 12)
        'clips/dog/000012'
    """
    return f"{item.name}/{frame:06d}"


def _followed(models: Models, item: Item) -> Following:
    options = models.options
    return models.segmenter.follow(open_video(item.path), finder=lambda rgb: _seen(models, rgb), every=options.every)


def _seen(models: Models, rgb: npt.NDArray[np.uint8]) -> Iterable[Seen]:
    """What the detector finds in a frame: masks where it draws its own, else boxes."""
    from masklet.video import Found as Seen

    [found] = models.detect([rgb])
    codes = found.rles if models.draws else None
    return [
        Seen(
            float(found.scores[row]),
            mask=None if codes is None else codes[row],
            box=found.xyxy[row],
            class_id=int(found.classes[row]),
            name=models.names.get(int(found.classes[row]), str(found.classes[row])),
        )
        for row in range(len(found))
    ]


def _record(item: Item, results: Results, following: Following) -> Record:
    assert results.frame is not None
    masks = np.zeros((0, *results.orig_shape), bool) if results.masks is None else results.masks.data
    numbers = np.arange(1, len(results) + 1) if results.ids is None else results.ids
    rows = [row for row in range(len(masks)) if masks[row].any()]
    objects = tuple(_object(results, following, row, int(numbers[row]), masks[row]) for row in rows)
    name = frame_name(item, results.frame)
    height, width = results.orig_shape
    return Record(name, item.path, (height, width), objects, item.part, film=item.name, frame=results.frame)


def _object(results: Results, following: Following, row: int, number: int, mask: npt.NDArray[np.bool_]) -> Found:
    """A followed object on one frame: its score is the detector's of when it was found, the box that of its mask."""
    x1, y1, x2, y2 = from_masks(mask[None])[0].tolist()
    iou = round(float(results.scores[row]), 4)
    life = following.lives.alive.get(number)
    return Found(
        class_id=int(results.classes[row]),
        score=iou if life is None else round(life.score, 4),
        box=(x1, y1, x2, y2),
        rle=encode(mask),
        area=int(np.count_nonzero(mask)),
        extent=(x1, y1, x2, y2),
        iou=iou,
        track=number,
    )
