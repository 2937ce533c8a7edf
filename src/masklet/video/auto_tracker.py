"""A video without prompts: what a finder finds is followed with identities, from its birth to its death.

`follow_everything` goes through a video once, in memory that depends on how many objects are followed and not on how
long the video is. The finder is any callable that looks at one frame, segmenting everything or a detector; how finds
and followed objects are told apart is in `finding`, what became of each object in `lives`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from masklet.closing import Closeable
from masklet.errors import ModelError
from masklet.media import Frame, Video
from masklet.results import Masks, Results
from masklet.video.association import (
    Candidate,
    Detection,
    FrameDetector,
    Match,
    RegionDetector,
    TrackAssociator,
    candidates,
)
from masklet.video.frame_cache import PushFrames
from masklet.video.live import LiveSession
from masklet.video.memory_bank import TrackedObject, parse_object_prompt
from masklet.video.postprocess import DEFAULT_NAMES
from masklet.video.track_history import NOT_FOUND_AGAIN, OUT_OF_SIGHT, Track, TrackHistory
from masklet.video.track_options import AutoTrackOptions, TrackOptions
from masklet.video.tracker import ObjectBatcher, Tracker

__all__ = ["AutoTrackStream", "AutoTracker", "auto_track"]

BoolArray = npt.NDArray[np.bool_]

MAX_EXTENSIONS = 3
"""Times that an object which entered cut by the edge may be seen to be larger."""
REINIT_IOU = 0.9
"""A find that agrees so far with what is followed says nothing that was not known."""


class AutoTrackStream(Closeable, Iterator[Results]):
    """The frames of a video one by one, and in `lives` what became of its objects; close it to stop before the end.

    Example:
        >>> with follow_everything(stepper, video, finder) as following:
        ...     for frame in following:
        ...         frame.ids, following.lives.born, following.lives.died
        >>> print(following.lives)
        object 1: dog, frames 0 to 89, end of the video
    """

    def __init__(
        self, video: Video, frames: Iterator[Frame], step: Callable[[Frame], Results], track_history: TrackHistory
    ) -> None:
        self.video, self.track_history = video, track_history
        self._results = self._iterate(frames, step)

    def __next__(self) -> Results:
        return next(self._results)

    def close(self) -> None:
        """Let go of the video; `lives` stays as it is."""
        self._results.close()
        self.video.close()

    def _iterate(self, frames: Iterator[Frame], step: Callable[[Frame], Results]) -> Generator[Results, None, None]:
        with self.video:
            for frame in frames:
                yield step(frame)
            self.track_history.finish()


def auto_track(
    batcher: ObjectBatcher | None,
    video: Video,
    detector: FrameDetector,
    options: AutoTrackOptions | None = None,
    track_options: TrackOptions | None = None,
    *,
    start: int | None = None,
    stop: int | None = None,
) -> AutoTrackStream:
    """Find objects in the first frame and in every `options.every`-th, follow them in between, join what is the same.

    `finder` is called with RGB (H, W, 3) uint8 and gives `Found`s: masks or boxes with score, class and name. An
    object keeps the id and the class it was born with; ids are 1, 2, ... and none is given twice. Frames from `start`
    to before `stop`. The video is closed at its end. Where a finder gives masks and no identities are wanted, no
    `stepper` is needed.

    Example:
        >>> def finder(rgb):
        ...     return [Found(score, box=box, class_id=c, name=names[c]) for box, score, c in detector(rgb)]
        >>> following = follow_everything(stepper, open_video("clip.mp4"), finder, FollowOptions(every=5))
        >>> for frame in following:
        ...     frame.ids, frame.classes, frame.names, frame.masks
        >>> print(following.lives)
        object 1: dog, frames 0 to 89, end of the video

    Raises:
        SourceError: frames that cannot be read.
        InputError: finds that cannot be meant.
    """
    wanted, how = options or AutoTrackOptions(), track_options or TrackOptions()
    frames = video.frames(start, stop)
    if not wanted.identities:
        engine = None if batcher is None else Tracker(batcher, PushFrames(), how)
        return AutoTrackStream(video, frames, _PerFrameResults(engine, detector).step, TrackHistory())
    assert batcher is not None, "objects are followed by a network"
    follower = AutoTracker(batcher, detector, wanted, how, video.num_frames)
    return AutoTrackStream(video, frames, follower.step, follower.track_history)


class AutoTracker:
    """One frame in, one result out: what the finder finds, followed with identities.

    Example:
        >>> follower = Follower(stepper, finder)
        >>> for frame in open_video(0):
        ...     follower.step(frame).ids
    """

    def __init__(
        self,
        batcher: ObjectBatcher,
        detector: FrameDetector,
        options: AutoTrackOptions | None = None,
        track_options: TrackOptions | None = None,
        length: int | None = None,
    ) -> None:
        self.detector, self.options = detector, options or AutoTrackOptions()
        self.live = LiveSession(batcher, track_options or TrackOptions(), length)
        self.track_history = TrackHistory()
        self.names: dict[int, str] = {}
        self._next_detection: int | None = None
        self._duplicates: frozenset[tuple[int, int]] = frozenset()

    def step(self, frame: Frame) -> Results:
        """The next frame, with everything that is followed on it; `lives` then says who was born and who died.

        Raises:
            InputError: finds that cannot be meant.
        """
        self.track_history.begin_frame()
        shown = self.live.step_frame(frame)
        self._update_visibility(shown)
        began = perf_counter()
        if self._next_detection is None or frame.index >= self._next_detection:
            self._next_detection = frame.index + self.options.detect_every
            self._detect_and_match(frame, shown)
            shown = self._results_after_detection(frame, shown.speed)
        elif self.track_history.ended:
            shown = shown[[id in self.track_history.active for id in shown.ids.tolist()]]
        shown.speed["find"] = 1e3 * (perf_counter() - began)
        classes = [self.track_history.active[id].class_id for id in shown.ids.tolist()]
        return replace(shown, classes=np.array(classes, np.int32), names=dict(self.names or DEFAULT_NAMES))

    def _results_after_detection(self, frame: Frame, speed: dict[str, float]) -> Results:
        """The frame as it is known after a look."""
        every = self.live.tracker.objects.values()
        return self.live.tracker.build_results(frame, [(one, one.bank[frame.index]) for one in every], speed)

    # growing older -----------------------------------------------------------------------------------------------

    def _update_visibility(self, results: Results) -> None:
        assert results.frame_idx is not None
        for id, state in zip(results.ids.tolist(), results.states or (), strict=True):
            life = self.track_history.active[id]
            if state == "visible":
                life.last_frame, life.frames_unseen, life.visible_frames = results.frame_idx, 0, life.visible_frames + 1
                continue
            life.frames_unseen += 1
            if life.frames_unseen >= self.options.max_missing_frames:
                self._end_track(id, OUT_OF_SIGHT)

    def _end_track(self, id: int, reason: str) -> None:
        self.live.remove_object(id)
        self.track_history.end_track(id, reason)

    # looking -----------------------------------------------------------------------------------------------------

    def _detect_and_match(self, frame: Frame, results: Results) -> None:
        """Ask the finder, and tell what is new from what is followed."""
        ground = TrackAssociator(self.options)
        for i, id in enumerate(results.ids.tolist()):
            if id in self.track_history.active and results.masks is not None:
                ground.add(id, results.masks.data[i], self.track_history.active[id].class_id)
        self._merge_duplicates(ground)
        met: set[int] = set()
        for candidate in candidates(self._detect(frame, ground), frame.size, self.options):
            id = self._match_candidate(frame, candidate, ground, met)
            if id is not None:
                met.add(id)
                self._add_class_score(self.track_history.active[id], candidate.detection)
        self._count_missed(met)

    def _detect(self, frame: Frame, associator: TrackAssociator) -> Iterable[Detection]:
        """What there is, or as much of it as can be new, where nothing hangs on finding the rest again."""
        known, wanted = associator.covered_mask, self.options
        again = wanted.parts or wanted.reinit_on_match or wanted.max_undetected is not None
        if known is None or again or not isinstance(self.detector, RegionDetector):
            return self.detector(frame.rgb)
        return self.detector.detect_outside(frame.rgb, known)

    def _merge_duplicates(self, associator: TrackAssociator) -> None:
        """Two that are one and the same at two looks in a row are one: the older."""
        twins = associator.duplicates()
        for older, younger in sorted(twins & self._duplicates):
            if older in self.track_history.active and younger in self.track_history.active:
                self._end_track(younger, f"joined with {older}")
                associator.remove(younger)
        self._duplicates = twins

    def _match_candidate(
        self, frame: Frame, candidate: Candidate, associator: TrackAssociator, matched_ids: set[int]
    ) -> int | None:
        """The followed object that a find is, born now if need be; None: a part, nothing, or there is no place."""
        found = candidate.detection
        verdict = _match(candidate, associator, matched_ids)
        if not verdict.new:
            return self._update_matched(verdict, frame, found)
        full = len(self.track_history.active) >= self.options.max_objects
        if full and not any(life.truncated for life in self.track_history.active.values()):
            self.track_history.rejected += 1
            return None
        one, mask = _prompt_object(self.live.tracker, frame, found, self.track_history.num_started + 1)
        verdict = associator.match_mask(mask, found.class_id) if mask.any() else Match(new=False)
        if not verdict.new:
            return self._update_matched(verdict, frame, found)
        known = self._truncated_track(associator.contained_tracks(mask, found.class_id))
        if known is None and full:
            self.track_history.rejected += 1
            return None
        associator.add(one.id if known is None else known.id, mask, found.class_id)
        return self._start_track(frame, one, mask, found) if known is None else self._extend(frame, known, mask)

    def _update_matched(self, match: Match, frame: Frame, detection: Detection) -> int | None:
        """A find that is followed already, maybe less well than it was found."""
        if match.id is not None and self.options.reinit_on_match and match.iou < REINIT_IOU:
            mask = detection.full_mask(frame.size)
            self.live.add_prompt(
                match.id, mask=mask, box=None if mask is not None else detection.clipped_box(frame.size)
            )
            _keep_first_and_last_prompt(self.live.tracker.objects[match.id])
        return match.id

    def _truncated_track(self, contained_ids: list[int]) -> Track | None:
        """The one object that a larger find is: it came in cut by the edge of the frame."""
        life = self.track_history.active[contained_ids[0]] if len(contained_ids) == 1 else None
        return life if life is not None and life.truncated and life.extensions < MAX_EXTENSIONS else None

    def _extend(self, frame: Frame, track: Track, mask: BoolArray) -> int:
        self.live.add_prompt(track.id, mask=mask)
        _keep_first_and_last_prompt(self.live.tracker.objects[track.id])
        track.extensions, track.truncated = track.extensions + 1, _touches_frame_edge(mask)
        return track.id

    def _start_track(self, frame: Frame, obj: TrackedObject, mask: BoolArray, detection: Detection) -> int:
        self.live.tracker.objects[obj.id] = obj
        number = int(detection.class_id)
        life = Track(
            obj.id, number, detection.name, float(detection.score), first_frame=frame.index, last_frame=frame.index
        )
        life.truncated = _touches_frame_edge(mask)
        self.track_history.start_track(life)
        return life.id

    def _add_class_score(self, track: Track, detection: Detection) -> None:
        number = int(detection.class_id)
        self.names.setdefault(number, detection.name)
        track.missed_detections = 0
        track.class_scores[number] = track.class_scores.get(number, 0.0) + float(detection.score)

    def _count_missed(self, matched_ids: set[int]) -> None:
        """What is in sight, and was not found."""
        for id, life in list(self.track_history.active.items()):
            if id in matched_ids or life.frames_unseen:
                continue
            life.missed_detections += 1
            if self.options.max_undetected is not None and life.missed_detections >= self.options.max_undetected:
                self._end_track(id, NOT_FOUND_AGAIN)


class _PerFrameResults:
    """Every frame by itself, as the finder sees it: ids are 1, 2, ... on each, in the finder's order."""

    def __init__(self, tracker: Tracker | None, detector: FrameDetector) -> None:
        self.tracker, self.detector = tracker, detector

    def step(self, frame: Frame) -> Results:
        """The next frame."""
        began = perf_counter()
        finds = list(self.detector(frame.rgb))
        masks = [self._mask(frame, found) for found in finds]
        rows = [i for i, mask in enumerate(masks) if mask.any()]
        return Results(
            frame.rgb,
            frame.path,
            Masks(np.stack([masks[i] for i in rows])) if rows else None,
            np.array([finds[i].score for i in rows], np.float32),
            ids=np.arange(1, len(rows) + 1, dtype=np.int32),
            classes=np.array([finds[i].class_id for i in rows], np.int32),
            names={int(found.class_id): found.name for found in reversed(finds)} or dict(DEFAULT_NAMES),
            speed={"find": 1e3 * (perf_counter() - began)},
            frame_idx=frame.index,
            time=frame.time,
            states=("visible",) * len(rows),
        )

    def _mask(self, frame: Frame, detection: Detection) -> BoolArray:
        mask = detection.full_mask(frame.size)
        if mask is not None:
            return mask
        if self.tracker is None:
            raise ModelError(
                "the finder gave a box without a mask, and this model, which is for images only, does not draw it "
                "here: let the finder give masks, or choose another model, such as sam2.1_t.pt"
            )
        return _prompt_object(self.tracker, frame, detection, 1)[1]


