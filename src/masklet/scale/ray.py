"""Run stages on a Ray cluster: every item once, whatever ends meanwhile.

Ray Data hands the names of items to processes, starts new ones where some end, and knows which part of a GPU each has.
A process reads its items, runs the stage and writes the files of `masklet.scale.run_batch`, so that the driver sees
names and counts alone, the folder is that of `masklet batch`, and a run that was stopped resumes with what is missing.
An error that is about every item, such as a model that cannot be opened, ends the run at once.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias

from masklet.errors import InputError, MaskletError, MissingExtraError
from masklet.scale.actor_plan import LARGEST_MEMORY, ActorPlan, RayOptions, measure_stage, plan_actors
from masklet.scale.arrow_columns import arrow_table
from masklet.scale.items import Item, ItemSource
from masklet.scale.run_batch import (
    BatchOptions,
    BatchProgress,
    BatchWorker,
    Outcome,
    StageFunction,
    check_batch_settings,
)
from masklet.scale.stage_base import Stage
from masklet.scale.stage_rows import PROMPT_COLUMNS, Cell, InputColumns

if TYPE_CHECKING:
    import pyarrow
    import ray.data

    from masklet.scale.stages import Annotator, Embedder, Segmenter, VideoTracker

__all__ = ["RayOptions", "RunSummary", "annotate", "embed", "join_cluster", "map_stage", "run", "segment", "track"]

RowSource: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | ray.data.Dataset"
"""What `ItemSource` reads, or a dataset with the columns item or path, and bytes if the path is no file."""

MAX_PLANNED_ITEMS = 50_000
"""Items that are listed before the run begins, to divide them; the others are listed while it runs."""
DATASET_ROWS = 16
"""Rows of a dataset that a process is handed at once, if they are not measured: they may have their bytes."""
NO_PROGRESS_TIMEOUT_S = 24 * 3600.0
"""A long video takes hours; Ray ends a run after half an hour without a finished block."""
FIRST_ERRORS = 10
NEW_CLUSTER = "local"
"""Ray's word for a new cluster; without an address it would join any that runs on the machine."""
REPORT_COLUMNS = ("item", "outcome", "error", "seconds", "raised")
"""What a process reports of each item; a last row has the error that ended it, pickled."""


@dataclass(frozen=True)
class RunSummary:
    """What a run did: items that are done, that failed, and that were finished before, and the first errors."""

    done: int = 0
    failed: int = 0
    finished_before: int = 0
    errors: tuple[str, ...] = ()


def segment(
    source: RowSource, out: str | os.PathLike[str], stage: Segmenter | None = None, options: RayOptions | None = None
) -> RunSummary:
    """Segment the images of a source on a cluster; see `run`.

    Example:
        >>> from masklet.scale import Segmenter
        >>> segment("s3://bucket/photos", "s3://bucket/masks", Segmenter("sam2.1_t.pt"))  # doctest: +SKIP
        RunSummary(done=10000, failed=3, finished_before=0, errors=('s3://bucket/photos/7.jpg is empty ...', ...))
    """
    from masklet.scale.stages import Segmenter

    return summarize_run(run(source, stage or Segmenter(), out, options))


def annotate(
    source: RowSource, out: str | os.PathLike[str], stage: Annotator | None = None, options: RayOptions | None = None
) -> RunSummary:
    """Label the images of a source on a cluster; see `run`."""
    from masklet.scale.stages import Annotator

    return summarize_run(run(source, stage or Annotator(), out, options))


def embed(
    source: RowSource, out: str | os.PathLike[str], stage: Embedder | None = None, options: RayOptions | None = None
) -> RunSummary:
    """Compute the embeddings of the images of a source on a cluster; see `run`."""
    from masklet.scale.stages import Embedder

    return summarize_run(run(source, stage or Embedder(), out, options))


