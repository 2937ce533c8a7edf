"""Automatic annotation as a stream of progress: who calls it shows what he likes, and stops when he likes.

What was found is remembered first and written then, so that wherever a run stops, the next one goes on from there: what
is in the journal is not looked at again, and labels that are missing are written from it.

`auto_annotate`: the function people know.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from masklet.annotate.annotate_options import AnnotateOptions, DetectorLike
from masklet.annotate.annotation_records import Record
from masklet.annotate.events import BatchDone, FrameDone
from masklet.annotate.inputs import Data, Item, default_output, list_items, split
from masklet.annotate.output_writers import Shelf, clear
from masklet.annotate.resume_log import Entry, Journal
from masklet.annotate.review_page import Pile, write_review
from masklet.annotate.summary import Summary, Tally
from masklet.annotate.videos import with_pixels
from masklet.annotate.worker_pool import worked
from masklet.atomic_files import write_text
from masklet.datasets.conversion import LayoutOptions
from masklet.detect.detector import DetectOptions
from masklet.errors import MaskletWarning
from masklet.media.image_source import natural_key

__all__ = ["Progress", "annotate", "auto_annotate"]

REVIEW, SUMMARY = "review.html", "summary.json"


@dataclass(frozen=True)
class Progress:
    """What was just done: `name` with so many `objects`, or why it failed; how far the run is.

    `done` of `total` pictures and films are done, `earlier` of them by a run before. `frame` of `frames` (None:
    unknown) is given for a frame of a film that is not done yet. The last one of a run has the `summary`, and no name.
    """

    name: str
    path: str
    objects: int
    failure: str
    done: int
    total: int
    earlier: int
    frame: int | None = None
    frames: int | None = None
    summary: Summary | None = None


def annotate(
    data: Data,
    options: AnnotateOptions | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    resume: bool = True,
) -> Generator[Progress, None, None]:
    """Label every picture and film of `data`; a `Progress` for each one as it is done, and one with the summary.

    `output_dir` None is the folder that `default_output` names. With `resume` an earlier run of the same options into
    the same folder is gone on with; without, what it wrote is removed first. Nothing is lost when the iterator is left.

    Example:
        >>> for progress in annotate("photos", AnnotateOptions("everything"), "labels"):
        ...     print(progress.done, progress.total, progress.name, progress.objects)

    Raises:
        SourceError: nothing to annotate.
        InputError: options that cannot be meant, or other ones than those of the earlier run.
        OutputError: the folder cannot be written, is full, or another run writes it.
        ModelError: a model that cannot be had.
        StateError: a worker died.
    """
    asked = options or AnnotateOptions()
    out = Path(default_output(data) if output_dir is None else output_dir)
    items = split(list_items(data, leave_out=out), asked.split)
    return _Run(items, asked, out, resume).all()


class _Run:
    """A run while it is being done."""

    def __init__(self, items: Sequence[Item], options: AnnotateOptions, out: Path, resume: bool) -> None:
        self.items, self.options, self.out, self.resume = items, options, out, resume
        self.journal = Journal(out)
        self.done = self.earlier = 0
        self.started = time.monotonic()

    def all(self) -> Generator[Progress, None, None]:
        """Everything that is not done yet."""
        with self.journal as journal, Shelf(self.out, self.options) as shelf:
            self._begin()
            self._catch_up(shelf)
            for step in worked(self._batches(), self.options, journal.folder):
                if isinstance(step, BatchDone):
                    self._keep(step, shelf)
                yield from self._told(step)
            yield self._finished(shelf)

    def _begin(self) -> None:
        """Find out what is to be done."""
        journal = self.journal
        if not self.resume and journal.is_left_over:
            clear(self.out, *journal.before())
        journal.begin(self.options.settings(), anew=not self.resume)
        known = {name: entry for name, entry in journal.entries.items() if not entry.failed}
        self._todo = [item for item in self.items if item.name not in known]
        self.done = self.earlier = len(self.items) - len(self._todo)
        changed = [item.name for item in self.items if item.name in known and item.stamp() != known[item.name].stamp]
        if changed:
            warnings.warn(
                f"{len(changed)} picture(s) changed since they were annotated ({changed[0]}, ...) and keep their "
                "labels; begin anew to have them looked at again (resume=False, --anew)",
                MaskletWarning,
                stacklevel=4,
            )

    def _catch_up(self, shelf: Shelf) -> None:
        """Write what was found before and may not have been written."""
        for name, entry in self.journal.entries.items():
            if not entry.failed and self._unwritten(shelf, name, entry):
                self._write(shelf, name)

    def _unwritten(self, shelf: Shelf, name: str, entry: Entry) -> bool:
        """Whether a format lacks labels of a picture, or of a frame of a film."""
        if entry.count == 1:
            return shelf.lacks(name, self.journal.names)
        return any(shelf.lacks(record.name, self.journal.names) for record in self.journal.records(name))

    def _keep(self, batch: BatchDone, shelf: Shelf) -> None:
        """Remember what was found, then write it."""
        self.journal.learn(batch.names)
        self.journal.add(one.kept() for one in batch.done)
        for one in batch.done:
            if one.spool is not None:
                one.spool.unlink(missing_ok=True)
            self._write(shelf, one.item.name)

    def _write(self, shelf: Shelf, name: str) -> None:
        records = self.journal.records(name)
        pairs = with_pixels(records) if shelf.wants_pixels else ((record, None) for record in records)
        for record, rgb in pairs:
            shelf.write(record, self.journal.names, rgb)

    def _batches(self) -> Iterator[list[Item]]:
        """What is to be done: pictures, so many at a time, then films.

        Pictures are cut from the list as a whole, so that a batch has the same ones when a run goes on.
        """
        size, todo = self.options.batch_size, set(self._todo)
        pictures = [item for item in self.items if not item.is_film]
        for start in range(0, len(pictures), size):
            batch = [item for item in pictures[start : start + size] if item in todo]
            if batch:
                yield batch
        yield from ([item] for item in self._todo if item.is_film)

    def _told(self, step: FrameDone | BatchDone) -> Iterator[Progress]:
        if isinstance(step, FrameDone):
            yield self._progress(step.item, step.objects, frame=step.frame, frames=step.frames)
            return
        for one in step.done:
            self.done += 1
            yield self._progress(one.item, one.objects, one.failure)

    def _progress(
        self, item: Item, objects: int, failure: str = "", *, frame: int | None = None, frames: int | None = None
    ) -> Progress:
        return Progress(item.name, item.path, objects, failure, self.done, len(self.items), self.earlier, frame, frames)

    def _finished(self, shelf: Shelf) -> Progress:
        """The end: what belongs to the data as a whole, the review sheet, the summary."""
        journal, names = self.journal, self.journal.names
        shelf.finish(names)
        conf = None if self.options.sees_everything else self.options.detect.conf
        pictures = sum(entry.count for entry in journal.entries.values() if not entry.failed)
        tally, pile = Tally(), Pile(self.options.review, pictures, conf)
        for name in sorted(journal.entries, key=natural_key):
            for place, record in enumerate(journal.records(name)):
                tally.add(record)
                pile.add(name, place, record)
        files = list(shelf.files)
        if self.options.review:
            doubtful = (self._record(card.item, card.place) for card in pile.cards())
            files.append(write_review(self.out / REVIEW, doubtful, names, conf, tally.failures))
        summary = self._summary(tally, shelf, files)
        write_text(self.out / SUMMARY, summary.to_json())
        return Progress("", "", tally.objects, "", self.done, len(self.items), self.earlier, summary=summary)

    def _record(self, name: str, place: int) -> Record:
        return next(islice(self.journal.records(name), place, None))

    def _summary(self, tally: Tally, shelf: Shelf, files: list[Path]) -> Summary:
        return Summary(
            out=self.out,
            pictures=tally.pictures,
            empty=tally.empty,
            objects=tally.objects,
            by_class=tally.by_class(self.journal.names),
            parts=dict(sorted(tally.parts.items())),
            failures=tuple(tally.failures),
            without_mask=tally.without_mask,
            losses=shelf.losses,
            earlier=self.earlier,
            seconds=round(time.monotonic() - self.started, 3),
            files=tuple(files),
        )


def auto_annotate(
    data: Data,
    det_model: DetectorLike = "yolov8x.pt",
    sam_model: str | os.PathLike[str] | None = "",
    device: str = "",
    conf: float = 0.25,
    iou: float = 0.45,
    imgsz: int = 640,
    max_det: int = 300,
    classes: Sequence[int | str] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    text: str | None = None,
    formats: Sequence[str] = (),
    split: float | None = None,
    pictures: str = "link",
    segmentation: str = "rle",
    min_iou: float = 0.98,
    detector_masks: bool = False,
    precision: str = "fp32",
    batch: int = 0,
    workers: int = 1,
    review: float = 0.02,
    every: int = 10,
    everything: str = "default",
    resume: bool = True,
    report: Callable[[Progress], None] | None = None,
) -> Summary:
    """Label a folder of pictures and films: a detector finds objects, a segmenting model draws them.

    `data` is a folder (with all below it), a glob, a file, or a list of these. `det_model` is the name or file of a
    detector, "everything" (what is there, without classes; needs no download), any function from a picture to (boxes,
    scores, classes), or a `masklet.detect.Detector`; detectors that take words are asked for `text`. `sam_model` is
    what `SAM` takes: None is the model in the package, and "" sam2_b.pt, or with "everything" that in the package.
    Detections have a score of `conf` or more, overlap by less than `iou`, are sought in pictures of `imgsz` pixels, are
    at most `max_det`, and only of `classes` (numbers or names).

    Labels go to `output_dir`, by default a folder beside the data (photos_auto_annotate_labels): a YOLO-seg text for
    each picture, below the same folders. `formats`, of "yolo", "coco", "labelme", "davis", "voc", "cvat", go to
    output_dir/FORMAT each instead; `split=0.8` puts so many pictures into train and the rest into val, always the
    same; `pictures` is "link", "copy", or "none" to leave them where they are; `segmentation` is "rle", "polygon"
    (which keeps `min_iou` of each mask) or "both", where a format has the choice. `detector_masks` takes the masks of
    a detector that draws its own. `everything` is how densely that one asks: "fast", "default" or "fine". `review` is
    the share of pictures on the review sheet. Of a film every frame is labelled: the detector looks at each `every`-th,
    what it finds is followed in between and keeps its number.

    A picture that cannot be read is listed in the summary and skipped. Stopped at any moment, a call with the same
    arguments goes on (`resume=False` begins anew). `workers` processes need a script with
    `if __name__ == "__main__":`. `report` is called with each `Progress`.

    Example:
        >>> from masklet import auto_annotate
        >>> summary = auto_annotate("photos", det_model="everything")
        >>> print(summary)
        50 picture(s), 412 object(s), 0 picture(s) without any
        ...

    Raises:
        SourceError: nothing to annotate.
        InputError: arguments that cannot be meant, classes the detector does not have, or an output folder in which a
            run with other arguments was begun.
        OutputError: the folder cannot be written, is full, or another run writes it.
        ModelError: a model that cannot be had.
        MissingExtraError: a detector that needs the extra `transformers`.
    """
    wanted = None if classes is None else (classes,) if isinstance(classes, (int, str)) else tuple(classes)
    options = AnnotateOptions(
        det_model=det_model,
        sam_model=sam_model,
        device=device,
        precision=precision,
        detect=DetectOptions(conf, iou, imgsz, max_det, wanted, text),
        detector_masks=detector_masks,
        formats=(formats,) if isinstance(formats, str) else tuple(formats),
        layout=LayoutOptions(segmentation=segmentation, min_iou=min_iou, pictures=pictures),
        split=split,
        batch=batch,
        workers=workers,
        review=review,
        every=every,
        everything=everything,
    )
    summary: Summary | None = None
    for progress in annotate(data, options, output_dir, resume=resume):
        summary = progress.summary
        if report is not None and summary is None:
            report(progress)
    assert summary is not None
    return summary
