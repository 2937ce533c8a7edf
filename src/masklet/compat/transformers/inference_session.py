"""`Sam2VideoInferenceSession`: a video, or frames that are handed in, and the prompts on its frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from masklet.compat.transformers.pixel_values import from_pixel_values, resize_bytes
from masklet.errors import InputError, StateError
from masklet.media import Frame, Video
from masklet.prompts import ObjectPrompt
from masklet.video import TrackOptions
from masklet.video.frame_cache import PushFrames
from masklet.video.memory_bank import TrackedObject, merge_prompts, validate_object_id
from masklet.video.tracker import Tracker, VideoNetwork

__all__ = ["Sam2VideoInferenceSession"]


class Sam2VideoInferenceSession:
    """The objects of a video; `tracker` is the `masklet.video.tracker.Tracker`, from the first call of a model on.

    Frames are read when they are needed, and resized to `input_size`, in whose pixels prompts are.
    """

    def __init__(self, video: Video | None = None, input_size: int = 1024) -> None:
        self.video, self.input_size = video, input_size
        self.video_height: int | None = None if video is None else video.size[0]
        self.video_width: int | None = None if video is None else video.size[1]
        self.obj_ids: list[int] = []
        """Ids of all objects, in the order they were added."""
        self.prompts: dict[int, dict[int, ObjectPrompt]] = {}
        """By frame and id: all prompts."""
        self.new_prompts: dict[int, dict[int, ObjectPrompt]] = {}
        """Those that no model has answered yet."""
        self.frames = PushFrames(None if video is None else video.num_frames)
        self.tracker: Tracker | None = None

    @property
    def num_frames(self) -> int | None:
        """Frames of the video, or that were handed in; None before the first of them."""
        if self.video is not None:
            return self.video.num_frames
        return None if self.frames.last is None else self.frames.last.index + 1

    def add_prompt(self, obj_id: int, frame_idx: int, prompt: ObjectPrompt, *, clear_old: bool = True) -> None:
        """Add a prompt of an object on a frame, in pixels of the network's input; `clear_old` replaces earlier points.

        Raises:
            PromptError: if the id is no whole number from 0, or the prompt lies outside the frame.
        """
        number = validate_object_id(obj_id)
        prompt = prompt.fit_to_image((self.input_size, self.input_size))
        known = self.prompts.setdefault(frame_idx, {})
        before = known.get(number)
        if not clear_old and before is not None and before.mask is None:
            prompt = merge_prompts(before, prompt)
        known[number] = self.new_prompts.setdefault(frame_idx, {})[number] = prompt
        if number not in self.obj_ids:
            self.obj_ids.append(number)

    def first_prompted_frame(self) -> int:
        """Return the first frame with prompts.

        Raises:
            StateError: if there is none.
        """
        if not self.prompts:
            raise StateError("there is nothing to track yet: call processor.add_inputs_to_inference_session(...) first")
        return min(self.prompts)

    def frame(self, frame_idx: int) -> Frame:
        """Read a frame of the video.

        Raises:
            StateError: if the session has no video.
            InputError, SourceError: if the frame does not exist or cannot be read.
        """
        if self.video is None:
            last = self.frames.last
            if last is not None and last.index == frame_idx:
                return last
            raise StateError(f"frame {frame_idx} is not here: hand frames in with model(session, frame=pixel_values)")
        read = self.video[frame_idx]
        return replace(read, rgb=resize_bytes(read.rgb, (self.input_size, self.input_size)))

    def push(self, pixel_values: Tensor, frame_idx: int | None = None) -> Frame:
        """Return the next frame of a stream, made of the pixel values (3, S, S) of a processor.

        Raises:
            InputError: if they have another size than the processor makes.
        """
        pixels = pixel_values[0] if pixel_values.ndim == 4 else pixel_values
        if pixels.shape != (3, self.input_size, self.input_size):
            raise InputError(
                f"a frame of shape {tuple(pixels.shape)} must be (3, {self.input_size}, {self.input_size}): "
                "inputs.pixel_values[0] of the processor that made the session"
            )
        return Frame(from_pixel_values(pixels), "stream", (self.num_frames or 0) if frame_idx is None else frame_idx)

    def start(self, network: VideoNetwork) -> None:
        """Track with a network from now on."""
        retain: Literal["recent", "all"] = "recent" if self.video is None else "all"
        options = TrackOptions(retain=retain, corrections="sam2", fill_hole_area=0).as_published()
        self.tracker = Tracker(network, self.frames, options)

    def move_to(self, frame: Frame) -> Tracker:
        """Make `frame` the one that is prompted and tracked, and return the tracker."""
        assert self.tracker is not None
        self.frames.last = frame
        return self.tracker

    def answer_prompts(self, frame: Frame) -> set[int]:
        """Segment the objects with new prompts on a frame; return the ids of those whose tracked mask was corrected.

        A prompt is answered as if the object had no mask on the frame yet.
        """
        assert self.tracker is not None
        corrected = set()
        for number, prompt in self.new_prompts.pop(frame.index, {}).items():
            obj = self.tracker.objects.get(number) or TrackedObject(number)
            obj.prompts.pop(frame.index, None)
            obj.bank.prompted.pop(frame.index, None)
            before = obj.bank.tracked.get(frame.index)
            if before is not None:
                obj.bank.tracked[frame.index] = replace(before, logits_11HW=None)
                corrected.add(number)
            self.tracker.add_prompt(obj, frame, prompt)
            self.tracker.objects[number] = obj
        return corrected

    def reset_tracking_data(self) -> None:
        """Remove all objects; features of frames stay cached."""
        self.obj_ids, self.prompts, self.new_prompts = [], {}, {}
        if self.tracker is not None:
            self.tracker.objects.clear()

    def reset_inference_session(self) -> None:
        """Remove all objects, and what is cached."""
        self.reset_tracking_data()
        self.tracker = None