def track(
    source: RowSource, out: str | os.PathLike[str], stage: VideoTracker | None = None, options: RayOptions | None = None
) -> RunSummary:
    """Track objects through the videos of a source on a cluster; see `run`."""
    from masklet.scale.stages import VideoTracker

    return summarize_run(run(source, stage or VideoTracker(), out, options, kind="videos"))


def summarize_run(progress: Iterable[BatchProgress]) -> RunSummary:
    """Run to the end, and count."""
    last, errors = None, list[str]()
    for last in progress:
        if last.error and len(errors) < FIRST_ERRORS:
            errors.append(last.error)
    return RunSummary() if last is None else RunSummary(last.done, last.failed, last.finished_before, tuple(errors))


def run(
    source: RowSource,
    stage: StageFunction,
    out: str | os.PathLike[str],
    options: RayOptions | None = None,
    *,
    settings: Mapping[str, Cell] | None = None,
    kind: str = "images",
) -> Generator[BatchProgress, None, None]:
    """Process the items of `source` that are not finished, and yield the progress after each.

    Uses the cluster that this process has joined, else that of the options. `out`, and paths of the source, are seen by
    all machines. `settings` are stored with the output, and a run with others is refused; None: those of the stage.

    Raises:
        MissingExtraError: if Ray is not installed.
        SourceError: if the source has no item, or cannot be listed.
        InputError: if `out` has a run with other settings, or the source has archives.
        ModelError: if a model cannot be opened.
    """
    try:
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("ray", "ray") from error
    options, out = options or RayOptions(), os.fspath(out)
    if settings is None:
        settings = stage.settings() if isinstance(stage, Stage) else {"stage": repr(stage)}
    check_batch_settings(out, settings, resume=True)
    join_cluster(options.address)
    try:
        if isinstance(source, ray.data.Dataset):
            plan = plan_actors(options, None, _cluster_resources(), 0)
            dataset, rows, num_before = source, options.block_items or DATASET_ROWS, 0
        else:
            sources = [source] if isinstance(source, (str, os.PathLike)) else source
            listed = ItemSource(sources, kind, exclude=out)
            plan, blocks, num_before = _list_unfinished(listed, BatchWorker(stage, out), options)
            if num_before:
                yield BatchProgress("", "finished before", "", 0.0, 0, 0, num_before)
            if not blocks:
                return
            dataset, rows = ray.data.from_arrow_refs(blocks), None
        worker_options = BatchOptions(
            batch_size=options.batch_size, lease_s=options.lease_s, max_crashes=options.max_crashes
        )
        reports = _map_actors(dataset, ItemWriter, (stage, out, worker_options, plan.threads), plan, rows)
        retried: Outcome = "done" if rows is None else "finished before"
        yield from _read_reports(reports, num_before, retried)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MaskletError):  # of the measurement
            raise error.cause from error
        raise


