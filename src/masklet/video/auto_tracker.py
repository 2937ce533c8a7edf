"""Track the objects of a video without prompts: a detector finds them, and they keep their ids.

`auto_track` runs through a video once, in memory that depends on the number of tracked objects and not on the length
of the video. The detector is any callable that takes one frame, such as automatic mask generation or an object
detector; `association` matches detections with tracks, and `track_history` records each track.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

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
from masklet.video.reidentification import Appearance, AppearanceGallery
from masklet.video.track_history import NOT_FOUND_AGAIN, OUT_OF_SIGHT, Track, TrackHistory
from masklet.video.track_options import AutoTrackOptions, TrackOptions
from masklet.video.tracker import Tracker, VideoNetwork

__all__ = ["AutoTrackStream", "AutoTracker", "auto_track"]

BoolArray = npt.NDArray[np.bool_]

MAX_EXTENSIONS = 3
"""How often a track that entered truncated by the edge may turn out to be larger."""
REINIT_IOU = 0.9
"""A detection that agrees this far with its track adds nothing, and does not restart it."""
EDGE_FRACTION = 0.01
"""Fraction of a side of the frame that counts as its edge."""


class AutoTrackStream(AbstractContextManager["AutoTrackStream"], Iterator[Results]):
    """The results of a video, frame by frame, with the history of its tracks; close it to stop before the end.

    Example:
        >>> with auto_track(network, video, detector) as stream:  # doctest: +SKIP
        ...     for results in stream:
        ...         print(results.ids, stream.track_history.started, stream.track_history.ended)
        >>> print(stream.track_history)  # doctest: +SKIP
        object 1: dog, frames 0 to 89, end of the video
    """

    def __init__(
        self, video: Video, frames: Iterator[Frame], step: Callable[[Frame], Results], track_history: TrackHistory
    ) -> None:
        self.video, self.track_history = video, track_history

        def results() -> Generator[Results, None, None]:
            with video:
                for frame in frames:
                    yield step(frame)
                track_history.finish()

        self._results = results()

    def __next__(self) -> Results:
        return next(self._results)

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the video; `track_history` stays as it is."""
        self._results.close()
        self.video.close()


def auto_track(
    network: VideoNetwork | None,
    video: Video,
    detector: FrameDetector,
    options: AutoTrackOptions | None = None,
    track_options: TrackOptions | None = None,
    *,
    start: int | None = None,
    stop: int | None = None,
) -> AutoTrackStream:
    """Detect objects in the first frame and in every `detect_every`-th, and track them in between.

    `detector` is called with RGB (H, W, 3) uint8 and returns `Detection`s: masks or boxes with score, class and name.
    An object keeps the id and the class of its first detection; ids are 1, 2, ... and none is used twice. Frames are
    those from `start` to before `stop`; the video is closed at the end. Without identities, and with a detector that
    returns masks, `network` may be None.

    Example:
        >>> def detector(rgb):
        ...     return [Detection(score, box=box, class_id=c, name=names[c]) for box, score, c in detect(rgb)]
        >>> stream = auto_track(network, open_video("clip.mp4"), detector)  # doctest: +SKIP
        >>> for results in stream:  # doctest: +SKIP
        ...     print(results.ids, results.classes, results.names)

    Raises:
        SourceError: if frames cannot be read.
        InputError: if a detection is malformed.
    """
    options, track_options = options or AutoTrackOptions(), track_options or TrackOptions()
    frames = video.frames(start, stop)
    if not options.identities:
        tracker = None if network is None else Tracker(network, PushFrames(), track_options)
        return AutoTrackStream(
            video, frames, lambda frame: _results_per_frame(tracker, detector, frame), TrackHistory()
        )
    assert network is not None, "objects are tracked by a network"
    auto_tracker = AutoTracker(network, detector, options, track_options, video.num_frames)
    return AutoTrackStream(video, frames, auto_tracker.step, auto_tracker.track_history)