def _match(candidate: Candidate, associator: TrackAssociator, matched_ids: set[int]) -> Match:
    """What a find is, as far as it can be said without the network: of a box only whose box it is."""
    if candidate.mask is not None:
        return associator.match_mask(candidate.mask, candidate.detection.class_id)
    return associator.match_box(candidate.box, candidate.detection.class_id, matched_ids)


def _prompt_object(
    tracker: Tracker, frame: Frame, detection: Detection, object_id: int
) -> tuple[TrackedObject, BoolArray]:
    """An object that is not followed yet, and what the network sees of it where the find is: maybe nothing."""
    mask = detection.full_mask(frame.size)
    box = None if mask is not None else detection.clipped_box(frame.size)
    one = TrackedObject(object_id)
    if box is not None and (box[2:] - box[:2] < 1).any():
        return one, np.zeros(frame.size, bool)
    asked = parse_object_prompt(None, None, box, mask, size=frame.size, refine=False)
    shown = tracker.build_results(frame, [(one, tracker.add_prompt(one, frame, asked))])
    assert shown.masks is not None
    return one, shown.masks.data[0]


def _keep_first_and_last_prompt(obj: TrackedObject) -> None:
    """Of the frames on which an object was found, the first and the last are remembered: its memory does not grow."""
    for index in sorted(obj.prompts)[1:-1]:
        del obj.prompts[index]
        obj.bank.prompted.pop(index, None)  # with published corrections it went to the tracked frames
    obj.corrected_frames.clear()


def _touches_frame_edge(mask: BoolArray) -> bool:
    """Whether a mask touches the edge of the frame, but for a hundredth of its side."""
    y, x = (max(1, round(side / 100)) for side in mask.shape)
    return bool(mask[:y].any() or mask[-y:].any() or mask[:, :x].any() or mask[:, -x:].any())
