"""Automatic annotation: `annotate` yields progress, `auto_annotate` runs to the end.

Annotations are stored in a log first and written as labels then. Wherever a run stops, the next one resumes: inputs in
the log are not annotated again, and labels that are missing are written from it.
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
from masklet.annotate.annotation_records import unexpected_failure
from masklet.annotate.events import FrameDone
from masklet.annotate.inputs import DataLike, InputFile, assign_splits, default_output_dir, list_inputs
from masklet.annotate.labeler import annotate_batches
from masklet.annotate.output_writers import FormatWriters, remove_previous_output
from masklet.annotate.resume_log import AnnotationLog
from masklet.annotate.review_page import ReviewQueue, write_review
from masklet.annotate.summary import Failure, Summary, SummaryBuilder
from masklet.annotate.videos import attach_frames
from masklet.atomic_files import is_name_refused, write_text
from masklet.datasets import WriteOptions
from masklet.datasets.write_log import STATE_FOLDER
from masklet.detect.detector import DetectOptions
from masklet.errors import InputError, MaskletWarning, OutputError
from masklet.media.image_source import natural_key
from masklet.written_files import WrittenFiles

__all__ = ["Progress", "annotate", "auto_annotate"]

REVIEW_FILE, SUMMARY_FILE = "review.html", "summary.json"


@dataclass(frozen=True)
class Progress:
    """The state of a run after an image, a frame or a video.

    Args:
        name: The input that is done; empty at the end of the run.
        objects: Number of its objects.
        failure: Why it could not be annotated; empty if it was.
        done: Number of inputs that are done, of `total`.
        done_before: How many of them an earlier run annotated.
        frame_idx: Frame number within a video that is in progress, of `num_frames` (None if unknown).
        summary: The summary, at the end of the run.
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
    """Annotate every image and video of `data`: yield a `Progress` per input and frame, and the summary at the end.

    Labels go to `output_dir`, by default that of `default_output_dir`. With `resume` a run with the same options
    resumes an earlier run into the same folder; without, the files of the earlier run are removed first. Leaving the
    iterator early loses nothing.

    Example:
        >>> for progress in annotate("photos", AnnotateOptions("everything"), "labels"):  # doctest: +SKIP
        ...     print(progress.done, progress.total, progress.name, progress.objects)

    Raises:
        SourceError: if there is nothing to annotate.
        InputError: if an option is invalid, or differs from that of the earlier run.
        OutputError: if the folder cannot be written, is full, or another run writes it.
        ModelError: if a model cannot be loaded.
        StateError: if a worker process ended unexpectedly.
    """
    options = options or AnnotateOptions()
    out = Path(default_output_dir(data) if output_dir is None else output_dir)
    items = assign_splits(list_inputs(data, exclude=out), options.val_fraction)
    return _AnnotationRun(items, options, out, resume).run()


