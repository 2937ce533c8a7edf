"""Run a stage over the items of a source: resumable, shared between processes, one file for each item.

    OUT/batch.json      the task and its settings, the same for all processes
    OUT/items/          the file of each finished item
    OUT/failed/         why an item failed, until it succeeds
    OUT/manifest/       a line for each item

A process takes the lease of an item, reads it, processes it, writes its file and its line, and gives the lease back.
Whatever stops it, the next one processes the items that have no complete file.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias, get_args

from masklet.damaged_files import decoder_errors
from masklet.errors import InputError, MaskletError, MissingExtraError, ModelError, OutputError
from masklet.scale.batch_manifest import ManifestRow, ManifestWriter, read_manifests
from masklet.scale.crash_marks import CrashMarks
from masklet.scale.item_files import (
    FAILED_FOLDER,
    ITEMS_FOLDER,
    encode_row,
    file_of_item,
    find_item_file,
    read_item_file,
)
from masklet.scale.items import Item, ItemSource, shard_key
from masklet.scale.leases import Leases
from masklet.scale.read_ahead import ItemContent, read_ahead, read_item
from masklet.scale.redact_urls import redact_urls
from masklet.scale.shards import Shard, name_hash
from masklet.scale.stage_rows import Cell, InputColumns, OutputColumns
from masklet.scale.storage import join_location, storage_of

__all__ = [
    "BatchOptions",
    "BatchProgress",
    "BatchWorker",
    "StageFunction",
    "check_batch_settings",
    "read_settings",
    "run_batch",
]

Outcome: TypeAlias = Literal["done", "failed", "finished before"]
StageFunction: TypeAlias = "Callable[[InputColumns], OutputColumns]"
"""A `masklet.scale.Stage`, or a function like one."""

SETTINGS_FILE = "batch.json"
STATE_FOLDER = ".masklet"
MAX_STORING = 8
"""Items whose files are being written while the stage goes on."""
MAX_DEFERRED = 1000
"""Items of other processes that are remembered before it is checked which are finished."""
FIRST_POLL_S, LONGEST_POLL_S = 0.1, 5.0
"""Between two looks at the items that other processes have."""


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run.

    Args:
        batch_size: Images that go into the stage together; a video goes alone.
        read_ahead: Items that are read before the stage needs them.
        read_threads: Threads that read them.
        lease_s: Seconds after which the item of a process that stands still is taken by another one.
        resume: Keep the items that are finished; False: process those of the shard again.
        max_crashes: How often an item may end the process that runs it alone, before it is a failed item.

    Raises:
        InputError: if a number is not positive.
    """

    batch_size: int = 1
    read_ahead: int = 16
    read_threads: int = 4
    lease_s: float = 120.0
    resume: bool = True
    max_crashes: int = 3

    def __post_init__(self) -> None:
        for name in ("batch_size", "read_ahead", "read_threads", "max_crashes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)!r} is too few: use 1 or more")


@dataclass(frozen=True)
class BatchProgress:
    """The state of a run after an item.

    Args:
        item: Its name.
        outcome: "done", "failed", or "finished before": by an earlier run, or by another process of this one.
        error: Why it failed.
        seconds: Of the stage.
        done, failed, finished_before: Items until now.
    """

    item: str
    outcome: Outcome
    error: str
    seconds: float
    done: int
    failed: int
    finished_before: int


def run_batch(
    source: ItemSource,
    stage: StageFunction,
    out: str | os.PathLike[str],
    options: BatchOptions | None = None,
    *,
    settings: Mapping[str, Cell] | None = None,
) -> Generator[BatchProgress, None, None]:
    """Process the items of `source` that are not finished, and yield the progress after each.

    Several processes may do so at once, with different shards or with the same: no item is processed twice. An item
    that fails has a row with the reason; the others go on. Items that another process has at the end are waited for,
    and processed if that process ends before.

    `settings` are stored with the output: a run with others is refused.

    Example:
        >>> from masklet.scale import Segmenter
        >>> for progress in run_batch(ItemSource(["photos"]), Segmenter(), "out"):  # doctest: +SKIP
        ...     print(progress.item, progress.outcome, progress.error)

    Raises:
        SourceError: if the source has no item, or cannot be listed.
        InputError: if `out` has a run with other settings.
        OutputError: if `out` cannot be written.
        ModelError, MissingExtraError: if a model cannot be opened.
    """
    options = options or BatchOptions()
    check_batch_settings(os.fspath(out), settings or {}, resume=options.resume)
    with BatchWorker(stage, out, options, source.shard) as worker:
        if options.resume:
            worker.read_finished()
        yield from worker.process(source)
    source.check_listed()