class AutoTracker:
    """Detects and tracks objects in frames that are handed in one by one.

    Example:
        >>> tracker = AutoTracker(network, detector)  # doctest: +SKIP
        >>> for frame in open_video(0):  # doctest: +SKIP
        ...     print(tracker.step(frame).ids)
    """

    def __init__(
        self,
        network: VideoNetwork,
        detector: FrameDetector,
        options: AutoTrackOptions | None = None,
        track_options: TrackOptions | None = None,
        length: int | None = None,
    ) -> None:
        self.detector, self.options = detector, options or AutoTrackOptions()
        self.live = LiveSession(network, track_options or TrackOptions(), length)
        self.track_history = TrackHistory()
        self.names: dict[int, str] = {}
        self.gallery = AppearanceGallery(self.options.min_similarity)
        self._drifted: set[int] = set()
        """Tracks that did not look like their object when the detector ran last."""
        self._next_detection: int | None = None
        self._duplicates: frozenset[tuple[int, int]] = frozenset()

    def step(self, frame: Frame) -> Results:
        """Track all objects into the next frame and detect new ones; `track_history` then has what changed.

        Raises:
            InputError: if a detection is malformed.
        """
        history = self.track_history
        history.begin_frame()
        results = self.live.step_frame(frame)
        self._update_visibility(results)
        began = perf_counter()
        cut = frame.index in self.live.tracker.cuts.frames
        if self._next_detection is None or frame.index >= self._next_detection or cut:
            self._next_detection = frame.index + self.options.detect_every
            self._detect_and_match(frame, results)
            rows = [(one, one.bank[frame.index]) for one in self.live.tracker.objects.values()]
            results = self.live.tracker.build_results(frame, rows, results.speed)
        elif history.ended:
            results = results[[id in history.active for id in results.ids.tolist()]]
        results.speed["find"] = 1e3 * (perf_counter() - began)
        classes = np.array([history.active[id].class_id for id in results.ids.tolist()], np.int32)
        return replace(results, classes=classes, names=dict(self.names or DEFAULT_NAMES))

    def _update_visibility(self, results: Results) -> None:
        """Count visible and missing frames, and end the tracks that are out of sight for too long."""
        assert results.frame_idx is not None
        for id, state in zip(results.ids.tolist(), results.states or (), strict=True):
            track = self.track_history.active[id]
            if state == "visible":
                track.last_frame, track.frames_unseen = results.frame_idx, 0
                track.visible_frames += 1
                continue
            track.frames_unseen += 1
            if track.frames_unseen >= self.options.max_missing_frames:
                self._end_track(id, OUT_OF_SIGHT)

    def _end_track(self, id: int, reason: str) -> None:
        self.live.remove_object(id)
        self.track_history.end_track(id, reason)

    def _detect_and_match(self, frame: Frame, results: Results) -> None:
        """Run the detector, match its detections with the tracks, and start tracks for new objects."""
        active, associator = self.track_history.active, TrackAssociator(self.options)
        self._drifted.clear()
        for i, id in enumerate(results.ids.tolist()):
            if id in active and results.masks is not None:
                associator.add(id, results.masks.data[i], active[id].class_id)
                self._update_appearance(frame, id, results.masks.data[i])

        duplicates = associator.duplicates()
        for older, younger in sorted(duplicates & self._duplicates):  # one and the same at two runs in a row
            if older in active and younger in active:
                self._end_track(younger, f"joined with {older}")
                associator.remove(younger)
        self._duplicates = duplicates

        matched_ids: set[int] = set()
        options = self.options
        needs_all = options.parts or options.reinit_on_match or options.max_undetected is not None
        if not associator.covered or needs_all or not isinstance(self.detector, RegionDetector):
            detections = self.detector(frame.rgb)
        else:  # no option depends on detecting the tracked objects again
            covered = np.logical_or.reduce(list(associator.covered.values()))
            detections = self.detector.detect_outside(frame.rgb, covered)
        for candidate in candidates(detections, frame.size, options):
            matched = self._match_or_start(frame, candidate, associator, matched_ids)
            if matched is not None:
                matched_ids.add(matched)
                track, number = active[matched], int(candidate.detection.class_id)
                self.names.setdefault(number, candidate.detection.name)
                track.missed_detections = 0
                track.class_scores[number] = track.class_scores.get(number, 0.0) + float(candidate.detection.score)

        for id, track in list(active.items()):
            if id in matched_ids or track.frames_unseen:
                continue
            track.missed_detections += 1
            if self.options.max_undetected is not None and track.missed_detections >= self.options.max_undetected:
                self._end_track(id, NOT_FOUND_AGAIN)

    def _match_or_start(
        self, frame: Frame, candidate: Candidate, associator: TrackAssociator, matched_ids: set[int]
    ) -> int | None:
        """Return the track of a detection, started here if it is a new object.

        None: it is a part, the network sees nothing there, or `max_objects` are active.
        """
        detection, history = candidate.detection, self.track_history
        if candidate.mask is not None:
            match = associator.match_mask(candidate.mask, detection.class_id)
        else:
            match = associator.match_box(candidate.box, detection.class_id, matched_ids)
        if match.new:
            full = len(history.active) >= self.options.max_objects
            lost = self._lost_tracks(detection.class_id) - matched_ids if self.options.reidentify else set()
            may_be_known = any(track.truncated or id in lost for id, track in history.active.items())
            if full and not may_be_known:
                history.rejected += 1
                return None
            obj, mask = _prompt_object(self.live.tracker, frame, detection, history.num_started + 1)
            match = associator.match_mask(mask, detection.class_id) if mask.any() else Match(new=False)
        if not match.new:
            if match.id is not None and self.options.reinit_on_match and match.iou < REINIT_IOU:
                detected = detection.full_mask(frame.size)
                self._prompt_again(match.id, detected, detection.clipped_box(frame.size) if detected is None else None)
            return match.id

        edge_y, edge_x = (max(1, round(side * EDGE_FRACTION)) for side in mask.shape)
        touches_edge = bool(
            mask[:edge_y].any() or mask[-edge_y:].any() or mask[:, :edge_x].any() or mask[:, -edge_x:].any()
        )
        contained = associator.contained_tracks(mask, detection.class_id)
        known = history.active[contained[0]] if len(contained) == 1 else None
        if known is not None and known.truncated and known.extensions < MAX_EXTENSIONS:
            associator.add(known.id, mask, detection.class_id)
            self._prompt_again(known.id, mask, None)
            known.extensions, known.truncated = known.extensions + 1, touches_edge
            return known.id
        appearance = self._appearance(frame, mask) if self.options.reidentify else None
        found = self.gallery.recognize(appearance, lost)
        if full and found not in history.active:
            history.rejected += 1
            return None
        if found is None:
            class_id, score, index = int(detection.class_id), float(detection.score), frame.index
            history.start_track(Track(obj.id, class_id, detection.name, score, first_frame=index, last_frame=index))
        else:
            obj.id = found
            history.resume_track(found, frame.index)
        if obj.id in self.live.tracker.objects:  # it is out of sight, and its first memory stays
            self._prompt_again(obj.id, mask, None)
        else:
            self.live.tracker.objects[obj.id] = obj
        associator.add(obj.id, mask, detection.class_id)
        self.gallery.add(obj.id, appearance)
        history.active[obj.id].truncated = touches_edge
        return obj.id

    def _update_appearance(self, frame: Frame, id: int, mask: BoolArray) -> None:
        """Remember how a track looks, unless it no longer looks like its object: then it has drifted to another one."""
        if not self.options.reidentify or not mask.any():
            return
        appearance = self._appearance(frame, mask)
        if self.gallery.resembles(id, appearance):
            self.gallery.add(id, appearance)
        else:
            self._drifted.add(id)

    def _appearance(self, frame: Frame, mask: BoolArray) -> Appearance | None:
        return Appearance.of_object(frame.rgb, mask, self.live.tracker.keys.get(frame.index))

    def _lost_tracks(self, class_id: int) -> set[int]:
        """Return the tracks of a class that are out of sight, have ended so, or have drifted to something else."""
        history = self.track_history
        ended = (track for track in history.finished if track.end_reason in (OUT_OF_SIGHT, NOT_FOUND_AGAIN))
        unseen = (track for track in history.active.values() if track.frames_unseen or track.id in self._drifted)
        return {track.id for track in (*ended, *unseen) if track.class_id == class_id}

    def _prompt_again(self, id: int, mask: BoolArray | None, box: npt.NDArray[np.float32] | None) -> None:
        """Prompt a track on the last frame, and release its prompts but the first and the last, to bound memory."""
        self.live.add_prompt(id, mask=mask, box=box)
        obj = self.live.tracker.objects[id]
        for index in sorted(obj.prompts)[1:-1]:
            del obj.prompts[index]
            obj.bank.prompted.pop(index, None)  # with corrections as in sam2 it is among the tracked frames
        obj.corrected_frames.clear()


