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
from masklet.annotate.annotation_records import ImageAnnotation
from masklet.annotate.events import BatchDone, FrameDone
from masklet.annotate.inputs import DataLike, InputFile, assign_splits, default_output_dir, list_inputs
from masklet.annotate.output_writers import FormatWriters, remove_previous_output
from masklet.annotate.resume_log import AnnotationLog, AnnotationLogEntry
from masklet.annotate.review_page import ReviewQueue, write_review
from masklet.annotate.summary import Summary, SummaryBuilder
from masklet.annotate.videos import attach_frames
from masklet.annotate.worker_pool import run_batches
from masklet.atomic_files import write_text
from masklet.datasets import WriteOptions
from masklet.detect.detector import DetectOptions
from masklet.errors import MaskletWarning
from masklet.media.image_source import natural_key

__all__ = ["Progress", "annotate", "auto_annotate"]

REVIEW_FILE, SUMMARY_FILE = "review.html", "summary.json"


@dataclass(frozen=True)
class Progress:
    """What was just done: `name` with so many `objects`, or why it failed; how far the run is.

    `done` of `total` images and videos are done, `earlier` of them by a run before. `frame` of `frames` (None:
    unknown) is given for a frame of a video that is not done yet. The last one of a run has the `summary`, and no name.
    """

    name: str
    path: str
    objects: int
    failure: str
    done: int
    total: int
    done_before: int
    frame_idx: int | None = None
    num_frames: int | None = None
    summary: Summary | None = None


