"""Track long videos in overlapping chunks, and measure how well two neighbors agree where they overlap.

Prompted objects go from a chunk to the next one by memory: the next chunk starts with the same prompts, and takes the
last masks of the chunk before, each with its pointer, as if it had tracked these frames itself. Without prompts every
chunk stands alone, and the objects of two neighbors are the same one where their masks overlap most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from masklet.errors import InputError
from masklet.masks.ops import iou
from masklet.masks.rle import decode
from masklet.media import Video
from masklet.prompts import parse_prompts
from masklet.scale.stage_rows import Cell, ObjectMask, object_masks
from masklet.video import AutoTrackOptions

if TYPE_CHECKING:
    from masklet.sam import SAM

__all__ = ["Chunk", "ChunkOptions", "Seam", "TrackedVideo", "join_chunks", "plan_chunks", "track_video"]

HANDED_OVER_FRAMES = 7
"""Frames before a chunk whose masks it gets as memory: what the networks attend to, and the frame before it."""
SAME_OBJECT_IOU = 0.5
"""Mean IoU in the overlap from which the objects of two chunks are the same one."""
NOT_PROMPTS = ("object_ids", "frame_idx")


@dataclass(frozen=True)
class ChunkOptions:
    """How long videos are cut: `chunk` frames each (None: not at all), the last `overlap` of them tracked twice.

    Raises:
        InputError: if a chunk is not longer than two overlaps, or the overlap is below 1.
    """

    chunk: int | None = None
    overlap: int = 8

    def __post_init__(self) -> None:
        if self.chunk is not None and (self.overlap < 1 or self.chunk <= 2 * self.overlap):
            raise InputError(
                f"chunk={self.chunk!r} must be more than two overlaps of {self.overlap} frame(s), and an overlap 1 or "
                "more: 500 and 8 are usual"
            )


@dataclass(frozen=True)
class Chunk:
    """Frames from `start` to before `stop`."""

    start: int
    stop: int


@dataclass(frozen=True)
class Seam:
    """How well two neighbor chunks agree on an object: the mean IoU of its masks in their overlap, 0 if one lost it."""

    frame_idx: int
    """The first frame of the overlap."""
    id: int
    iou: float


@dataclass(frozen=True)
class TrackedVideo:
    """The masks of a video or of a chunk, frame by frame, with the seams of its chunks."""

    size: tuple[int, int]
    num_frames: int
    """Frames tracked."""
    objects: tuple[ObjectMask, ...]
    seams: tuple[Seam, ...] = ()


def plan_chunks(start: int, stop: int, options: ChunkOptions) -> list[Chunk]:
    """Cut the frames from `start` to before `stop`; the last chunk may be shorter.

    Example:
        >>> [(one.start, one.stop) for one in plan_chunks(0, 100, ChunkOptions(50, 10))]
        [(0, 50), (40, 90), (80, 100)]
    """
    if options.chunk is None:
        return [Chunk(start, stop)]
    step = options.chunk - options.overlap
    starts = range(start, max(start + 1, stop - options.overlap), step)
    return [Chunk(first, min(stop, first + options.chunk)) for first in starts]


def track_video(
    model: SAM,
    open_source: Callable[[], Video],
    prompts: Mapping[str, Cell],
    chunks: ChunkOptions,
    *,
    everything: str = "fast",
    auto_options: AutoTrackOptions | None = None,
) -> TrackedVideo:
    """Track the prompted objects through a video, or everything without prompts, chunk by chunk.

    `open_source` opens the video, once for every chunk; `prompts` are the keywords of `SAM.track`.

    Raises:
        InputError: if the video is a stream and is to be cut, or a prompt is malformed.
    """
    start = int(prompts.get("frame_idx") or 0)  # type: ignore[arg-type]
    with open_source() as video:
        size, stop = video.size, video.num_frames
        if chunks.chunk is not None and not video.seekable:
            raise InputError(f"{video.path!r} is a stream and cannot be cut: leave chunk out, or give a file")
        if chunks.chunk is not None and stop is None:
            stop = start + sum(1 for _ in video.frames(start))
    prompted = any(name in prompts for name in prompts if name not in NOT_PROMPTS)
    if stop is None or chunks.chunk is None:
        planned: list[Chunk | None] = [None]
    else:
        planned = [*plan_chunks(start, stop, chunks)]
    parts: list[TrackedVideo] = []
    for chunk in planned:
        if prompted:
            memory = parts[-1].objects if parts else ()
            parts.append(_track_prompted(model, open_source(), prompts, chunk, memory))
        else:
            first, end = (None, None) if chunk is None else (chunk.start, chunk.stop)
            with model.track(
                open_source(), start=first, stop=end, everything=everything, auto_options=auto_options
            ) as stream:
                frames = [object_masks(results) for results in stream]
            parts.append(TrackedVideo(size, len(frames), tuple(one for masks in frames for one in masks)))
    cut = [chunk for chunk in planned if chunk is not None]
    return parts[0] if not cut else join_chunks(parts, cut, same_ids=prompted)


def _track_prompted(
    model: SAM, video: Video, prompts: Mapping[str, Cell], chunk: Chunk | None, before: Sequence[ObjectMask]
) -> TrackedVideo:
    """Track a chunk of a video; `before` are the masks of the chunk before it."""
    given = {name: prompt for name, prompt in prompts.items() if name not in NOT_PROMPTS}
    start = int(prompts.get("frame_idx") or 0)  # type: ignore[arg-type]
    with model.session(video) as session:
        size = session.frame(start).size
        parsed = parse_prompts(**given, size=size)  # type: ignore[arg-type]
        chosen = prompts.get("object_ids") or range(1, len(parsed) + 1)
        ids = [int(one) for one in chosen]  # type: ignore[union-attr, arg-type]
        for object_id, prompt in zip(ids, parsed, strict=True):
            session.add_object_prompt(object_id, start, prompt)
        if chunk is not None and chunk.start > start:
            handed_over = {(one.frame_idx, one.id): one for one in before}
            for frame_idx in range(max(start + 1, chunk.start - HANDED_OVER_FRAMES), chunk.start):
                for object_id in ids:
                    found = handed_over.get((frame_idx, object_id))
                    mask = np.zeros(size, bool) if found is None else decode(found.rle)
                    session.remember(object_id, frame_idx, mask)
        first, stop = (None, None) if chunk is None else (chunk.start, chunk.stop)
        frames = [object_masks(results) for results in session.propagate(first, stop)]
    return TrackedVideo(size, len(frames), tuple(one for masks in frames for one in masks))


def join_chunks(parts: Sequence[TrackedVideo], chunks: Sequence[Chunk], *, same_ids: bool) -> TrackedVideo:
    """Join tracked chunks in order: in an overlap the earlier chunk's masks stay.

    `same_ids`: an object has one id in all chunks; otherwise objects are matched by their masks in the overlap, and an
    object that no earlier chunk has gets a new id.
    """
    objects, seams = list(parts[0].objects), list[Seam]()
    for (earlier, later), part in zip(pairwise(chunks), parts[1:], strict=True):
        overlap = range(later.start, earlier.stop)
        agreement = _agreement(objects, part.objects, overlap)
        matched = {b: a for a, b in agreement if a == b} if same_ids else _match_objects(agreement)
        new_id = max((one.id for one in objects), default=0)
        renumbered = dict(matched)
        for one in part.objects:
            if one.id not in renumbered:
                new_id += 1
                renumbered[one.id] = one.id if same_ids else new_id
        of_pair = {a: agreement[a, b] for b, a in matched.items()}
        tracked = sorted({one.id for one in objects if one.frame_idx in overlap} | set(of_pair))
        seams += [Seam(overlap.start, id, round(of_pair.get(id, 0.0), 4)) for id in tracked]
        objects += [
            replace(one, id=renumbered[one.id])
            for one in part.objects
            if one.frame_idx >= overlap.stop or one.id not in matched
        ]
    objects.sort(key=lambda one: (one.frame_idx, one.id))
    frames = sum(part.num_frames for part in parts) - sum(a.stop - b.start for a, b in pairwise(chunks))
    return TrackedVideo(parts[0].size, frames, tuple(objects), tuple(seams))


def _agreement(
    earlier: Sequence[ObjectMask], later: Sequence[ObjectMask], overlap: range
) -> dict[tuple[int, int], float]:
    """Return the mean IoU in the overlap of each pair of objects that meet there, by (earlier id, later id)."""
    masks = [
        {(one.frame_idx, one.id): decode(one.rle) for one in side if one.frame_idx in overlap}
        for side in (earlier, later)
    ]
    frames = [defaultdict[int, set[int]](set), defaultdict[int, set[int]](set)]
    for side, found in zip(masks, frames, strict=True):
        for frame_idx, object_id in side:
            found[object_id].add(frame_idx)
    agreement = {}
    for a, frames_a in frames[0].items():
        for b, frames_b in frames[1].items():
            total = sum(iou(masks[0][frame, a], masks[1][frame, b]) for frame in frames_a & frames_b)
            if total:
                agreement[a, b] = total / len(frames_a | frames_b)
    return agreement


def _match_objects(agreement: Mapping[tuple[int, int], float]) -> dict[int, int]:
    """Return the earlier object of each later one; the best pairs are matched first."""
    matched: dict[int, int] = {}
    for (a, b), overlap in sorted(agreement.items(), key=lambda pair: (-pair[1], pair[0])):
        if overlap >= SAME_OBJECT_IOU and b not in matched and a not in matched.values():
            matched[b] = a
    return matched
