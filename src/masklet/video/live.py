"""A live view: one frame in, one result out, in memory that does not grow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from masklet.errors import PromptError, SourceError
from masklet.media import Frame
from masklet.results import Results
from masklet.video.frame_cache import PushFrames
from masklet.video.memory_bank import TrackedObject, parse_object_prompt, validate_object_id
from masklet.video.track_options import TrackOptions
from masklet.video.tracker import ObjectBatcher, Tracker

__all__ = ["LiveSession"]

PendingPrompt = tuple[int, object, object, object, object]


class LiveSession:
    """Objects followed through frames that are handed in one by one.

    What is said before the first frame holds for the first frame; later, for the last frame that was handed in, which
    is the one a person sees when they click.

    Example:
        >>> live = model.live()
        >>> live.add(1, points=[210, 350])
        >>> for rgb in camera:
        ...     frame = live.step(rgb)
    """

    def __init__(self, batcher: ObjectBatcher, options: TrackOptions, length: int | None = None) -> None:
        self.frames = PushFrames(length)
        self.tracker = Tracker(batcher, self.frames, options)
        self._pending: list[PendingPrompt] = []
        self._next_index = 0

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects there are, in the order they were added."""
        return tuple(dict.fromkeys([*self.tracker.objects, *(number for number, *_ in self._pending)]))

    def add_prompt(
        self, object_id: int, *, points: object = None, labels: object = None, box: object = None, mask: object = None
    ) -> Results | None:
        """Say what object `id` is; answers with its mask on the last frame, or None before the first frame.

        An object that is there already is told more: points add up, a box or a mask starts the frame anew.

        Raises:
            PromptError: an id or a prompt that cannot be meant; before the first frame, `step` raises it.
        """
        number = validate_object_id(object_id)
        if points is None and box is None and mask is None:
            raise PromptError("points, box and mask are all None: say what the object is, such as points=[x, y]")
        if self.frames.last is None:
            self._pending.append((number, points, labels, box, mask))
            return None
        return self._apply_prompt(self.frames.last, (number, points, labels, box, mask))

    correct = add_prompt

    def remove_object(self, object_id: int) -> None:
        """Forget an object altogether.

        Raises:
            PromptError: no such object.
        """
        number = validate_object_id(object_id)
        if number in self.object_ids and number not in self.tracker.objects:
            self._pending = [prompt for prompt in self._pending if prompt[0] != number]
            return
        del self.tracker.objects[self.tracker.get_object(number).id]

    def step(self, rgb: npt.NDArray[np.uint8], *, time: float | None = None) -> Results:
        """The next frame, RGB (H, W, 3) uint8, with all objects on it; `time` in seconds, if there is a clock.

        Raises:
            SourceError: no such image, or one of another size than the first.
            PromptError: what was said before the first frame does not fit it.
        """
        self._check(rgb)
        return self.step_frame(Frame(rgb=rgb, path="live", index=self._next_index, time=time))

    def step_frame(self, frame: Frame) -> Results:
        """The next frame, as a video gives it: its number is above that of the one before, its size the same.

        Raises:
            PromptError: what was said before the first frame does not fit it.
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
            raise
        self._next_index = frame.index + 1
        return self.tracker.build_results(frame, rows, self.tracker.speed if objects else None)

    def _apply_prompt(self, frame: Frame, prompt: PendingPrompt) -> Results:
        number, points, labels, box, mask = prompt
        one = self.tracker.objects.get(number) or TrackedObject(number)
        refine = one.bank.get(frame.index) is not None
        new = parse_object_prompt(points, labels, box, mask, size=frame.size, refine=refine)
        kept = self.tracker.add_prompt(one, frame, new)
        self.tracker.objects[number] = one
        return self.tracker.build_results(frame, [(one, kept)])

    def _check(self, rgb: object) -> None:
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            found = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
            raise SourceError(
                f"step takes RGB uint8 (height, width, 3), got {found}; turn OpenCV's BGR with [..., ::-1]"
            )
        last = self.frames.last
        if last is not None and last.size != rgb.shape[:2]:
            raise SourceError(
                f"frame {self._next_index} is {rgb.shape[:2]} (height, width) and the first was {last.size}: all frames of "  # noqa: E501
                "a live view have one size; resize it, or begin another live view"
            )
