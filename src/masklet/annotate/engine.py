"""Automatic annotation as a stream of progress: who calls it shows what he likes, and stops when he likes.

What was found is remembered first and written then, so that wherever a run stops, the next one goes on from there: what
is in the journal is not looked at again, and labels that are missing are written from it.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from masklet.annotate.films import with_pixels
from masklet.annotate.journal import Entry, Journal
from masklet.annotate.listing import Data, Item, default_output, list_items, split
from masklet.annotate.options import AnnotateOptions
from masklet.annotate.outputs import Shelf, clear
from masklet.annotate.pool import worked
from masklet.annotate.records import Record
from masklet.annotate.review import Pile, write_review
from masklet.annotate.steps import BatchDone, FrameDone
from masklet.annotate.summary import Summary, Tally
from masklet.errors import MaskletWarning
from masklet.files import write_text
from masklet.media.sources import natural_key

__all__ = ["Progress", "annotate"]

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