class _AnnotationRun:
    """The state of a run."""

    def __init__(self, items: Sequence[InputFile], options: AnnotateOptions, out: Path, resume: bool) -> None:
        self.items, self.options, self.out, self.resume = items, options, out, resume
        self.log = AnnotationLog(out)
        self.files = WrittenFiles(out, overwrite=not resume, database=f"{STATE_FOLDER}/annotate_files.sqlite")
        self.write_failures: list[Failure] = []
        self.done = self.done_before = 0
        self.started = time.monotonic()

    def run(self) -> Generator[Progress, None, None]:
        """Annotate every input that is not done yet."""
        overwrite = not self.resume
        with self.log as log, FormatWriters(self.out, self.options, overwrite=overwrite, inputs=self.items) as writers:
            todo = self._plan()
            if log.entries:
                own = [self.out / name for name in (REVIEW_FILE, SUMMARY_FILE) if (self.out / name).exists()]
                if not self.files.database.exists():  # an earlier version kept no record
                    self.files.record_existing(own)
                self.files.check(*own)
                writers.open(log.class_names)
            for name, entry in log.entries.items():  # annotated by a run that stopped before it wrote the labels
                labels = [name] if entry.count == 1 else (record.name for record in log.records(name))
                if not entry.failed and any(writers.is_missing(label, log.class_names) for label in labels):
                    self._write_labels(writers, name)
            for event in annotate_batches(self._batches(todo), self.options, log.folder):
                if isinstance(event, FrameDone):
                    yield self._progress(event.item, event.objects, "", event.frame_idx, event.num_frames)
                    continue
                log.add_class_names(event.class_names)
                log.append(one.to_pending_entry() for one in event.done)
                for one in event.done:
                    if one.records_file is not None:
                        one.records_file.unlink(missing_ok=True)
                failures = [one.failure or self._write_labels(writers, one.item.name) for one in event.done]
                for one, failure in zip(event.done, failures, strict=True):
                    self.done += 1
                    yield self._progress(one.item, one.objects, failure)
            yield self._finalize(writers)

    def _plan(self) -> set[InputFile]:
        """Open the log, and return the inputs that are not in it."""
        log = self.log
        if not self.resume and log.has_previous_run:
            remove_previous_output(self.out, *log.previous_run())
        log.start(self.options.settings(), overwrite=not self.resume)
        known = {name: entry for name, entry in log.entries.items() if not entry.failed}
        todo = {item for item in self.items if item.name not in known}
        self.done = self.done_before = len(self.items) - len(todo)
        changed = [
            item.name
            for item in self.items
            if item.name in known and item.fingerprint() != known[item.name].fingerprint
        ]
        if changed:
            warnings.warn(
                f"{len(changed)} image(s) changed since they were annotated ({changed[0]}, ...) and keep their "
                "labels; overwrite the earlier run to annotate them again (resume=False, --overwrite)",
                MaskletWarning,
                stacklevel=4,
            )
        return todo

    def _batches(self, todo: set[InputFile]) -> Iterator[list[InputFile]]:
        """Group the images to do, then one video per batch.

        Batches are cut from all images, so that a batch has the same ones when a run is resumed.
        """
        size = self.options.batch_size
        images = [item for item in self.items if not item.is_video]
        for start in range(0, len(images), size):
            batch = [item for item in images[start : start + size] if item in todo]
            if batch:
                yield batch
        yield from ([item] for item in self.items if item.is_video and item in todo)

    def _write_labels(self, writers: FormatWriters, name: str) -> str:
        """Write the labels of one input from the log; returns why they could not be written, or an empty text.

        The annotations stay in the log, so that the next run tries again.

        Raises:
            OutputError: if the folder cannot be written, or has a file of somebody else.
        """
        records = self.log.records(name)
        with_frames = bool(self.options.formats)  # dataset formats need the frames of videos as images
        pairs = attach_frames(records) if with_frames else ((record, None) for record in records)
        try:
            for record, rgb in pairs:
                writers.write(record, self.log.class_names, rgb)
            return ""
        except OutputError as error:
            if not is_name_refused(error):
                raise
            reason = str(error)
        except InputError as error:
            reason = str(error)
        except Exception as error:
            reason = unexpected_failure(name, error)
        self.write_failures.append(Failure(name, reason))
        return reason

    def _progress(
        self,
        item: InputFile,
        objects: int,
        failure: str,
        frame_idx: int | None = None,
        num_frames: int | None = None,
    ) -> Progress:
        return Progress(
            item.name, item.path, objects, failure, self.done, len(self.items), self.done_before, frame_idx, num_frames
        )

    def _finalize(self, writers: FormatWriters) -> Progress:
        """Write the files of the entire run: those of the datasets, the review page, the summary."""
        log, names = self.log, self.log.class_names
        writers.finalize(names)
        conf = None if self.options.uses_mask_generator else self.options.detect.conf
        num_images = sum(entry.count for entry in log.entries.values() if not entry.failed)
        counts, queue = SummaryBuilder(), ReviewQueue(self.options.review_fraction, num_images, conf)
        for name in sorted(log.entries, key=natural_key):
            for index, record in enumerate(log.records(name)):
                counts.add(record)
                queue.add(name, index, record)
        files = list(writers.files)
        if self.options.review_fraction:
            uncertain = (next(islice(log.records(one.name), one.record_index, None)) for one in queue.items())
            with self.files.protect():
                files.append(write_review(self.out / REVIEW_FILE, uncertain, names, conf, counts.failures))
        summary = Summary(
            out=self.out,
            images=counts.images,
            empty=counts.empty,
            objects=counts.objects,
            by_class={
                names.get(class_id, str(class_id)): count for class_id, count in counts.class_counts.most_common()
            },
            splits=dict(sorted(counts.splits.items())),
            failures=(*counts.failures, *self.write_failures),
            without_mask=counts.without_mask,
            losses=writers.losses,
            done_before=self.done_before,
            seconds=round(time.monotonic() - self.started, 3),
            files=tuple(files),
            written=writers.written,
        )
        with self.files.protect():
            write_text(self.out / SUMMARY_FILE, summary.to_json())
        self.files.close()
        return Progress("", "", counts.objects, "", self.done, len(self.items), self.done_before, summary=summary)


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
    val_fraction: float | None = None,
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
    """Label images and videos: a detector finds objects, a segmentation model draws their masks.

    Labels go to `output_dir`: a YOLO-seg text per image, in the same subfolders, or each of `formats` in
    output_dir/FORMAT. Every frame of a video is labeled: the detector runs on every `detect_every`-th frame, and
    objects are tracked in between and keep their ids.

    An image that cannot be read is skipped and listed in the summary. A call with the same arguments resumes a run that
    was stopped. A script that uses `workers` needs `if __name__ == "__main__":`.

    Args:
        data: A folder (with its subfolders), a glob, a file, or a list of these.
        det_model: Name or file of a detector, "everything" (automatic mask generation, without classes; needs no
            download), a function from an image to (boxes, scores, classes), or a `masklet.detect.Detector`.
        sam_model: The model of the masks, as `SAM` takes it: None is the built-in model, and "" is sam2_b.pt, or the
            built-in model with "everything".
        conf: Lowest score of a detection.
        iou: Overlap above which the weaker of two boxes is removed.
        imgsz: Image size of the detector in pixels.
        max_det: Maximum number of detections per image.
        classes: Numbers or names of the classes to label; None labels all.
        output_dir: By default next to the data, for example photos_auto_annotate_labels.
        text: Prompt of detectors that take text.
        formats: Some of "yolo", "coco", "labelme", "davis", "voc" and "cvat".
        val_fraction: Fraction of the images for validation, chosen by a hash of their names; None does not split.
        images: "link", "copy", or "none" to leave the images where they are.
        segmentation: "rle", "polygon" (which keeps `min_iou` of each mask) or "both", for formats with a choice.
        detector_masks: Use the masks of a detector that has its own.
        batch: Images per call of the detector; 0 chooses.
        workers: Number of processes.
        review_fraction: Fraction of the images on the review page.
        everything: Density of "everything": "fast", "default" or "fine".
        resume: Whether to resume an earlier run; False overwrites it.
        on_progress: Called with each `Progress`.

    Example:
        >>> from masklet import auto_annotate
        >>> print(auto_annotate("photos", det_model="everything"))  # doctest: +SKIP
        50 image(s), 412 object(s), 0 image(s) without any
        ...

    Raises:
        SourceError: if there is nothing to annotate.
        InputError: if an argument is invalid, the detector lacks a class, or the output folder has a run with other
            arguments.
        OutputError: if the folder cannot be written, is full, or another run writes it.
        ModelError: if a model cannot be loaded.
        MissingExtraError: if the detector needs the extra `transformers`.
    """
    selected = None if classes is None else (classes,) if isinstance(classes, (int, str)) else tuple(classes)
    options = AnnotateOptions(
        det_model=det_model,
        sam_model=sam_model,
        device=device,
        precision=precision,
        detect=DetectOptions(conf, iou, imgsz, max_det, selected, text),
        detector_masks=detector_masks,
        formats=(formats,) if isinstance(formats, str) else tuple(formats),
        write_options=WriteOptions(segmentation=segmentation, min_iou=min_iou, images=images),
        val_fraction=val_fraction,
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
