"""Track objects through frames that are handed in one by one, in memory that does not grow."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from masklet.errors import PromptError, SourceError
from masklet.media import Frame
from masklet.prompts import BoxesLike, LabelsLike, MasksLike, PointsLike
from masklet.results import Results
from masklet.video.frame_cache import PushFrames
from masklet.video.memory_bank import (
    TrackedObject,
    parse_object_prompt,
    validate_object_id,
)
from masklet.video.track_options import TrackOptions
from masklet.video.tracker import EncodedFrame, Tracker, VideoNetwork

__all__ = ["LiveSession"]

PendingPrompt: TypeAlias = "tuple[int, PointsLike | None, LabelsLike | None, BoxesLike | None, MasksLike | None]"


class LiveSession:
    """Objects tracked through frames that are handed in one by one.

    A prompt applies to the frame that was handed in last, which is the one a person sees when they click; before the
    first frame, to the first frame.

    Example:
        >>> live = model.live()  # doctest: +SKIP
        >>> live.add_prompt(1, points=[210, 350])  # doctest: +SKIP
        >>> for rgb in camera:  # doctest: +SKIP
        ...     results = live.step(rgb)
    """

    def __init__(self, network: VideoNetwork, options: TrackOptions, length: int | None = None) -> None:
        self.frames = PushFrames(length)
        self.tracker = Tracker(network, self.frames, options)
        self._pending: list[PendingPrompt] = []
        self._next_index = 0

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids of all objects, in the order they were added."""
        return tuple(dict.fromkeys([*self.tracker.objects, *(number for number, *_ in self._pending)]))

    def add_prompt(
        self,
        object_id: int,
        *,
        points: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box: BoxesLike | None = None,
        mask: MasksLike | None = None,
    ) -> Results | None:
        """Prompt an object and return its mask on the last frame, or None before the first frame.

        On a frame that has prompts of this object, points accumulate; a box or a mask replaces them.

        Raises:
            PromptError: if the id or the prompt is malformed; before the first frame, `step` raises it.
        """
        number = validate_object_id(object_id)
        if points is None and box is None and mask is None:
            raise PromptError("points, box and mask are all None: give one, such as points=[x, y]")
        if self.frames.last is None:
            self._pending.append((number, points, labels, box, mask))
            return None
        return self._apply_prompt(self.frames.last, (number, points, labels, box, mask))

    correct = add_prompt

    def remove_object(self, object_id: int) -> None:
        """Remove an object with its memory.

        Raises:
            PromptError: if there is no such object.
        """
        number = validate_object_id(object_id)
        if number in self.object_ids and number not in self.tracker.objects:
            self._pending = [prompt for prompt in self._pending if prompt[0] != number]
            return
        del self.tracker.objects[self.tracker.get_object(number).id]

    def encode(self, rgb: npt.NDArray[np.uint8]) -> EncodedFrame:
        """Encode a frame, RGB (H, W, 3) uint8, for `step` of this and other live sessions of the same model.

        Example:
            >>> encoded = first.encode(rgb)  # doctest: +SKIP
            >>> for live in (first, second):  # doctest: +SKIP
            ...     live.step(rgb, encoded=encoded)

        Raises:
            SourceError: if it is no such image.
        """
        _check_rgb(rgb)
        return self.tracker.encode_unless_cached(Frame(rgb=rgb, path="live", index=-1))  # an index that no frame has

    def step(
        self, rgb: npt.NDArray[np.uint8], *, time: float | None = None, encoded: EncodedFrame | None = None
    ) -> Results:
        """Track all objects into the next frame, RGB (H, W, 3) uint8; `time` is in seconds, if known.

        `encoded` is what `encode` returned for this frame, which is then not encoded again.

        Raises:
            SourceError: if it is no such image, has another size than the first, or is not the one that was encoded.
            PromptError: if a prompt given before the first frame does not fit it.
        """
        _check_rgb(rgb)
        last = self.frames.last
        if last is not None and last.size != rgb.shape[:2]:
            raise SourceError(
                f"frame {self._next_index} is {rgb.shape[:2]} (height, width) and the first was {last.size}: all "
                "frames of a live view have one size; resize it, or begin another live view"
            )
        frame = Frame(rgb=rgb, path="live", index=self._next_index, time=time)
        if encoded is not None:
            if encoded.frame.size != frame.size:
                raise SourceError(
                    f"encoded is of a frame of {encoded.frame.size} (height, width), and this one is {frame.size}: "
                    "give what encode(rgb) returned for this frame"
                )
            self.tracker.store_features(replace(encoded, frame=frame))
        return self.step_frame(frame)

    def step_frame(self, frame: Frame) -> Results:
        """Track all objects into the next frame of a video: its index is higher than the last, its size the same.

        Raises:
            PromptError: if a prompt given before the first frame does not fit it.
        """
        self.tracker.encode_prompted_frames(list(self.tracker.objects.values()))
        before, self.frames.last = self.frames.last, frame
        try:
            while self._pending:
                self._apply_prompt(frame, self._pending[0])
                del self._pending[0]
            objects = [one for one in self.tracker.objects.values() if one.prompts]
            self.tracker.propagation_start = frame.index
            rows = self.tracker.track_frame(frame, objects, False) if objects else []
        except BaseException:
            self.frames.last = before
            self.tracker.cache.discard(frame.index)  # the next frame has this index
            raise
        self._next_index = frame.index + 1
        return self.tracker.build_results(frame, rows, self.tracker.speed if objects else None)

    def _apply_prompt(self, frame: Frame, pending: PendingPrompt) -> Results:
        number, points, labels, box, mask = pending
        obj = self.tracker.objects.get(number) or TrackedObject(number)
        refine = obj.bank.get(frame.index) is not None
        prompt = parse_object_prompt(points, labels, box, mask, size=frame.size, refine=refine)
        state = self.tracker.add_prompt(obj, frame, prompt)
        self.tracker.objects[number] = obj
        return self.tracker.build_results(frame, [(obj, state)])


def _check_rgb(rgb: npt.NDArray[np.uint8]) -> None:
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        given = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise SourceError(f"step takes RGB uint8 (height, width, 3), got {given}; turn OpenCV's BGR with [..., ::-1]")