def join_cluster(address: str | None) -> str:
    """Join the cluster at an address, and return which one it is, in words.

    None: the one that this process has joined, else RAY_ADDRESS, else a new one on this machine. A running cluster
    of this machine is joined by "auto" alone.

    Raises:
        MissingExtraError: if Ray is not installed.
        InputError: if there is no cluster at the address.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("ray", "ray") from error
    if ray.is_initialized():
        return "the Ray cluster that this process has joined"
    address = address or os.environ.get("RAY_ADDRESS") or NEW_CLUSTER
    try:
        ray.init(address=address, log_to_driver=False)
    except ConnectionError as error:
        raise InputError(
            f"there is no Ray cluster at {address!r} ({error!s:.200}): start one with `ray start --head`, give another "
            "--address, or leave it out to use this machine alone"
        ) from error
    return "a new Ray cluster on this machine" if address == NEW_CLUSTER else f"the Ray cluster at {address}"


def _list_unfinished(
    source: ItemSource, before: BatchWorker, options: RayOptions
) -> tuple[ActorPlan, list[ray.ObjectRef[pyarrow.Table]], int]:
    """List the items that are not finished, in blocks in the cluster's memory, and count the others.

    The run is planned by the first of them.
    """
    import ray

    before.read_finished()
    unfinished = (item for item in source if not before.is_known(item.name))
    first = list(islice(unfinished, MAX_PLANNED_ITEMS))
    source.check_listed()
    measured = None
    resources = _cluster_resources()
    if source.kind == "videos":  # to measure one may take as long as the run
        options = replace(options, block_items=options.block_items or 1)
    elif first and (options.block_items is None or (resources.get("GPU") and options.gpus is None)):
        gpus = min(1.0, resources.get("GPU", 0.0)) if options.gpus is None else options.gpus
        remote = ray.remote(num_cpus=options.cpus, num_gpus=gpus)(measure_stage)
        measured = ray.get(remote.remote(before.stage, first[0]))
    plan = plan_actors(options, measured, resources, len(first))
    items, blocks, count = chain(first, unfinished), [], 0
    while block := list(islice(items, plan.block_items)):
        blocks.append(ray.put(item_table(block)))
        count += len(block)
    return plan, blocks, source.num_listed - count


def _cluster_resources() -> dict[str, float]:
    """Return what the cluster has, and the memory of its largest machine."""
    import ray

    machines = [node["Resources"].get("memory", 0.0) for node in ray.nodes() if node["Alive"]]
    return {**ray.cluster_resources(), LARGEST_MEMORY: max(machines, default=0.0)}


def item_table(items: Sequence[Item]) -> pyarrow.Table:
    """Return items as rows.

    Raises:
        InputError: if one is in an archive, whose members are read in order, by one process.
    """
    import pyarrow as pa

    archived = next((item for item in items if item.content is not None), None)
    if archived is not None:
        raise InputError(
            f"{archived.name!r} is in an archive, which Ray does not divide: use `masklet batch --shard`, or give "
            "ray.data.read_webdataset(...) with its columns renamed to item and bytes"
        )
    return pa.table(
        {
            "item": [encode_name(item.name) for item in items],
            "path": [encode_name(item.location) for item in items],
            "version": [item.version for item in items],
            "size": pa.array([item.size for item in items], pa.int64()),
            "prompts": [json.dumps(dict(item.prompts)) for item in items],
            "problem": [item.problem for item in items],
        }
    )


def table_items(table: pyarrow.Table) -> list[Item]:
    """Return rows as items: those of `item_table`, or of a dataset with item or path, bytes, and prompts.

    Raises:
        InputError: if the table has neither paths nor bytes.
    """
    if not {"path", "bytes"} & set(table.column_names):
        raise InputError(
            f"columns {', '.join(table.column_names)} have no files: give path or bytes, as of "
            "ray.data.read_binary_files(..., include_paths=True), or use map_stage for images that are decoded"
        )
    items = []
    for row in table.to_pylist():
        prompts = json.loads(row["prompts"]) if "prompts" in row else {}
        prompts |= {name: _as_json(row[name]) for name in PROMPT_COLUMNS if row.get(name) is not None}
        items.append(
            Item(
                decode_name(row.get("item") or row["path"]),
                decode_name(row.get("path") or row["item"]),
                row.get("version") or "",
                row.get("size"),
                row.get("bytes"),
                prompts,
                row.get("problem") or "",
            )
        )
    return items


def encode_name(name: str) -> bytes:
    """Return a name as bytes: those of a file need not be text, and Arrow's texts are."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(cell: str | bytes) -> str:
    """Return the name of `encode_name`, or of a dataset that has texts."""
    return cell if isinstance(cell, str) else cell.decode("utf-8", "surrogateescape")


def _as_json(prompt: Cell) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