def check_batch_settings(out: str, settings: Mapping[str, Cell], *, resume: bool) -> None:
    """Store the settings of a run, or compare them with those of the run that `out` has.

    Raises:
        InputError: if `out` has a run with other settings, which is to be resumed.
        OutputError: if `out` cannot be written.
    """
    storage, location = storage_of(out), join_location(out, SETTINGS_FILE)
    content = json.dumps(dict(settings), indent=2, sort_keys=True).encode() + b"\n"
    if storage.create(location, content):
        return
    if not resume:
        storage.write(location, content)
        return
    before, now = read_settings(out), json.loads(content)
    changes = {name for name in {**before, **now} if before.get(name) != now.get(name)}
    if changes:
        listed = "; ".join(
            f"{name} was {before.get(name)!r:.80}, now {now.get(name)!r:.80}" for name in sorted(changes)
        )
        raise InputError(
            f"{out} has a batch with other settings ({listed}): use the same, choose another folder, or "
            "process the items again (resume=False, --overwrite)"
        )


def read_settings(out: str) -> dict[str, Cell]:
    """Return the settings of the batch that wrote into `out`.

    Raises:
        SourceError: if there is none, or it cannot be read.
        InputError: if its file is of something else.
    """
    location = join_location(out, SETTINGS_FILE)
    try:
        settings = json.loads(storage_of(location).read(location))
    except ValueError as error:
        if isinstance(error, MaskletError):
            raise
        raise InputError(f"{location} is no file of a batch ({error}): choose another folder") from error
    if not isinstance(settings, dict):
        raise InputError(f"{location} is no file of a batch: choose another folder")
    return settings


@dataclass(frozen=True)
class _Prepared:
    """An item, and what became of it on a thread: it is finished, busy (another process has it), or ready."""

    item: Item
    state: Literal["finished", "busy", "ready"]
    content: ItemContent | None = field(default=None, repr=False)
    problem: str = ""
    is_suspect: bool = False
    """A process ended that had it."""
    failed_before: bool = False


@dataclass(frozen=True)
class _Stored:
    """What became of an item."""

    item: Item
    outcome: Outcome
    error: str = ""
    seconds: float = 0.0


