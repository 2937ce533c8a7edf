"""The verbs of tracking: prompt any object on any frame, follow all of them, correct, remove.

Coordinates are pixels of the original frame, x to the right and y down; boxes are xyxy; frames count from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

from masklet.closing import Closing
from masklet.errors import InputError, PromptError, StateError
from masklet.media import Frame, Video
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.video.frame_cache import FilmFrames, StreamFrames
from masklet.video.memory_bank import TrackedObject, checked_id, said
from masklet.video.postprocess import HeldRows
from masklet.video.propagation import Pass
from masklet.video.repropagate import updated
from masklet.video.session_load import SavedSession
from masklet.video.session_save import About, Known, write_session
from masklet.video.track_options import TrackOptions
from masklet.video.tracker import Engine, Stepper

__all__ = ["Session"]

Watcher = Callable[[int], None]


class Session(Closing):
    """A film, and the objects that are followed through it; close it, or use it as a context manager.

    Example:
        >>> with model.session("clip.mp4") as s:
        ...     s.add(1, frame=0, points=[[210, 350]])
        ...     s.add(2, frame=40, box=[300, 0, 500, 400])
        ...     for frame in s.propagate(both=True):
        ...         print(frame.frame, frame.ids, frame.states)
    """

    def __init__(self, stepper: Stepper, video: Video, options: TrackOptions) -> None:
        self.video, self.options = video, options
        frames = FilmFrames(video) if video.seekable else StreamFrames(video)
        self.engine = Engine(stepper, frames, options)
        self.changed: dict[int, list[int]] = {}
        """After `update`: by id, the frames whose mask is another one now."""
        self._next: int | None = None
        self._pass: Pass | None = None
        self._open = True

    def close(self) -> None:
        """Let go of the film and of everything that is remembered."""
        self._open = False
        self.engine.objects.clear()
        self.engine.cache.clear()
        self.video.close()

    @property
    def ids(self) -> tuple[int, ...]:
        """The objects there are, in the order they were added."""
        return tuple(self.engine.objects)

    @property
    def last(self) -> int | None:
        """The frame that was passed last; None: none was."""
        return None if self._next is None else self._next - 1

    def add(
        self,
        id: int,
        *,
        frame: int,
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
        number = checked_id(id)
        picture = self.frame(frame)
        one = self.engine.objects.get(number)
        refine = one is not None and one.bank.get(picture.index) is not None
        new = said(points, labels, box, mask, size=picture.size, refine=refine)
        return self.say(number, picture.index, new)

    def say(self, id: int, frame: int, prompt: ObjectPrompt) -> Results:
        """As `add`, with a prompt that is already typed."""
        picture = self.frame(frame)
        one = self.engine.objects.get(checked_id(id)) or TrackedObject(checked_id(id))
        kept = self.engine.prompt(one, picture, prompt.fit(picture.size))
        self.engine.objects[one.id] = one
        return self.engine.show(picture, [(one, kept)])

    def correct(
        self,
        id: int,
        *,
        frame: int,
        points: object = None,
        labels: object = None,
        box: object = None,
        mask: object = None,
    ) -> Results:
        """Put an object right on `frame`; as `add`, for one that is there. `update` then mends the frames around.

        Raises:
            PromptError: no such object, or a prompt that cannot be meant.
        """
        number = self.engine.known(id).id
        return self.add(number, frame=frame, points=points, labels=labels, box=box, mask=mask)

    def remove(self, id: int) -> None:
        """Forget an object altogether; the others are not touched.

        Raises:
            PromptError: no such object.
        """
        del self.engine.objects[self.engine.known(id).id]

    def clear(self, id: int, *, frame: int) -> None:
        """Take back what was said about an object on `frame`.

        What it was found to be there stays as a tracked frame, when the frame has been passed. An object about which
        nothing is said any more is no longer followed.

        Raises:
            PromptError: no such object, or nothing was said about it there.
        """
        one = self.engine.known(id)
        if frame not in one.prompts:
            where = ", ".join(map(str, sorted(one.prompts))) or "none"
            raise PromptError(f"object {one.id} has no prompt on frame {frame!r}; it has on frames {where}")
        del one.prompts[frame]
        kept = one.bank.prompted.pop(frame)
        if kept.reverse is not None and kept.spatial_1MHW is not None:
            one.bank.tracked[frame] = kept
            one.stale.add(frame)

    def propagate(
        self,
        start: int | None = None,
        stop: int | None = None,
        *,
        reverse: bool = False,
        both: bool = False,
        progress: Watcher | None = None,
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
        self._check(start, stop, reverse, both)
        first = start or 0 if both else self._start(start, reverse)
        return self._begin(Pass(first, stop, reverse, first, both=both), progress)

    def go_on(self, *, progress: Watcher | None = None) -> Iterator[Results]:
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
        if self._pass is None:
            raise StateError("no pass is under way that could be gone on with: begin one with propagate()")
        return self._run(self._pass, progress)

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
        return write_session(path, self._about(), self._known())

    def restore(self, saved: SavedSession) -> None:
        """Know what a saved session knew, and nothing else; `model.session(source, resume=path)` calls this.

        Raises:
            CheckpointError: damaged, or of another model.
            InputError: saved for another source or with other options.
        """
        self._take(saved.known(self._about(), self.engine.stepper.device))

    def remembered(self) -> Known:
        """All that is known at this moment, in memory; `go_back` returns to it, as often as one likes.

        It may be called between two frames of `propagate`; after `go_back`, `go_on` follows on from there.

        Example:
            >>> before = s.remembered()
            >>> s.correct(1, frame=7, points=[[210, 350]])
            >>> s.go_back(before)  # as if nothing had been corrected
        """
        return deepcopy(self._known())

    def go_back(self, known: Known) -> None:
        """Know what this session knew when it answered `remembered()`, and nothing else."""
        self._take(deepcopy(known))

    def hold(self, start: int, stop: int, megabytes: int = 2048) -> bool:
        """Encode the frames from `start` to before `stop` once, however often they are passed, where that has room.

        False: their features take more than `megabytes` (17 MB a frame at 1024), so only the last few are held.

        Example:
            >>> with model.session("clip.mp4", keep="all") as s:
            ...     s.hold(0, 80)
            True
        """
        self.engine.features(self.frame(start))
        return self.engine.cache.widen(stop - start, megabytes * 10**6)

    def _take(self, known: Known) -> None:
        self.engine.objects, self.engine.anchor = known.objects, known.anchor
        self._next, self._pass, self.changed = known.next, known.under_way, known.changed

    def _about(self) -> About:
        return About(self.engine.stepper.model, self.video, self.options)

    def _known(self) -> Known:
        return Known(self.engine.objects, self.engine.anchor, self._next, self._pass, self.changed)

    def update(self, *, agree: float = 0.99, patience: int = 3, both: bool = False) -> Iterator[Results]:
        """After corrections: follow the corrected objects again until `patience` masks in a row agree with the old.

        Two masks agree when their IoU is at least `agree`. Goes the way the frames were tracked; `both=True` the other
        way too. Only frames that were tracked before are gone through. A `Results` with all objects for each frame;
        `changed` then names the frames whose mask changed.

        Raises:
            StateError: the session does not keep old frames (keep="all" does).
        """
        if self.options.keep != "all":
            raise StateError(
                'this session keeps recent frames only, so there is nothing to compare with: open it with keep="all", '
                "or propagate again from the corrected frame"
            )
        self.changed = {}
        return updated(self.engine, self.changed, agree=agree, patience=patience, both=both)

    def at(self, frame: int) -> Results:
        """What is known of all objects on `frame`.

        Raises:
            StateError: nothing any more: open the session with keep="all".
        """
        return self.engine.known_at(self.frame(frame))

    def frame(self, index: Any) -> Frame:
        """The picture of a frame.

        Raises:
            InputError, SourceError, StateError: a frame that is not there.
        """
        self._check_open()
        if isinstance(index, bool) or not hasattr(index, "__index__") or index.__index__() < 0:
            raise InputError(f"frame {index!r} must be a whole number, 0 or more")
        return self.engine.frames.frame(index.__index__())

    # ---------------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._open:
            raise StateError("this session is closed; open another one with model.session(source)")

    def _check(self, start: int | None, stop: int | None, reverse: bool, both: bool) -> None:
        self._check_open()
        if not any(one.prompts for one in self.engine.objects.values()):
            raise StateError("there is nothing to follow yet: say what with add(1, frame=0, points=[x, y]) first")
        if reverse and both:
            raise InputError("reverse=True and both=True exclude each other: both goes back and forward")
        if (reverse or both) and not self.video.seekable:
            raise StateError(f"{self.video.path!r} is a stream and does not run backwards; open a file or a folder")
        for name, value in (("start", start), ("stop", stop)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise InputError(f"{name}={value!r} must be a frame number, 0 or more")
        if start is not None and stop is not None and (start <= stop if reverse else start >= stop):
            way = "below" if reverse else "above"
            raise InputError(f"start={start} and stop={stop} hold no frame: stop must be {way} start")

    def _start(self, start: int | None, reverse: bool) -> int:
        """Where a pass begins; on a stream it goes on where the last one ended."""
        if start is not None:
            return start
        prompted = [frame for one in self.engine.objects.values() for frame in one.prompts]
        if not self.video.seekable and self._next is not None:
            return self._next
        return max(prompted) if reverse else min(prompted)

    def _begin(self, under_way: Pass, progress: Watcher | None) -> Iterator[Results]:
        """Objects that are known of where the pass begins take part at once; which, is seen when it begins."""
        if not under_way.both:
            objects = self.engine.objects.values()
            under_way.begun = frozenset(one.id for one in objects if one.bank.get(under_way.start) is not None)
        yield from self._run(under_way, progress)

    def _run(self, under_way: Pass, progress: Watcher | None) -> Iterator[Results]:
        self._pass = under_way
        if under_way.both and under_way.held is None:
            under_way.held = self._look_back(under_way.start, progress)
        self.engine.anchor = under_way.start
        for frame in self._walk(under_way):
            objects = [one for one in self.engine.objects.values() if under_way.takes(one, frame.index)]
            shown = self._advance(frame, objects, under_way.reverse)
            if under_way.both and progress is not None:
                progress(frame.index)
            earlier = under_way.held.pop(frame.index, None) if under_way.held else None
            under_way.passed(frame.index)
            yield shown if earlier is None else earlier.onto(shown, self.ids)
        self._pass = None

    def _walk(self, under_way: Pass) -> Iterator[Frame]:
        if under_way.next < 0 or under_way.next == under_way.stop:  # all of it was passed
            return iter(())
        return self.engine.frames.walk(under_way.next, under_way.stop, under_way.reverse)

    def _advance(self, frame: Frame, active: list[TrackedObject], reverse: bool) -> Results:
        rows = self.engine.advance(frame, active, reverse)
        self._next = frame.index + 1
        return self.engine.show(frame, rows, self.engine.speed)

    def _look_back(self, start: int, progress: Watcher | None) -> dict[int, HeldRows]:
        """Every object from its first prompt back to `start`."""
        held: dict[int, HeldRows] = {}
        objects = [one for one in self.engine.objects.values() if one.prompts and one.first > start]
        if not objects:
            return held
        last = max(one.first for one in objects)
        self.engine.anchor = last
        for frame in self.engine.frames.walk(last, start - 1 if start else None, True):
            active = [one for one in objects if frame.index <= one.first]
            rows = [row for row in self.engine.advance(frame, active, True) if frame.index < row[0].first]
            if rows:
                held[frame.index] = HeldRows.of(self.engine.show(frame, rows, self.engine.speed))
            if progress is not None:
                progress(frame.index)
        for one in objects:
            one.hidden = 0
        return held
