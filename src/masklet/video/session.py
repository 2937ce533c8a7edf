"""Track objects through a video with prompts: prompt on any frame, propagate, correct, remove, save and resume.

Coordinates are pixels of the original frame, x to the right and y down; boxes are xyxy; frames count from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import wraps
from os import PathLike
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, PromptError, StateError
from masklet.exported import ExportedNetwork
from masklet.media import Frame, Video
from masklet.prompts import BoxesLike, LabelsLike, MasksLike, ObjectPrompt, PointsLike
from masklet.results import Results
from masklet.video.doubts import Doubt
from masklet.video.encode_ahead import EncodeAhead
from masklet.video.frame_cache import SeekableFrames, StreamFrames
from masklet.video.memory_bank import (
    TrackedObject,
    parse_object_prompt,
    validate_object_id,
)
from masklet.video.postprocess import CompressedResults
from masklet.video.propagation import PropagationState
from masklet.video.repropagate import repropagate_corrections
from masklet.video.scene_cuts import SceneCuts
from masklet.video.session_doubts import session_doubts
from masklet.video.session_load import SavedSession
from masklet.video.session_save import SessionContext, SessionState, write_session
from masklet.video.track_options import TrackOptions
from masklet.video.tracker import Tracker

if TYPE_CHECKING:
    from typing_extensions import Self

    from masklet.models.fast_cpu.sam2 import FastSAM2

__all__ = ["Session"]

ProgressCallback = Callable[[int], None]
P = ParamSpec("P")
T = TypeVar("T")


def _one_at_a_time(method: Callable[Concatenate[Session, P], T]) -> Callable[Concatenate[Session, P], T]:
    """Make calls of a session's methods from several threads wait for each other."""

    @wraps(method)
    def locked(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with session.lock:
            return method(session, *args, **kwargs)

    return locked


class Session:
    """A video and the objects tracked through it; close it, or use it as a context manager.

    Several threads may use one session, and several sessions one model: a call waits for the frame that is under way.

    Example:
        >>> with model.session("clip.mp4") as s:  # doctest: +SKIP
        ...     s.add_prompt(1, frame_idx=0, points=[[210, 350]])
        ...     s.add_prompt(2, frame_idx=40, box=[300, 0, 500, 400])
        ...     for results in s.propagate(bidirectional=True):
        ...         print(results.frame_idx, results.ids, results.states)
    """

    def __init__(self, network: FastSAM2 | ExportedNetwork, video: Video, options: TrackOptions) -> None:
        self.network, self.video, self.options = network, video, options
        self.tracker = Tracker(network, SeekableFrames(video) if video.seekable else StreamFrames(video), options)
        self.lock = RLock()
        """Held during each call, and during each frame of a pass."""
        self.changed_frames: dict[int, list[int]] = {}
        """After `repropagate`: by object id, the frames whose mask has changed."""
        self._next_frame: int | None = None
        self._propagation: PropagationState | None = None
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @_one_at_a_time
    def close(self) -> None:
        """Release the video and all stored memory."""
        self._is_open = False
        self.tracker.objects.clear()
        self.tracker.cache.clear()
        self.tracker.keys.clear()
        self.video.close()

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids of all objects, in the order they were added."""
        return tuple(self.tracker.objects)

    @property
    def last_frame(self) -> int | None:
        """The frame that was tracked last; None: none was."""
        return None if self._next_frame is None else self._next_frame - 1

    @_one_at_a_time
    def frame(self, frame_idx: SupportsIndex) -> Frame:
        """Read a frame.

        Raises:
            InputError: if the number is no frame number.
            SourceError, StateError: if the frame does not exist or cannot be read.
        """
        self._check_open()
        if isinstance(frame_idx, bool) or not hasattr(frame_idx, "__index__") or frame_idx.__index__() < 0:
            raise InputError(f"frame {frame_idx!r} must be a whole number, 0 or more")
        return self.tracker.frames.frame(frame_idx.__index__())

    def _check_open(self) -> None:
        if not self._is_open:
            raise StateError("this session is closed; open another one with model.session(source)")

    # prompts ----------------------------------------------------------------------------------------------------

    @_one_at_a_time
    def add_prompt(
        self,
        object_id: int,
        frame_idx: int,
        *,
        points: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box: BoxesLike | None = None,
        mask: MasksLike | None = None,
    ) -> Results:
        """Prompt an object on a frame with points, a box, both, or a mask, and return its mask there.

        `points` is [x, y] or [[x, y], ...], `labels` 1 on the object and 0 off it, `box` [x1, y1, x2, y2], `mask`
        (H, W). On a frame that has prompts of this object, points accumulate; a box or a mask replaces them. You may
        call this while `propagate` runs; the object then joins on the next frame.

        Raises:
            PromptError: if the id or the prompt is malformed, or lies outside the frame.
            InputError, SourceError, StateError: if the frame does not exist or cannot be read.
        """
        number, frame = validate_object_id(object_id), self.frame(frame_idx)
        obj = self.tracker.objects.get(number)
        refine = obj is not None and obj.bank.get(frame.index) is not None
        prompt = parse_object_prompt(points, labels, box, mask, size=frame.size, refine=refine)
        return self.add_object_prompt(number, frame.index, prompt)

    @_one_at_a_time
    def add_object_prompt(self, object_id: int, frame_idx: int, prompt: ObjectPrompt) -> Results:
        """Prompt an object on a frame with a parsed prompt; with `prompt.refine` it starts from its mask there.

        Raises:
            PromptError: if the id is malformed, or the prompt lies outside the frame.
            InputError, SourceError, StateError: if the frame does not exist or cannot be read.
        """
        number, frame = validate_object_id(object_id), self.frame(frame_idx)
        obj = self.tracker.objects.get(number) or TrackedObject(number)
        state = self.tracker.add_prompt(obj, frame, prompt.fit_to_image(frame.size))
        self.tracker.objects[number] = obj
        return self.tracker.build_results(frame, [(obj, state)])

    @_one_at_a_time
    def correct(
        self,
        object_id: int,
        frame_idx: int,
        *,
        points: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box: BoxesLike | None = None,
        mask: MasksLike | None = None,
    ) -> Results:
        """Correct an existing object on a frame, as `add_prompt`; `repropagate` then updates the frames around.

        Raises:
            PromptError: if there is no such object, or the prompt is malformed.
        """
        number = self.tracker.get_object(object_id).id
        return self.add_prompt(number, frame_idx, points=points, labels=labels, box=box, mask=mask)

    @_one_at_a_time
    def remember(self, object_id: int, frame_idx: int, mask: npt.NDArray[np.bool_], *, reverse: bool = False) -> None:
        """Take a mask (H, W) that was tracked earlier as memory of an existing object, without prompting it.

        A pass that starts after the frame, with `reverse` before it, continues from there as if it had tracked the
        frame itself; where it tracks the frame again, the mask is replaced. An empty mask says that the object was out
        of sight. On a prompted frame nothing changes.

        Example:
            >>> s.add_prompt(1, frame_idx=0, points=[[210, 350]])  # doctest: +SKIP
            >>> for frame_idx, mask in stored.items():  # doctest: +SKIP
            ...     s.remember(1, frame_idx, mask)
            >>> s.propagate(start=40)  # doctest: +SKIP

        Raises:
            PromptError: if there is no such object, or the mask has another size than the frame.
            InputError, SourceError, StateError: if the frame does not exist or cannot be read.
        """
        obj, frame = self.tracker.get_object(object_id), self.frame(frame_idx)
        if np.shape(mask) != frame.size:
            raise PromptError(f"a mask of {np.shape(mask)} does not fit frame {frame_idx} of {frame.size}: scale it")
        self.tracker.remember_mask(obj, frame, np.asarray(mask, bool), reverse)

    @_one_at_a_time
    def clear_prompts(self, object_id: int, frame_idx: int) -> None:
        """Remove the prompts of an object on a frame.

        Its mask stays as a tracked frame if the frame was tracked. An object without any prompt is no longer tracked.

        Raises:
            PromptError: if there is no such object, or it has no prompt on the frame.
        """
        obj = self.tracker.get_object(object_id)
        if frame_idx not in obj.prompts:
            where = ", ".join(map(str, sorted(obj.prompts))) or "none"
            raise PromptError(f"object {obj.id} has no prompt on frame {frame_idx!r}; it has on frames {where}")
        del obj.prompts[frame_idx]
        state = obj.bank.prompted.pop(frame_idx, None)  # with corrections="sam2" a tracked frame is no prompted one
        if state is not None and state.reverse is not None and state.spatial_1MHW is not None:
            obj.bank.tracked[frame_idx] = state
            obj.corrected_frames.add(frame_idx)

    @_one_at_a_time
    def remove_object(self, object_id: int) -> None:
        """Remove an object with its memory; the others are not affected.

        Raises:
            PromptError: if there is no such object.
        """
        del self.tracker.objects[self.tracker.get_object(object_id).id]

    @_one_at_a_time
    def swap(self, a: int, b: int, frame_idx: int) -> None:
        """Exchange the identities of two objects from a frame on, where tracking has confused them.

        What is stored of that frame and later ones, prompts, masks and memories, goes from each object to the other, so
        that a pass that continues there tracks each as the other until now. The same call undoes it. Results that were
        yielded before keep their ids.

        Example:
            >>> s.swap(1, 2, 31)  # doctest: +SKIP
            >>> s.results_at(40).ids  # doctest: +SKIP

        Raises:
            PromptError: if there is no such object, or both are the same.
            InputError, SourceError, StateError: if the frame does not exist or cannot be read.
            StateError: if neither is tracked or prompted on the frame, or one of them would be left without a prompt.
        """
        first, second = self.tracker.get_object(a), self.tracker.get_object(b)
        if first is second:
            raise PromptError(f"object {first.id} cannot be swapped with itself: name two objects")
        at = self.frame(frame_idx).index
        if first.bank.get(at) is None and second.bank.get(at) is None:
            raise StateError(
                f"neither object {first.id} nor object {second.id} is tracked on frame {at} (any more), so there is "
                'nothing to swap: propagate first, or open the session with retain="all"'
            )
        for one, other in ((first, second), (second, first)):
            if not any(frame < at for frame in one.prompts) and not any(frame >= at for frame in other.prompts):
                raise StateError(
                    f"object {one.id} would have no prompt after a swap at frame {at}: choose a frame after its first "
                    f"prompt, which is on frame {min(one.prompts, default=None)}"
                )
        parts: tuple[tuple[dict[int, Any], dict[int, Any]], ...] = (
            (first.prompts, second.prompts),
            (first.bank.prompted, second.bank.prompted),
            (first.bank.tracked, second.bank.tracked),
        )
        for mine, yours in parts:
            my_later, your_later = ({f: one.pop(f) for f in list(one) if f >= at} for one in (mine, yours))
            mine.update(your_later)
            yours.update(my_later)
        later = {frame for frame in first.corrected_frames ^ second.corrected_frames if frame >= at}
        first.corrected_frames ^= later
        second.corrected_frames ^= later
        if self.last_frame is not None and self.last_frame >= at:
            first.frames_unseen, second.frames_unseen = second.frames_unseen, first.frames_unseen
            first.motion, second.motion = second.motion, first.motion
        first.looks, second.looks = first.looks[:1], second.looks[:1]
        backward = {} if self._propagation is None else self._propagation.backward_results or {}
        number = {first.id: second.id, second.id: first.id}
        for frame, results in list(backward.items()):
            if frame >= at:
                ids = np.array([number.get(one, one) for one in results.ids.tolist()], np.int32)
                backward[frame] = replace(results, ids=ids)

    # tracking ---------------------------------------------------------------------------------------------------

    def propagate(
        self,
        start: int | None = None,
        stop: int | None = None,
        *,
        reverse: bool = False,
        bidirectional: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Iterator[Results]:
        """Track all objects from `start` to before `stop` and yield one `Results` a frame.

        Forward, `start` defaults to the first prompted frame, on a stream to the frame after the last pass, and each
        object joins where it was first prompted. `reverse=True` tracks back from `start` (the last prompted frame) to
        after `stop` (to frame 0). `bidirectional=True` yields every frame from `start` (0) to `stop`, in order, with
        each object tracked back from its first prompt too: the backward part runs first and stores its masks as run
        lengths; `progress` is called with the number of every frame of both parts.

        Raises:
            StateError: if there is nothing to track, or a stream has to run backward.
            InputError: if the range holds no frame.
        """
        self._check_open()
        prompted = [frame for one in self.tracker.objects.values() for frame in one.prompts]
        if not prompted:
            raise StateError("there is nothing to track yet: add a prompt first, add_prompt(1, 0, points=[x, y])")
        if reverse and bidirectional:
            raise InputError("reverse=True and bidirectional=True exclude each other: bidirectional goes both ways")
        if (reverse or bidirectional) and not self.video.seekable:
            raise StateError(f"{self.video.path!r} is a stream and does not run backwards; open a file or a folder")
        for name, value in (("start", start), ("stop", stop)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise InputError(f"{name}={value!r} must be a frame number, 0 or more")
        if start is not None and stop is not None and (start <= stop if reverse else start >= stop):
            way = "below" if reverse else "above"
            raise InputError(f"start={start} and stop={stop} hold no frame: stop must be {way} start")
        if start is None:
            start = 0 if bidirectional else max(prompted) if reverse else min(prompted)
            if not self.video.seekable and self._next_frame is not None:
                start = self._next_frame
        state = PropagationState(start, stop, reverse, start, bidirectional)
        return self._step_by_step(self._propagate(state, progress))

    def resume(self, *, progress: ProgressCallback | None = None) -> Iterator[Results]:
        """Resume a `propagate` that was left before its end, in this session or in the one that was saved.

        The remaining frames are bit for bit those of an uninterrupted pass; frames already yielded are not repeated.

        Example:
            >>> with model.session("clip.mp4", resume="clip.safetensors") as s:  # doctest: +SKIP
            ...     for results in s.resume():
            ...         print(results.frame_idx)

        Raises:
            StateError: if no pass is unfinished.
        """
        self._check_open()
        if self._propagation is None:
            raise StateError("no pass is under way that could be resumed: begin one with propagate()")
        return self._step_by_step(self._propagate(self._propagation, progress))

    def _step_by_step(self, frames: Iterator[Results]) -> Iterator[Results]:
        """Run each step of a pass under the lock, which is free while the caller has the results."""
        while True:
            with self.lock:
                results = next(frames, None)
            if results is None:
                return
            yield results

    def _propagate(self, state: PropagationState, progress: ProgressCallback | None) -> Iterator[Results]:
        """Run a pass, or the rest of it; `state` alone says how far it is."""
        tracker, self._propagation = self.tracker, state
        if state.initial_ids is None:
            known = [one.id for one in tracker.objects.values() if one.bank.get(state.start) is not None]
            state.initial_ids = frozenset(() if state.bidirectional else known)

        if state.bidirectional and state.backward_results is None:  # every object back from its first prompt
            backward: dict[int, CompressedResults] = {}
            late = [one for one in tracker.objects.values() if one.prompts and one.first_prompt_frame > state.start]
            if late:
                tracker.propagation_start = last = max(one.first_prompt_frame for one in late)
                for frame in tracker.frames.iterate(last, state.start - 1 if state.start else None, True):
                    active = [one for one in late if frame.index <= one.first_prompt_frame]
                    rows = tracker.track_frame(frame, active, True)
                    rows = [row for row in rows if frame.index < row[0].first_prompt_frame]
                    if rows:
                        results = tracker.build_results(frame, rows, tracker.speed)
                        backward[frame.index] = CompressedResults.from_results(results)
                    if progress is not None:
                        progress(frame.index)
            for one in late:
                one.frames_unseen = 0
            state.backward_results = backward

        tracker.propagation_start = state.start
        finished = state.next_frame < 0 or state.next_frame == state.stop
        frames = iter(()) if finished else tracker.frames.iterate(state.next_frame, state.stop, state.reverse)
        # With several objects tracking takes most of a frame, and needs all threads.
        wanted = not finished and not self.video.live and self.network.encodes_ahead and len(tracker.objects) == 1
        with EncodeAhead(tracker, frames, wanted=wanted) as ahead:
            for frame in ahead:
                active = [one for one in tracker.objects.values() if state.includes(one, frame.index)]
                with ahead.share_threads():
                    rows = tracker.track_frame(frame, active, state.reverse)
                    tracker.speed["encode"] += ahead.waited_ms
                    results = tracker.build_results(frame, rows, tracker.speed)
                self._next_frame = frame.index + 1
                if state.bidirectional and progress is not None:
                    progress(frame.index)
                earlier = state.backward_results.pop(frame.index, None) if state.backward_results else None
                state.next_frame = frame.index - 1 if state.reverse else frame.index + 1
                yield results if earlier is None else earlier.merge_into(results, self.object_ids)
        self._propagation = None

    def repropagate(
        self, *, min_iou: float = 0.99, patience: int = 3, bidirectional: bool = False
    ) -> Iterator[Results]:
        """Track corrected objects again, until `patience` masks in a row agree with the earlier ones.

        Two masks agree when their IoU is at least `min_iou`. Frames are tracked in the direction in which they were
        tracked before, with `bidirectional=True` in both; frames never tracked are left out. Yields a `Results` with
        all objects for each frame; `changed_frames` then names the frames whose mask has changed.

        Raises:
            StateError: if the session does not retain old frames; retain="all" does.
        """
        if self.options.retain != "all":
            raise StateError(
                "this session retains recent frames only, so there is nothing to compare with: open it with "
                'retain="all", or propagate again from the corrected frame'
            )
        self.changed_frames = {}
        return self._step_by_step(
            repropagate_corrections(
                self.tracker, self.changed_frames, min_iou=min_iou, patience=patience, bidirectional=bidirectional
            )
        )

    @_one_at_a_time
    def doubts(self, limit: int | None = None, *, check_backward: bool = False) -> list[Doubt]:
        """Return which tracked frames to check and correct first, and why; at most `limit` of them.

        See `masklet.video.doubts` for how frames are ranked. `check_backward=True` also tracks each object back from
        the last frame on which it is visible, on copies, and counts where that differs from the stored masks; it takes
        about as long as tracking did. The state of the session stays as it is.

        Example:
            >>> for doubt in s.doubts(limit=5):  # doctest: +SKIP
            ...     print(doubt.frame_idx, doubt.object_id, doubt.score, doubt.reasons)

        Raises:
            StateError: if the session does not retain old frames (retain="all" does), or nothing has been tracked.
            InputError: if `limit` is no whole number of at least 1.
        """
        self._check_open()
        if self.options.retain != "all":
            raise StateError(
                "this session retains recent frames only, so there is nothing to rank: open it with "
                'retain="all" and propagate'
            )
        if check_backward and not self.video.seekable:
            raise StateError(f"{self.video.path!r} is a stream and does not run backwards; open a file or a folder")
        return session_doubts(self.tracker, limit, check_backward=check_backward)

    @_one_at_a_time
    def results_at(self, frame_idx: int, *, threshold: float = 0.0) -> Results:
        """Return the stored masks of all objects on a frame.

        A pixel is inside above the logit `threshold`; a higher one gives smaller masks. Masks that were given as
        prompts are what they are.

        Raises:
            StateError: if nothing is stored (any more): open the session with retain="all".
        """
        return self.tracker.results_at(self.frame(frame_idx), threshold=threshold)

    @_one_at_a_time
    def logits_at(self, object_id: int, frame_idx: int) -> npt.NDArray[np.float32]:
        """Return the stored low-resolution logits (h, w) of an object; they cover the entire frame.

        Raises:
            PromptError: if there is no such object.
            StateError: if nothing is stored (any more): open the session with retain="all".
        """
        state = self.tracker.get_object(object_id).bank.get(self.frame(frame_idx).index)
        if state is None or state.logits_11HW is None:
            raise StateError(f'no mask of object {object_id} is stored on frame {frame_idx}: open with retain="all"')
        logits_HW: npt.NDArray[np.float32] = state.logits_11HW[0, 0].float().cpu().numpy()
        return logits_HW

    @_one_at_a_time
    def cache_features(self, start: int, stop: int, max_megabytes: int = 2048) -> bool:
        """Cache the features of the frames from `start` to before `stop`, so that each is encoded only once.

        False: they take more than `max_megabytes` (17 MB a frame at 1024), so only the last few are cached.

        Example:
            >>> with model.session("clip.mp4", retain="all") as s:  # doctest: +SKIP
            ...     s.cache_features(0, 80)
            True
        """
        self.tracker.frame_features(self.frame(start))
        return self.tracker.cache.reserve(stop - start, max_megabytes * 10**6)

    # state ------------------------------------------------------------------------------------------------------

    @_one_at_a_time
    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the state of this session to a .safetensors file, atomically, and return the path.

        It holds the objects with their prompts and memories, the options, and the unfinished pass. You may call it
        between two frames of `propagate`; `model.session(source, resume=path)` then resumes with `resume`. A saved
        session is replaced, another file only with `overwrite`.

        Raises:
            OutputError: if the file cannot be written, or is there and no saved session.
            StateError: if the session is closed, or of a stream, whose frames come only once.
            InputError: if a custom memory selector has no name by which it can be recognized.
        """
        self._check_open()
        context = SessionContext(self.network.model, self.video, self.options)
        return write_session(path, context, self._state(), overwrite=overwrite)

    @_one_at_a_time
    def restore_saved(self, saved: SavedSession) -> None:
        """Replace the state by that of a saved session; `model.session(source, resume=path)` calls this.

        Raises:
            CheckpointError: if the file is damaged, or of another model.
            InputError: if it was saved for another source or with other options.
        """
        context = SessionContext(self.network.model, self.video, self.options)
        self._set_state(saved.load_state(context, self.network.device))

    @_one_at_a_time
    def snapshot(self) -> SessionState:
        """Return a copy of the state in memory; `restore_snapshot` returns to it, as often as you like.

        You may call it between two frames of `propagate`; after `restore_snapshot`, `resume` continues from there.

        Example:
            >>> before = s.snapshot()  # doctest: +SKIP
            >>> s.correct(1, frame_idx=7, points=[[210, 350]])  # doctest: +SKIP
            >>> s.restore_snapshot(before)  # doctest: +SKIP
        """
        return deepcopy(self._state())

    @_one_at_a_time
    def restore_snapshot(self, snapshot: SessionState) -> None:
        """Replace the state by a snapshot of this session."""
        self._set_state(deepcopy(snapshot))

    def _state(self) -> SessionState:
        return SessionState(
            self.tracker.objects,
            self.tracker.propagation_start,
            self._next_frame,
            self._propagation,
            self.changed_frames,
            tuple(self.tracker.cuts.frames),
        )

    def _set_state(self, state: SessionState) -> None:
        self.tracker.objects, self.tracker.propagation_start = state.objects, state.propagation_start
        self._next_frame, self._propagation = state.next_frame, state.propagation
        self.changed_frames, self.tracker.cuts = state.changed_frames, SceneCuts(state.cuts)