def _results_per_frame(tracker: Tracker | None, detector: FrameDetector, frame: Frame) -> Results:
    """Return the detections of a frame that stands alone: ids are 1, 2, ... in the detector's order."""
    began = perf_counter()
    detections, masks = list(detector(frame.rgb)), []
    for detection in detections:
        mask = detection.full_mask(frame.size)
        if mask is None:
            if tracker is None:
                raise ModelError(
                    "the detector gave a box without a mask, and this model, which is for images only, cannot segment "
                    "it here: let the detector give masks, or choose another model, such as sam2.1_t.pt"
                )
            mask = _prompt_object(tracker, frame, detection, 1)[1]
        masks.append(mask)
    rows = [i for i, mask in enumerate(masks) if mask.any()]
    return Results(
        frame.rgb,
        frame.path,
        Masks(np.stack([masks[i] for i in rows])) if rows else None,
        np.array([detections[i].score for i in rows], np.float32),
        ids=np.arange(1, len(rows) + 1, dtype=np.int32),
        classes=np.array([detections[i].class_id for i in rows], np.int32),
        names={int(one.class_id): one.name for one in reversed(detections)} or dict(DEFAULT_NAMES),
        speed={"find": 1e3 * (perf_counter() - began)},
        frame_idx=frame.index,
        time=frame.time,
        states=("visible",) * len(rows),
    )


def _prompt_object(
    tracker: Tracker, frame: Frame, detection: Detection, object_id: int
) -> tuple[TrackedObject, BoolArray]:
    """Prompt a new object with a detection and return it with the mask the network sees there, maybe an empty one."""
    mask, obj = detection.full_mask(frame.size), TrackedObject(object_id)
    box = None if mask is not None else detection.clipped_box(frame.size)
    if box is not None and (box[2:] - box[:2] < 1).any():
        return obj, np.zeros(frame.size, bool)
    prompt = parse_object_prompt(None, None, box, mask, size=frame.size, refine=False)
    results = tracker.build_results(frame, [(obj, tracker.add_prompt(obj, frame, prompt))])
    assert results.masks is not None
    return obj, results.masks.data[0]