def annotate(
    data: DataLike,
    options: AnnotateOptions | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    resume: bool = True,
) -> Generator[Progress, None, None]:
    """Label every image and video of `data`; a `Progress` for each one as it is done, and one with the summary.

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
    out = Path(default_output_dir(data) if output_dir is None else output_dir)
    items = assign_splits(list_inputs(data, exclude=out), asked.split)
    return _AnnotationRun(items, asked, out, resume).run()


class _AnnotationRun:
    """A run while it is being done."""

    def __init__(self, items: Sequence[InputFile], options: AnnotateOptions, out: Path, resume: bool) -> None:
        self.items, self.options, self.out, self.resume = items, options, out, resume
        self.resume_log = AnnotationLog(out)
        self.done = self.done_before = 0
        self.started = time.monotonic()

    def run(self) -> Generator[Progress, None, None]:
        """Everything that is not done yet."""
        with self.resume_log as journal, FormatWriters(self.out, self.options) as shelf:
            self._plan_work()
            self._write_missing_labels(shelf)
            for step in run_batches(self._batches(), self.options, journal.folder):
                if isinstance(step, BatchDone):
                    self._store_batch(step, shelf)
                yield from self._progress_of_event(step)
            yield self._finalize(shelf)

    def _plan_work(self) -> None:
        """Find out what is to be done."""
        journal = self.resume_log
        if not self.resume and journal.has_previous_run:
            remove_previous_output(self.out, *journal.previous_run())
        journal.start(self.options.settings(), overwrite=not self.resume)
        known = {name: entry for name, entry in journal.entries.items() if not entry.failed}
        self._todo = [item for item in self.items if item.name not in known]
        self.done = self.done_before = len(self.items) - len(self._todo)
        changed = [
            item.name
            for item in self.items
            if item.name in known and item.fingerprint() != known[item.name].fingerprint
        ]
        if changed:
            warnings.warn(
                f"{len(changed)} image(s) changed since they were annotated ({changed[0]}, ...) and keep their "
                "labels; begin anew to have them looked at again (resume=False, --anew)",
                MaskletWarning,
                stacklevel=4,
            )

    def _write_missing_labels(self, writers: FormatWriters) -> None:
        """Write what was found before and may not have been written."""
        for name, entry in self.resume_log.entries.items():
            if not entry.failed and self._is_missing_labels(writers, name, entry):
                self._write_labels(writers, name)

    def _is_missing_labels(self, writers: FormatWriters, name: str, entry: AnnotationLogEntry) -> bool:
        """Whether a format lacks labels of an image, or of a frame of a video."""
        if entry.count == 1:
            return writers.is_missing(name, self.resume_log.class_names)
        return any(
            writers.is_missing(record.name, self.resume_log.class_names) for record in self.resume_log.records(name)
        )

    def _store_batch(self, batch: BatchDone, writers: FormatWriters) -> None:
        """Remember what was found, then write it."""
        self.resume_log.add_class_names(batch.class_names)
        self.resume_log.append(one.to_pending_entry() for one in batch.done)
        for one in batch.done:
            if one.records_file is not None:
                one.records_file.unlink(missing_ok=True)
            self._write_labels(writers, one.item.name)

    def _write_labels(self, writers: FormatWriters, name: str) -> None:
        records = self.resume_log.records(name)
        pairs = attach_frames(records) if writers.needs_frames else ((record, None) for record in records)
        for record, rgb in pairs:
            writers.write(record, self.resume_log.class_names, rgb)

    def _batches(self) -> Iterator[list[InputFile]]:
        """What is to be done: images, so many at a time, then videos.

        Images are cut from the list as a whole, so that a batch has the same ones when a run goes on.
        """
        size, todo = self.options.batch_size, set(self._todo)
        images = [item for item in self.items if not item.is_video]
        for start in range(0, len(images), size):
            batch = [item for item in images[start : start + size] if item in todo]
            if batch:
                yield batch
        yield from ([item] for item in self._todo if item.is_video)

    def _progress_of_event(self, event: FrameDone | BatchDone) -> Iterator[Progress]:
        if isinstance(event, FrameDone):
            yield self._progress(event.item, event.objects, frame_idx=event.frame_idx, num_frames=event.num_frames)
            return
        for one in event.done:
            self.done += 1
            yield self._progress(one.item, one.objects, one.failure)

    def _progress(
        self,
        item: InputFile,
        objects: int,
        failure: str = "",
        *,
        frame_idx: int | None = None,
        num_frames: int | None = None,
    ) -> Progress:
        return Progress(
            item.name, item.path, objects, failure, self.done, len(self.items), self.done_before, frame_idx, num_frames
        )

    def _finalize(self, writers: FormatWriters) -> Progress:
        """The end: what belongs to the data as a whole, the review sheet, the summary."""
        journal, names = self.resume_log, self.resume_log.class_names
        writers.finalize(names)
        conf = None if self.options.uses_mask_generator else self.options.detect.conf
        images = sum(entry.count for entry in journal.entries.values() if not entry.failed)
        tally, pile = SummaryBuilder(), ReviewQueue(self.options.review_fraction, images, conf)
        for name in sorted(journal.entries, key=natural_key):
            for place, record in enumerate(journal.records(name)):
                tally.add(record)
                pile.add(name, place, record)
        files = list(writers.files)
        if self.options.review_fraction:
            doubtful = (self._record(card.name, card.record_index) for card in pile.items())
            files.append(write_review(self.out / REVIEW_FILE, doubtful, names, conf, tally.failures))
        summary = self._summary(tally, writers, files)
        write_text(self.out / SUMMARY_FILE, summary.to_json())
        return Progress("", "", tally.objects, "", self.done, len(self.items), self.done_before, summary=summary)

    def _record(self, name: str, record_index: int) -> ImageAnnotation:
        return next(islice(self.resume_log.records(name), record_index, None))

    def _summary(self, builder: SummaryBuilder, writers: FormatWriters, files: list[Path]) -> Summary:
        return Summary(
            out=self.out,
            images=builder.images,
            empty=builder.empty,
            objects=builder.objects,
            by_class=builder.by_class(self.resume_log.class_names),
            splits=dict(sorted(builder.splits.items())),
            failures=tuple(builder.failures),
            without_mask=builder.without_mask,
            losses=writers.losses,
            done_before=self.done_before,
            seconds=round(time.monotonic() - self.started, 3),
            files=tuple(files),
        )


def auto_annotate(
    data: DataLike,
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
    images: str = "link",
    segmentation: str = "rle",
    min_iou: float = 0.98,
    detector_masks: bool = False,
    precision: str = "fp32",
    batch: int = 0,
    workers: int = 1,
    review_fraction: float = 0.02,
    detect_every: int = 10,
    everything: str = "default",
    resume: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Label a folder of images and videos: a detector finds objects, a segmenting model draws them.

    `data` is a folder (with all below it), a glob, a file, or a list of these. `det_model` is the name or file of a
    detector, "everything" (what is there, without classes; needs no download), any function from an image to (boxes,
    scores, classes), or a `masklet.detect.Detector`; detectors that take words are asked for `text`. `sam_model` is
    what `SAM` takes: None is the model in the package, and "" sam2_b.pt, or with "everything" that in the package.
    Detections have a score of `conf` or more, overlap by less than `iou`, are sought in images of `imgsz` pixels, are
    at most `max_det`, and only of `classes` (numbers or names).

    Labels go to `output_dir`, by default a folder beside the data (photos_auto_annotate_labels): a YOLO-seg text for
    each image, below the same folders. `formats`, of "yolo", "coco", "labelme", "davis", "voc", "cvat", go to
    output_dir/FORMAT each instead; `split=0.8` puts so many images into train and the rest into val, always the
    same; `images` is "link", "copy", or "none" to leave them where they are; `segmentation` is "rle", "polygon"
    (which keeps `min_iou` of each mask) or "both", where a format has the choice. `detector_masks` takes the masks of
    a detector that draws its own. `everything` is how densely that one asks: "fast", "default" or "fine". `review` is
    the share of images on the review sheet. Of a video every frame is labeled: the detector looks at each `every`-th,
    what it finds is followed in between and keeps its number.

    An image that cannot be read is listed in the summary and skipped. Stopped at any moment, a call with the same
    arguments goes on (`resume=False` begins anew). `workers` processes need a script with
    `if __name__ == "__main__":`. `report` is called with each `Progress`.

    Example:
        >>> from masklet import auto_annotate
        >>> summary = auto_annotate("photos", det_model="everything")
        >>> print(summary)
        50 image(s), 412 object(s), 0 image(s) without any
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
        write_options=WriteOptions(segmentation=segmentation, min_iou=min_iou, images=images),
        split=split,
        batch=batch,
        workers=workers,
        review_fraction=review_fraction,
        detect_every=detect_every,
        everything=everything,
    )
    summary: Summary | None = None
    for progress in annotate(data, options, output_dir, resume=resume):
        summary = progress.summary
        if on_progress is not None and summary is None:
            on_progress(progress)
    assert summary is not None
    return summary
