"""The verbs of tracking: prompt any object on any frame, follow all of them, correct, remove.

Coordinates are pixels of the original frame, x to the right and y down; boxes are xyxy; frames count from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

from masklet.closing import Closeable
from masklet.errors import InputError, PromptError, StateError
from masklet.media import Frame, Video
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.video.frame_cache import SeekableFrames, StreamFrames
from masklet.video.memory_bank import TrackedObject, parse_object_prompt, validate_object_id
from masklet.video.postprocess import CompressedResults
from masklet.video.propagation import PropagationState
from masklet.video.repropagate import repropagate_corrections
from masklet.video.session_load import SavedSession
from masklet.video.session_save import SessionContext, SessionState, write_session
from masklet.video.track_options import TrackOptions
from masklet.video.tracker import ObjectBatcher, Tracker

__all__ = ["Session"]

ProgressCallback = Callable[[int], None]


class Session(Closeable):
    """A video, and the objects that are followed through it; close it, or use it as a context manager.

    Example:
        >>> with model.session("clip.mp4") as s:
        ...     s.add(1, frame=0, points=[[210, 350]])
        ...     s.add(2, frame=40, box=[300, 0, 500, 400])
        ...     for frame in s.propagate(both=True):
        ...         print(frame.frame, frame.ids, frame.states)
    """

    def __init__(self, batcher: ObjectBatcher, video: Video, options: TrackOptions) -> None:
        self.video, self.options = video, options
        frames = SeekableFrames(video) if video.seekable else StreamFrames(video)
        self.tracker = Tracker(batcher, frames, options)
        self.changed_frames: dict[int, list[int]] = {}
        """After `update`: by id, the frames whose mask is another one now."""
        self._next_frame: int | None = None
        self._propagation: PropagationState | None = None
        self._is_open = True

    def close(self) -> None:
        """Let go of the video and of everything that is remembered."""
        self._is_open = False
        self.tracker.objects.clear()
        self.tracker.cache.clear()
        self.video.close()

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects there are, in the order they were added."""
        return tuple(self.tracker.objects)

    @property
    def last_frame(self) -> int | None:
        """The frame that was passed last; None: none was."""
        return None if self._next_frame is None else self._next_frame - 1

    def add_prompt(
        self,
        object_id: int,
        *,
        frame_idx: int,
        points: object = None,
        labels: object = None,
        box: object = None,
        mask: object = None,
    ) -> Results:
        """Say what object `id` is on `frame`: points, a box, both, or a mask; answers with its mask there at once.

        `points` is [x, y] or [[x, y], ...], `labels` 1 on the object and 0 off it, `box` [x1, y1, x2, y2], `mask`
        (H, W). An object that is there already is told more: points add up, a box or a mask starts this frame anew.
        May be called while `propagate` runs; the object then joins with the next frame.

        Raises:
            PromptError: an id or a prompt that cannot be meant.
            SourceError, StateError: a frame that is not there.
        """
        number = validate_object_id(object_id)
        current_frame = self.frame(frame_idx)
        one = self.tracker.objects.get(number)
        refine = one is not None and one.bank.get(current_frame.index) is not None
        new = parse_object_prompt(points, labels, box, mask, size=current_frame.size, refine=refine)
        return self._add_object_prompt(number, current_frame.index, new)

    def _add_object_prompt(self, object_id: int, frame_idx: int, prompt: ObjectPrompt) -> Results:
        """As `add`, with a prompt that is already typed."""
        current_frame = self.frame(frame_idx)
        one = self.tracker.objects.get(validate_object_id(object_id)) or TrackedObject(validate_object_id(object_id))
        kept = self.tracker.add_prompt(one, current_frame, prompt.fit_to_image(current_frame.size))
        self.tracker.objects[one.id] = one
        return self.tracker.build_results(current_frame, [(one, kept)])

    def correct(
        self,
        object_id: int,
        *,
        frame_idx: int,
        points: object = None,
        labels: object = None,
        box: object = None,
        mask: object = None,
    ) -> Results:
        """Put an object right on `frame`; as `add`, for one that is there. `update` then mends the frames around.

        Raises:
            PromptError: no such object, or a prompt that cannot be meant.
        """
        number = self.tracker.get_object(object_id).id
        return self.add_prompt(number, frame_idx=frame_idx, points=points, labels=labels, box=box, mask=mask)

    def remove_object(self, object_id: int) -> None:
        """Forget an object altogether; the others are not touched.

        Raises:
            PromptError: no such object.
        """
        del self.tracker.objects[self.tracker.get_object(object_id).id]

    def clear_prompts(self, object_id: int, *, frame_idx: int) -> None:
        """Take back what was said about an object on `frame`.

        What it was found to be there stays as a tracked frame, when the frame has been passed. An object about which
        nothing is said any more is no longer followed.

        Raises:
            PromptError: no such object, or nothing was said about it there.
        """
        one = self.tracker.get_object(object_id)
        if frame_idx not in one.prompts:
            where = ", ".join(map(str, sorted(one.prompts))) or "none"
            raise PromptError(f"object {one.id} has no prompt on frame {frame_idx!r}; it has on frames {where}")
        del one.prompts[frame_idx]
        kept = one.bank.prompted.pop(frame_idx)
        if kept.reverse is not None and kept.spatial_1MHW is not None:
            one.bank.tracked[frame_idx] = kept
            one.corrected_frames.add(frame_idx)

    def propagate(
        self,
        start: int | None = None,
        stop: int | None = None,
        *,
        reverse: bool = False,
        bidirectional: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Iterator[Results]:
        """Follow all objects from `start` to before `stop`, a `Results` a frame.

        Forward, `start` is the first prompted frame unless it is given, and each object joins where it was first
        prompted. `reverse=True` goes back from `start` (the last prompted frame) to after `stop` (to frame 0).
        `both=True` gives every frame from `start` (0) to `stop`, in order, with each object followed back from its
        first prompt too: it looks back first, holding masks as run lengths, and tells `progress` which frame it is at.

        Raises:
            StateError: nothing to follow, or a stream asked to run backwards.
            InputError: a range that holds no frame.
        """
        self._check(start, stop, reverse, bidirectional)
        first = start or 0 if bidirectional else self._start_frame(start, reverse)
        return self._begin_propagation(
            PropagationState(first, stop, reverse, first, bidirectional=bidirectional), progress
        )

    def resume(self, *, progress: ProgressCallback | None = None) -> Iterator[Results]:
        """Go on with a `propagate` that was left before its end, here or in the session that was saved.

        Bit for bit what it would have given: frames that were handed out are not handed out again.

        Example:
            >>> with model.session("clip.mp4", resume="clip.safetensors") as s:
            ...     for frame in s.go_on():
            ...         print(frame.frame)

        Raises:
            StateError: no pass is under way.
        """
        self._check_open()
        if self._propagation is None:
            raise StateError("no pass is under way that could be gone on with: begin one with propagate()")
        return self._propagate(self._propagation, progress)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write all that this session knows to one .safetensors file, whole or not at all; returns the path.

        Objects with their prompts and memories, options, and the pass that is under way. It may be called between
        two frames of `propagate`; `model.session(source, resume=path)` goes on from there with `go_on`.

        Example:
            >>> s.save("clip.safetensors")
            PosixPath('clip.safetensors')

        Raises:
            OutputError: the file cannot be written.
            StateError: the session is closed, or of a stream, whose frames come only once.
            InputError: a recall rule of one's own that has no name to find it by.
        """
        self._check_open()
        return write_session(path, self._context(), self._state())

    def restore_saved(self, saved: SavedSession) -> None:
        """Know what a saved session knew, and nothing else; `model.session(source, resume=path)` calls this.

        Raises:
            CheckpointError: damaged, or of another model.
            InputError: saved for another source or with other options.
        """
        self._set_state(saved.load_state(self._context(), self.tracker.batcher.device))

    def snapshot(self) -> SessionState:
        """All that is known at this moment, in memory; `go_back` returns to it, as often as one likes.

        It may be called between two frames of `propagate`; after `go_back`, `go_on` follows on from there.

        Example:
            >>> before = s.remembered()
            >>> s.correct(1, frame=7, points=[[210, 350]])
            >>> s.go_back(before)  # as if nothing had been corrected
        """
        return deepcopy(self._state())

    def restore_snapshot(self, snapshot: SessionState) -> None:
        """Know what this session knew when it answered `remembered()`, and nothing else."""
        self._set_state(deepcopy(snapshot))

    def cache_features(self, start: int, stop: int, max_megabytes: int = 2048) -> bool:
        """Encode the frames from `start` to before `stop` once, however often they are passed, where that has room.

        False: their features take more than `megabytes` (17 MB a frame at 1024), so only the last few are held.

        Example:
            >>> with model.session("clip.mp4", keep="all") as s:
            ...     s.hold(0, 80)
            True
        """
        self.tracker.frame_features(self.frame(start))
        return self.tracker.cache.reserve(stop - start, max_megabytes * 10**6)

    def _set_state(self, state: SessionState) -> None:
        self.tracker.objects, self.tracker.propagation_start = state.objects, state.propagation_start
        self._next_frame, self._propagation, self.changed_frames = (
            state.next_frame,
            state.propagation,
            state.changed_frames,
        )

    def _context(self) -> SessionContext:
        return SessionContext(self.tracker.batcher.model, self.video, self.options)

    def _state(self) -> SessionState:
        return SessionState(
            self.tracker.objects,
            self.tracker.propagation_start,
            self._next_frame,
            self._propagation,
            self.changed_frames,
        )

    def repropagate(
        self, *, min_iou: float = 0.99, patience: int = 3, bidirectional: bool = False
    ) -> Iterator[Results]:
        """After corrections: follow the corrected objects again until `patience` masks in a row agree with the old.

        Two masks agree when their IoU is at least `agree`. Goes the way the frames were tracked; `both=True` the other
        way too. Only frames that were tracked before are gone through. A `Results` with all objects for each frame;
        `changed` then names the frames whose mask changed.

        Raises:
            StateError: the session does not keep old frames (keep="all" does).
        """
        if self.options.retain != "all":
            raise StateError(
                'this session keeps recent frames only, so there is nothing to compare with: open it with keep="all", '
                "or propagate again from the corrected frame"
            )
        self.changed_frames = {}
        return repropagate_corrections(
            self.tracker, self.changed_frames, min_iou=min_iou, patience=patience, bidirectional=bidirectional
        )

    def results_at(self, frame_idx: int) -> Results:
        """What is known of all objects on `frame`.

        Raises:
            StateError: nothing any more: open the session with keep="all".
        """
        return self.tracker.results_at(self.frame(frame_idx))

    def frame(self, frame_idx: Any) -> Frame:
        """The image of a frame.

        Raises:
            InputError, SourceError, StateError: a frame that is not there.
        """
        self._check_open()
        if isinstance(frame_idx, bool) or not hasattr(frame_idx, "__index__") or frame_idx.__index__() < 0:
            raise InputError(f"frame {frame_idx!r} must be a whole number, 0 or more")
        return self.tracker.frames.frame(frame_idx.__index__())

    # ---------------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._is_open:
            raise StateError("this session is closed; open another one with model.session(source)")

    def _check(self, start: int | None, stop: int | None, reverse: bool, bidirectional: bool) -> None:
        self._check_open()
        if not any(one.prompts for one in self.tracker.objects.values()):
            raise StateError("there is nothing to follow yet: say what with add(1, frame=0, points=[x, y]) first")
        if reverse and bidirectional:
            raise InputError("reverse=True and both=True exclude each other: both goes back and forward")
        if (reverse or bidirectional) and not self.video.seekable:
            raise StateError(f"{self.video.path!r} is a stream and does not run backwards; open a file or a folder")
        for name, value in (("start", start), ("stop", stop)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise InputError(f"{name}={value!r} must be a frame number, 0 or more")
        if start is not None and stop is not None and (start <= stop if reverse else start >= stop):
            way = "below" if reverse else "above"
            raise InputError(f"start={start} and stop={stop} hold no frame: stop must be {way} start")

    def _start_frame(self, start: int | None, reverse: bool) -> int:
        """Where a pass begins; on a stream it goes on where the last one ended."""
        if start is not None:
            return start
        prompted = [frame for one in self.tracker.objects.values() for frame in one.prompts]
        if not self.video.seekable and self._next_frame is not None:
            return self._next_frame
        return max(prompted) if reverse else min(prompted)

    def _begin_propagation(self, propagation: PropagationState, progress: ProgressCallback | None) -> Iterator[Results]:
        """Objects that are known of where the pass begins take part at once; which, is seen when it begins."""
        if not propagation.bidirectional:
            objects = self.tracker.objects.values()
            propagation.initial_ids = frozenset(
                one.id for one in objects if one.bank.get(propagation.start) is not None
            )
        yield from self._propagate(propagation, progress)

    def _propagate(self, propagation: PropagationState, progress: ProgressCallback | None) -> Iterator[Results]:
        self._propagation = propagation
        if propagation.bidirectional and propagation.backward_results is None:
            propagation.backward_results = self._propagate_backward(propagation.start, progress)
        self.tracker.propagation_start = propagation.start
        for frame in self._iterate_frames(propagation):
            objects = [one for one in self.tracker.objects.values() if propagation.includes(one, frame.index)]
            shown = self._track_frame(frame, objects, propagation.reverse)
            if propagation.bidirectional and progress is not None:
                progress(frame.index)
            earlier = propagation.backward_results.pop(frame.index, None) if propagation.backward_results else None
            propagation.advance(frame.index)
            yield shown if earlier is None else earlier.merge_into(shown, self.object_ids)
        self._propagation = None

    def _iterate_frames(self, propagation: PropagationState) -> Iterator[Frame]:
        if propagation.next_frame < 0 or propagation.next_frame == propagation.stop:  # all of it was passed
            return iter(())
        return self.tracker.frames.iterate(propagation.next_frame, propagation.stop, propagation.reverse)

    def _track_frame(self, frame: Frame, active: list[TrackedObject], reverse: bool) -> Results:
        rows = self.tracker.track_frame(frame, active, reverse)
        self._next_frame = frame.index + 1
        return self.tracker.build_results(frame, rows, self.tracker.speed)

    def _propagate_backward(self, start: int, progress: ProgressCallback | None) -> dict[int, CompressedResults]:
        """Every object from its first prompt back to `start`."""
        held: dict[int, CompressedResults] = {}
        objects = [one for one in self.tracker.objects.values() if one.prompts and one.first_prompt_frame > start]
        if not objects:
            return held
        last = max(one.first_prompt_frame for one in objects)
        self.tracker.propagation_start = last
        for frame in self.tracker.frames.iterate(last, start - 1 if start else None, True):
            active = [one for one in objects if frame.index <= one.first_prompt_frame]
            rows = [
                row for row in self.tracker.track_frame(frame, active, True) if frame.index < row[0].first_prompt_frame
            ]
            if rows:
                held[frame.index] = CompressedResults.from_results(
                    self.tracker.build_results(frame, rows, self.tracker.speed)
                )
            if progress is not None:
                progress(frame.index)
        for one in objects:
            one.frames_unseen = 0
        return held
