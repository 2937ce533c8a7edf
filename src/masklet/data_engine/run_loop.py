"""Run the rounds of a data engine: label, review, train, and again.

A call does every step that it can. It stops where people are needed, and the next call goes on when they have reviewed
at the queue. Each step is stored when it is finished, and begins again where it was stopped.

    DIR/loop.json       options and rounds
    DIR/loop.masklet    the project with videos and masks, which `masklet app` opens
    DIR/round-01/       what the round trained on, and its model
    DIR/masklets/       masklets with their provenance, as SA-V has them
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from masklet.data_engine.import_batch import import_batch
from masklet.data_engine.label_videos import label_video
from masklet.data_engine.loop_state import LoopOptions, LoopRound, LoopState, Step
from masklet.data_engine.masklet_files import write_masklets
from masklet.data_engine.review_queue import build_queue, open_entries
from masklet.data_engine.train_round import score_model, train_model
from masklet.errors import InputError, MaskletWarning
from masklet.media.image_source import VIDEO_SUFFIXES
from masklet.projects import Project, open_project
from masklet.scale.items import ItemSource

__all__ = ["LoopEvent", "open_loop", "run_loop"]

MASKLETS_FOLDER = "masklets"


@dataclass(frozen=True)
class LoopEvent:
    """What a loop has done: `step` and `text`, or how far it is with the video or run of `text`."""

    step: Step
    text: str
    done: int = 0
    total: int | None = None


def open_loop(
    folder: str | os.PathLike[str],
    videos: Sequence[str | os.PathLike[str]] = (),
    options: LoopOptions | None = None,
    batches: Sequence[str | os.PathLike[str]] = (),
) -> LoopState:
    """Open the folder of a data engine, or make it, and add videos: files, folders of files, globs or lists.

    `batches` are output folders of `masklet batch --task track`: their videos are added with their masks, and count as
    labeled in a round that has not been labeled to its end. What cannot be imported is left out with a MaskletWarning.
    `options` None are those of the folder; others replace them from now on.

    Raises:
        SourceError: if a video cannot be read, or a folder has no batch.
        InputError: if the folder has no videos, its file is damaged, or a batch is none of videos.
    """
    path = Path(os.path.abspath(os.path.expanduser(folder)))
    state = LoopState.read(path)
    state = (
        LoopState(path, options or LoopOptions()) if state is None else replace(state, options=options or state.options)
    )
    if not videos and not batches and not state.project_folder.is_dir():
        raise InputError(f"{path} has no videos yet: give some, files that end in {', '.join(VIDEO_SUFFIXES)}")
    path.mkdir(parents=True, exist_ok=True)
    with open_project(state.project_folder) as project:
        for item in ItemSource(videos, "videos") if videos else ():
            project.add_source(item.location)
        for batch in batches:
            state = _add_batch(project, state, batch)
    state.save()
    return state


def _add_batch(project: Project, state: LoopState, batch: str | os.PathLike[str]) -> LoopState:
    """Import a batch of videos; those that are new count as labeled in the round under way."""
    for one in import_batch(project, batch, only_videos=True):
        if one.problem:
            warnings.warn(f"masks of {one.item} are left out: {one.problem}", MaskletWarning, stacklevel=4)
        elif one.source is not None and not one.is_known and state.current.step == "label":
            current = state.current
            state = state.with_round(replace(current, labeled=(*current.labeled, one.source.name)))
    return state


def run_loop(state: LoopState, *, skip_review: bool = False) -> Iterator[LoopEvent]:
    """Do the steps of the round that is under way, up to the one that needs people; yield what was done.

    `skip_review` goes on with what is verified now. After a round, the next call begins another one.

    Raises:
        SourceError: if a video cannot be read.
        ModelError: if a model cannot be opened, or does not track.
        StateError: if nobody has verified anything to learn from.
    """
    from masklet.sam import SAM

    current = state.current
    folder = state.folder / f"round-{current.number:02d}"
    with open_project(state.project_folder, author="person") as project:
        if current.step == "label":
            model = SAM(current.model)
            for source in project.sources:
                if source.name in current.labeled:
                    continue
                for frame in label_video(project, source, model, state.options):
                    yield LoopEvent("label", source.name, frame + 1, source.num_frames)
                current = replace(current, labeled=(*current.labeled, source.name))
                state = state.with_round(current)
            queue = build_queue(project, state.options, current.number)
            current = replace(current, step="review", queue=queue)
            state = state.with_round(current)
            yield LoopEvent("label", f"{len(project.sources)} video(s) labeled by {model.info().name}")
        if current.step == "review":
            waiting = open_entries(project, current.queue)
            if waiting and not skip_review:
                yield LoopEvent("review", "waiting", len(current.queue) - len(waiting), len(current.queue))
                return
            current = replace(current, step="train")
            state = state.with_round(current)
            yield LoopEvent(
                "review", f"{len(current.queue) - len(waiting)} of {len(current.queue)} mask(s) were reviewed"
            )
        yield from _train(project, state, current, folder)
        write_masklets(project, state.folder / MASKLETS_FOLDER)


def _train(project: Project, state: LoopState, current: LoopRound, folder: Path) -> Iterator[LoopEvent]:
    """Train, compare, and finish a round."""
    from masklet.sam import SAM

    before = SAM(current.model)
    score_before = score_model(project, before, state.options)
    file = train_model(project, before, folder, state.options)
    score_after = score_model(project, SAM(file), state.options)
    finished = replace(current, step="finished", trained=str(file), score_before=score_before, score_after=score_after)
    state.with_round(finished)
    if score_before is None or score_after is None:
        verdict = "not measured: no mask of a held-out video is verified"
    else:
        verdict = f"mean IoU {score_before:.3f} before, {score_after:.3f} after"
    kept = "is the model of the next round" if finished.next_model == str(file) else "is worse and is left out"
    yield LoopEvent("train", f"{file} {kept} ({verdict})")