class ItemWriter:
    """The process of a cluster that runs a stage: items in, their outcomes out; what is computed goes to files."""

    def __init__(self, stage: StageFunction, out: str, options: BatchOptions, threads: int) -> None:
        _use_threads(threads)
        self.worker = BatchWorker(stage, out, options)
        self.worker.__enter__()

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Process the items of a block."""
        import pyarrow as pa

        raised = b""
        progress: list[BatchProgress] = []
        try:
            progress += self.worker.process(table_items(table))
        except MaskletError as error:  # it is about every item; Ray would lose its type
            raised = pickle.dumps(error)
        self.worker.manifest.flush()
        rows = [(encode_name(one.item), one.outcome, encode_name(one.error), one.seconds, b"") for one in progress]
        if raised:
            rows.append((b"", "failed", b"", 0.0, raised))
        types = (pa.binary(), pa.string(), pa.binary(), pa.float64(), pa.binary())
        cells = zip(REPORT_COLUMNS, types, zip(*rows, strict=True) if rows else [[]] * len(types), strict=True)
        return pa.table({name: pa.array(column, kind) for name, kind, column in cells})


def _use_threads(number: int) -> None:
    """Give PyTorch `number` threads in this process, now or when the stage imports it."""
    os.environ["OMP_NUM_THREADS"] = str(number)
    if "torch" in sys.modules:
        from masklet.cpu_threads import fix_threads

        fix_threads(number)


def _read_reports(reports: ray.data.Dataset, num_before: int, retried: Outcome) -> Iterator[BatchProgress]:
    """Run a dataset of `ItemWriter`, and yield the progress after each item.

    `retried` is the outcome of an item that is found finished: by a process that ended before it reported its block.
    """
    counts: dict[Outcome, int] = {"done": 0, "failed": 0, "finished before": num_before}
    for table in reports.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in table.to_pylist():
            if row["raised"]:
                raised: MaskletError = pickle.loads(row["raised"])
                raise raised
            outcome = retried if row["outcome"] == "finished before" else row["outcome"]
            counts[outcome] += 1
            item, error = decode_name(row["item"]), decode_name(row["error"])
            yield BatchProgress(item, outcome, error, row["seconds"], *counts.values())


def map_stage(dataset: ray.data.Dataset, stage: Stage, plan: ActorPlan) -> ray.data.Dataset:
    """Map a stage over a dataset, as one step of your own pipeline: rows in, rows out, nothing written.

    Example:
        >>> rows = ray.data.read_images("photos/", include_paths=True)  # doctest: +SKIP
        >>> plan = ActorPlan(actors=(1, 4), cpus=2, gpus=0, threads=2, memory=None, block_items=8)  # doctest: +SKIP
        >>> map_stage(rows, Embedder(), plan).write_parquet("embeddings/")  # doctest: +SKIP
    """
    return _map_actors(dataset, ArrowStage, (stage, plan.threads), plan, plan.block_items, batch_format="numpy")


class ArrowStage:
    """The process of a cluster that runs a stage: columns in, a table out."""

    def __init__(self, stage: Stage, threads: int) -> None:
        _use_threads(threads)
        self.stage = stage

    def __call__(self, batch: InputColumns) -> pyarrow.Table:
        """Process the rows of a batch."""
        return arrow_table(self.stage(batch))


def _map_actors(
    dataset: ray.data.Dataset,
    actor: type[ItemWriter] | type[ArrowStage],
    arguments: tuple[object, ...],
    plan: ActorPlan,
    rows: int | None,
    *,
    batch_format: str = "pyarrow",
) -> ray.data.Dataset:
    """Map an actor over a dataset, `rows` at a time or block by block."""
    from ray.data import ActorPoolStrategy

    fewest, most = plan.actors
    dataset.context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
    dataset.context.enable_progress_bars = False
    return dataset.map_batches(
        actor,
        fn_constructor_args=arguments,
        batch_size=rows,
        batch_format=batch_format,
        compute=ActorPoolStrategy(min_size=fewest, max_size=most, max_tasks_in_flight_per_actor=2),
        num_cpus=plan.cpus,
        num_gpus=plan.gpus,
        memory=plan.memory,
    )
