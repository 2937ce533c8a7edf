"""Automatic annotation as a stream of progress: who calls it shows what he likes, and stops when he likes.

What was found is remembered first and written then, so that wherever a run stops, the next one goes on from there: what
is in the journal is not looked at again, and labels that are missing are written from it.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from masklet.annotate.finding import BatchDone, ItemDone
from masklet.annotate.journal import Journal, Kept
from masklet.annotate.listing import Data, Item, default_output, list_items, split
from masklet.annotate.options import AnnotateOptions
from masklet.annotate.outputs import Shelf, clear
from masklet.annotate.pool import worked
from masklet.annotate.records import Record
from masklet.annotate.review import Pile, write_review
from masklet.annotate.summary import Summary, Tally
from masklet.errors import MaskletWarning
from masklet.files import write_text

__all__ = ["Progress", "annotate"]

REVIEW, SUMMARY = "review.html", "summary.json"


@dataclass(frozen=True)
class Progress:
    """What was just done: `name` with so many `objects`, or why it failed; how far the run is.

    `done` of `total` pictures and films are done, `earlier` of them by a run before. The last one of a run has the
    `summary`, and no name.
    """

    name: str
    path: str
    objects: int
    failure: str
    done: int
    total: int
    earlier: int
    summary: Summary | None = None


def annotate(
    data: Data,
    options: AnnotateOptions | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    resume: bool = True,
) -> Iterator[Progress]:
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

    def all(self) -> Iterator[Progress]:
        """Everything that is not done yet."""
        with self.journal as journal, Shelf(self.out, self.options) as shelf:
            self._begin()
            self._catch_up(shelf)
            for batch in worked(self._batches(), self.options):
                journal.learn(batch.names)
                journal.add(_kept(one) for one in batch.done)
                for one in batch.done:
                    self._write(shelf, one.item.name)
                yield from self._told(batch)
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
            if not entry.failed and (entry.count > 1 or shelf.lacks(name, self.journal.names)):
                self._write(shelf, name)

    def _write(self, shelf: Shelf, name: str) -> None:
        for record in self.journal.records(name):
            shelf.write(record, self.journal.names)

    def _batches(self) -> Iterator[list[Item]]:
        """Pictures that are to be done, so many at a time: cut from the list as a whole, so that a batch has the same
        pictures when a run goes on."""
        size, todo = self.options.batch_size, set(self._todo)
        for start in range(0, len(self.items), size):
            batch = [item for item in self.items[start : start + size] if item in todo]
            if batch:
                yield batch

    def _told(self, batch: BatchDone) -> Iterator[Progress]:
        for one in batch.done:
            self.done += 1
            item = one.item
            yield Progress(item.name, item.path, one.objects, one.failure, self.done, len(self.items), self.earlier)

    def _finished(self, shelf: Shelf) -> Progress:
        """The end: what belongs to the data as a whole, the review sheet, the summary."""
        journal, names = self.journal, self.journal.names
        shelf.finish(names)
        conf = None if self.options.sees_everything else self.options.detect.conf
        tally, pile = Tally(), Pile(self.options.review, len(journal.entries), conf)
        for name in journal.entries:
            for place, record in enumerate(journal.records(name)):
                tally.add(record)
                pile.add(name, place, record)
        files = list(shelf.files)
        if self.options.review:
            doubtful = (self._record(card.item, card.place) for card in pile.cards())
            files.append(write_review(self.out / REVIEW, doubtful, names, conf, tally.failures))
        summary = self._summary(tally, shelf, files)
        write_text(self.out / SUMMARY, summary.to_json())
        return Progress("", "", tally.objects, "", self.done, len(self.items), self.earlier, summary)

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


def _kept(one: ItemDone) -> Kept:
    lines = [record.to_line() for record in one.records]
    return Kept(one.item.name, one.stamp, len(lines), lines, bool(one.failure))