class BatchWorker:
    """Processes items into `out`, in one process of a run; a context manager.

    Example:
        >>> with BatchWorker(Segmenter(), "out") as worker:  # doctest: +SKIP
        ...     for progress in worker.process(ItemSource(["photos"])):
        ...         print(progress.item, progress.outcome)
    """

    def __init__(
        self,
        stage: StageFunction,
        out: str | os.PathLike[str],
        options: BatchOptions | None = None,
        shard: Shard | None = None,
    ) -> None:
        self.stage, self.out = stage, os.fspath(out)
        self.options, self.shard = options or BatchOptions(), shard or Shard()
        self.storage = storage_of(self.out)
        self.started_at = time.time()
        self.leases = Leases(self.storage, join_location(self.out, f"{STATE_FOLDER}/leases"), self.options.lease_s)
        self.crash_marks = CrashMarks(
            self.storage, join_location(self.out, f"{STATE_FOLDER}/crashes"), self.options.max_crashes
        )
        key = f"{self.shard.index:05d}-of-{self.shard.count:05d}.{self.leases.owner.key}"
        self.manifest = ManifestWriter(self.storage, self.out, key)
        self.temp_dir = Path()
        self.known: dict[int, int] = {}
        """Size of the file of each finished item of the shard, by the hash of its name."""
        self.deferred: list[Item] = []
        self.storing: deque[Future[_Stored]] = deque()
        self.counts: Counter[Outcome] = Counter()
        self._open = ExitStack()

    def __enter__(self) -> BatchWorker:
        with ExitStack() as stack:
            self.temp_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="masklet-batch-")))
            stack.enter_context(self.leases)
            stack.enter_context(self.manifest)
            self.writers = ThreadPoolExecutor(4, thread_name_prefix="masklet batch")
            stack.callback(self.writers.shutdown)  # it waits for the files that are being written
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def read_finished(self) -> None:
        """Read from the manifests which items of the shard are finished, so that they cost no look at their files."""
        rows = (row for row in read_manifests(self.storage, self.out) if row.outcome == "done")
        self.known = {name_hash(row.item): row.size for row in rows if self.shard.has(shard_key(row.item))}

    def process(self, items: Iterable[Item]) -> Iterator[BatchProgress]:
        """Process items, and wait for those that other processes have; `items` can be iterated again.

        Raises:
            OutputError: if `out` cannot be written.
            ModelError, MissingExtraError: if a model cannot be opened.
        """
        yield from self._process(items)
        pause = FIRST_POLL_S
        while self.deferred:
            yield from self._drop_finished()
            if self.deferred:
                again, self.deferred = self.deferred, []
                yield from self._process(_listed_again(again, items))
                if len(self.deferred) == len(again):
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_POLL_S, self.options.lease_s / 4)

    def _process(self, items: Iterable[Item]) -> Iterator[BatchProgress]:
        """Process the items that are not finished; those of other processes are deferred."""
        ready = list[_Prepared]()
        options = self.options
        ahead = read_ahead(items, self._prepare, threads=options.read_threads, max_items=options.read_ahead)
        with closing(ahead):
            for prepared in ahead:
                if prepared.state == "ready":
                    ready.append(prepared)
                    if len(ready) >= options.batch_size or prepared.item.is_video:
                        yield from self._run_stage(ready)
                        ready = []
                elif prepared.state == "busy":
                    yield from self._defer(prepared.item)
                else:
                    yield self._count(_Stored(prepared.item, "finished before"))
            yield from self._run_stage(ready)
        while self.storing:
            yield self._count(self.storing.popleft().result())

    def _prepare(self, item: Item) -> _Prepared:
        """Find out whether an item is to be processed, take its lease and read it; on a thread."""
        if self.is_known(item.name):
            return _Prepared(item, "finished")
        if not self.leases.take(item.name):
            return _Prepared(item, "busy")
        failed_at = self._failed_at(item)
        if self._is_finished(item, failed_at):
            self.leases.release(item.name)
            return _Prepared(item, "finished")
        ready = _Prepared(item, "ready", is_suspect=self.leases.num_ended(item.name) > 0, failed_before=failed_at > 0)
        try:
            return replace(ready, content=read_item(item, self.temp_dir))
        except InputError as error:
            return replace(ready, problem=str(error))
        except MaskletError:
            raise
        except Exception as error:
            return replace(ready, problem=_unexpected(item, error))

    def _failed_at(self, item: Item) -> float:
        """Return when the item failed, in seconds since 1970; 0 if it did not."""
        content = self.storage.read_if_there(file_of_item(self.out, FAILED_FOLDER, item.name) + ".json")
        try:
            return 0.0 if content is None else float(json.loads(content)["at"])
        except decoder_errors():
            return 1.0  # it was cut short: long ago

    def is_known(self, name: str) -> bool:
        """Whether `read_finished` found the item, and its file is complete; objects always are."""
        size = self.known.get(name_hash(name))
        if size is None or self.storage.is_remote:
            return size is not None
        file = find_item_file(self.out, ITEMS_FOLDER, name, self.storage)
        return file is not None and file.size == size

    def _is_finished(self, item: Item, failed_at: float) -> bool:
        """Whether another process has finished the item since, or failed to, or was killed before it wrote its line."""
        if failed_at >= self.started_at:
            return True
        if not self.options.resume:
            return self._is_new(ITEMS_FOLDER, item)
        found = read_item_file(self.out, item.name, self.storage)
        if found is None:
            return False
        row, size = found
        self.manifest.add(self._manifest_row(item, str(row.get("sha256", "")), size, 0.0, ""))
        return True

    def _count(self, stored: _Stored) -> BatchProgress:
        self.counts[stored.outcome] += 1
        numbers = (self.counts[outcome] for outcome in get_args(Outcome))
        return BatchProgress(stored.item.name, stored.outcome, stored.error, stored.seconds, *numbers)

    def _defer(self, item: Item) -> Iterator[BatchProgress]:
        """Remember an item of another process; of an archive, its content is read again if it is needed."""
        self.deferred.append(replace(item, content=None))
        if len(self.deferred) >= MAX_DEFERRED:
            yield from self._drop_finished()

    def _drop_finished(self) -> Iterator[BatchProgress]:
        """Count the deferred items that other processes have finished meanwhile."""
        waiting = []
        for item in self.deferred:
            if self._is_new(ITEMS_FOLDER, item) or self._is_new(FAILED_FOLDER, item):
                yield self._count(_Stored(item, "finished before"))
            else:
                waiting.append(item)
        self.deferred = waiting

    def _is_new(self, folder: str, item: Item) -> bool:
        """Whether the file of an item was written since this process started."""
        file = find_item_file(self.out, folder, item.name, self.storage)
        return file is not None and (file.modified or 0) >= self.started_at

    def _run_stage(self, batch: Sequence[_Prepared]) -> Iterator[BatchProgress]:
        """Process items that are read, and write what comes out on threads."""
        images = [one for one in batch if not one.problem and not one.item.is_video and not one.is_suspect]
        alone = [[one] for one in batch if not one.problem and (one.item.is_video or one.is_suspect)]
        for one in batch:
            if one.problem:
                self.storing.append(self.writers.submit(self._store, one, {"error": one.problem}, 0.0))
        for group in [images, *alone]:
            if group:
                started = time.monotonic()
                rows = self._call_stage(group) if not group[0].is_suspect else [self._call_alone(group[0])]
                seconds = (time.monotonic() - started) / len(group)
                for one, row in zip(group, rows, strict=True):
                    self.storing.append(self.writers.submit(self._store, one, row, seconds))
        while len(self.storing) > MAX_STORING or (self.storing and self.storing[0].done()):
            yield self._count(self.storing.popleft().result())

    def _call_stage(self, batch: Sequence[_Prepared]) -> list[Mapping[str, Cell]]:
        """Return the row of each item; where the stage fails as a whole, its items go in one by one."""
        try:
            columns = self.stage(_columns(batch))
        except (ModelError, MissingExtraError, OutputError):
            raise
        except Exception as error:
            if len(batch) > 1:
                return [row for one in batch for row in self._call_stage([one])]
            expected = isinstance(error, InputError)
            return [{"error": str(error) if expected else _unexpected(batch[0].item, error)}]
        return [{name: column[row] for name, column in columns.items()} for row in range(len(batch))]

    def _call_alone(self, one: _Prepared) -> Mapping[str, Cell]:
        """Return the row of an item that a process had which ended; it may be what ended it."""
        name = one.item.name
        if self.crash_marks.add(name):
            [row] = self._call_stage([one])
        else:
            row = {
                "error": f"{one.item.source}: the process ended {self.options.max_crashes} times while this item ran "
                "alone; it crashes a library or needs more memory than there is: remove it, or make it smaller"
            }
        self.crash_marks.clear(name)
        return row

    def _store(self, one: _Prepared, row: Mapping[str, Cell], seconds: float) -> _Stored:
        """Write the file and the line of an item, and give its lease back; on a thread."""
        item, content = one.item, one.content
        error = redact_urls(str(row.get("error") or ""))
        digest = "" if content is None else content.sha256
        if content is not None:
            content.discard()
        if self.leases.is_lost(item.name):  # whoever has it now writes it
            self.leases.release(item.name)
            return _Stored(item, "finished before")
        failure = file_of_item(self.out, FAILED_FOLDER, item.name) + ".json"
        if error:
            size = 0
            document = {"item": item.name, "source": item.source, "error": error, "at": round(time.time(), 3)}
            self.storage.write(failure, json.dumps(document).encode() + b"\n")
        else:
            suffix, encoded = encode_row({"item": item.name, "sha256": digest, **row})
            size = len(encoded)
            self.storage.write(file_of_item(self.out, ITEMS_FOLDER, item.name) + suffix, encoded)
            if one.failed_before:
                self.storage.remove(failure)
        self.manifest.add(self._manifest_row(item, digest, size, seconds, error))
        self.leases.release(item.name)
        return _Stored(item, "failed" if error else "done", error, seconds)

    def _manifest_row(self, item: Item, digest: str, size: int, seconds: float, error: str) -> ManifestRow:
        return ManifestRow(
            item=item.name,
            source=item.source,
            sha256=digest,
            size=size,
            seconds=round(seconds, 4),
            outcome="failed" if error else "done",
            error=error,
            shard=str(self.shard),
            at=round(time.time(), 3),
        )


def _listed_again(waiting: Sequence[Item], items: Iterable[Item]) -> Iterator[Item]:
    """Yield items that waited; of archives, whose content was not kept, as they are listed in `items` once more."""
    archived = {item.name for item in waiting if shard_key(item.name) != item.name}
    yield from (item for item in waiting if item.name not in archived)
    if archived:
        yield from (item for item in items if item.name in archived)


def _unexpected(item: Item, error: Exception) -> str:
    from masklet.annotate.annotation_records import unexpected_failure  # it loads PyTorch, which few runs need for it

    return unexpected_failure(item.source, error)


def _columns(batch: Sequence[_Prepared]) -> InputColumns:
    """Return the input columns of a stage: images as bytes, a video as a path."""
    columns: dict[str, list[Cell]] = {"item": [one.item.name for one in batch]}
    contents = [one.content for one in batch if one.content is not None]
    if batch[0].item.is_video:
        columns["path"] = [str(one.path) for one in contents]
    else:
        columns["bytes"] = [one.content for one in contents]
    for name in sorted({name for one in batch for name in one.item.prompts}):
        columns[name] = [one.item.prompts.get(name) for one in batch]
    return columns
