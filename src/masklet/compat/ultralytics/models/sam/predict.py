"""The predictors of `ultralytics.models.sam`, which are opened with `overrides`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from masklet import sam
from masklet.compat.ultralytics.arguments import PredictArgs, PromptValue, parse_predict_args, plain_prompt
from masklet.compat.ultralytics.engine.results import Results
from masklet.compat.ultralytics.model import SAM
from masklet.compat.ultralytics.outputs import PredictOutputs
from masklet.compat.ultralytics.sources import InputImage, Source, open_source, open_video_source
from masklet.errors import InputError, PromptError, StateError
from masklet.media import SourceImage
from masklet.prompts import parse_prompts
from masklet.results import Masks as NativeMasks
from masklet.results import Results as NativeResults
from masklet.video import LiveSession

__all__ = ["Predictor", "SAM2DynamicInteractivePredictor", "SAM2Predictor", "SAM2VideoPredictor"]

PROMPTS = ("points", "labels", "bboxes", "masks")


class Predictor:
    """Segment images with a SAM, one image for many prompts if it is set first.

    `overrides` are keywords of predict mode, with the model among them.

    Example:
        >>> predictor = Predictor(overrides=dict(conf=0.25, imgsz=1024, model="mobile_sam.pt"))  # doctest: +SKIP
        >>> predictor.set_image("dog.jpg")  # doctest: +SKIP
        >>> results = predictor(points=[[900, 370]], labels=[1])  # doctest: +SKIP
        >>> predictor.reset_image()  # doctest: +SKIP
    """

    default_model = "sam_b.pt"

    def __init__(
        self, cfg: object = None, overrides: Mapping[str, Any] | None = None, _callbacks: object = None
    ) -> None:
        if cfg is not None or _callbacks is not None:
            raise InputError("cfg and _callbacks are not in masklet.compat.ultralytics; give overrides=dict(model=...)")
        given = {name: value for name, value in (overrides or {}).items() if name != "model"}
        self.args: PredictArgs = parse_predict_args(given)
        self.model = SAM((overrides or {}).get("model") or self.default_model)
        self.model.overrides = given
        self._image: Source | None = None
        self._prompts: dict[str, Any] = {}

    def set_image(self, image: Source) -> None:
        """Encode an image, which later calls without a source refer to.

        Raises:
            SourceError: if it cannot be read.
        """
        (first, *others) = open_source(image)
        if others:
            raise InputError(f"set_image takes one image, and {image!r:.80} has {1 + len(others)}: set one of them")
        self._image = first.image
        self.model._native(self.args).prepare(first.image)

    def reset_image(self) -> None:
        """Release the image."""
        self._image = None

    def set_prompts(self, prompts: Mapping[str, Any]) -> None:
        """Set prompts for the next call."""
        self._prompts = dict(prompts)

    def __call__(self, source: Source | None = None, model: None = None, stream: bool = False, **kwargs: Any) -> Any:
        """Segment a source, or the image that was set; see `SAM.predict`.

        Raises:
            StateError: if there is neither.
        """
        if model is not None:
            raise InputError(f"model={model!r:.40} is given when a predictor is made: overrides=dict(model=...)")
        if source is None and self._image is None:
            raise StateError("there is no image; give source=..., or call set_image first")
        prompts, self._prompts = self._prompts, {}
        return self.model.predict(self._image if source is None else source, stream, **{**prompts, **kwargs})


class SAM2Predictor(Predictor):
    """As `Predictor`, with a SAM 2."""

    default_model = "sam2_b.pt"


class SAM2VideoPredictor(SAM2Predictor):
    """Track prompted objects through a video; without prompts, everything that is found.

    Example:
        >>> predictor = SAM2VideoPredictor(overrides=dict(conf=0.25, imgsz=1024, model="sam2_b.pt"))  # doctest: +SKIP
        >>> results = predictor(source="test.mp4", points=[920, 470], labels=[1])  # doctest: +SKIP
    """

    def __call__(self, source: Source | None = None, model: None = None, stream: bool = False, **kwargs: Any) -> Any:
        """Track through `source`: a list of one `Results` per frame, with `stream` an iterator of them.

        Prompts are for the first frame. The class of an object is its number from 0; an object that is not visible has
        no row. `conf` does not apply, as objects are those that were prompted.

        Raises:
            SourceError: if there is no source, or it cannot be read.
            PromptError: if a prompt is malformed or outside the frame.
            ModelError: if the model is for images only.
        """
        if model is not None:
            raise InputError(f"model={model!r:.40} is given when a predictor is made: overrides=dict(model=...)")
        if source is None:
            raise InputError("there is no video; give source=..., such as source='test.mp4'")
        kwargs = {**self._prompts, **kwargs}
        self._prompts = {}
        prompts: dict[str, Any] = {
            name: plain_prompt(kwargs.pop(name)) for name in PROMPTS if kwargs.get(name) is not None
        }
        args = parse_predict_args({**self.model.overrides, **{k: v for k, v in kwargs.items() if k not in PROMPTS}})
        video = open_video_source(source)
        if args.vid_stride > 1:
            video = (image.image for image in open_source(source, args.vid_stride))
        native: sam.SAM = self.model._native(args)
        results = self._track(native.track(video, channels="bgr", **prompts), args)
        return results if stream else list(results)

    def _track(self, frames: Iterator[NativeResults], args: PredictArgs) -> Iterator[Results]:
        with PredictOutputs(args) as outputs:
            for frame in frames:
                assert frame.masks is not None
                visible = frame[np.flatnonzero(frame.masks.data.any(axis=(1, 2)))[: args.max_det]]
                results = Results.from_native(visible, classes=visible.ids - 1)
                number = frame.frame_idx or 0
                outputs.add(results, InputImage(SourceImage(frame.orig_img, frame.path), number + 1, None, number))
                yield results


class SAM2DynamicInteractivePredictor(SAM2Predictor):
    """Segment images one after the other, with a memory of those whose objects were given.

    `update_memory` keeps the image with its objects in memory; later images are segmented by it. All images have the
    size of the first. The class of an object is its id.

    Example:
        >>> overrides = dict(conf=0.01, imgsz=1024, model="sam2_t.pt")  # doctest: +SKIP
        >>> predictor = SAM2DynamicInteractivePredictor(overrides=overrides, max_obj_num=10)  # doctest: +SKIP
        >>> predictor("1.jpg", bboxes=[[100, 100, 200, 200]], obj_ids=[1], update_memory=True)  # doctest: +SKIP
        >>> results = predictor("2.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        cfg: object = None,
        overrides: Mapping[str, Any] | None = None,
        max_obj_num: int = 3,
        _callbacks: object = None,
    ) -> None:
        super().__init__(cfg, overrides, _callbacks)
        self.max_obj_num = max_obj_num
        self._live: LiveSession | None = None

    def __call__(
        self,
        source: Source | None = None,
        model: None = None,
        stream: bool = False,
        bboxes: PromptValue = None,
        points: PromptValue = None,
        labels: PromptValue = None,
        masks: PromptValue = None,
        obj_ids: Sequence[int] | Tensor | None = None,
        update_memory: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Segment each image of `source` by its prompts and by memory: a list of `Results`, with `stream` an iterator.

        Raises:
            PromptError: if a prompt is malformed, `obj_ids` are not one for each object, or they are more than
                `max_obj_num`.
            StateError: if there are neither prompts nor a memory, or no image.
        """
        if model is not None:
            raise InputError(f"model={model!r:.40} is given when a predictor is made: overrides=dict(model=...)")
        images = source if source is not None else self._image
        if images is None:
            raise StateError("there is no image; give source=..., or call set_image first")
        args = parse_predict_args({**self.model.overrides, **kwargs})
        if self._live is None:
            self._live = self.model._native(args).live()
        given = {"points": points, "labels": labels, "bboxes": bboxes, "masks": masks}
        prompts = {name: plain_prompt(value) for name, value in given.items()}
        ids = None if obj_ids is None else [int(number) for number in obj_ids]
        results = self._segment(images, self._live, prompts, ids, update_memory, args)
        return results if stream else list(results)

    def _segment(
        self,
        source: Source,
        live: LiveSession,
        prompts: dict[str, Any],
        ids: list[int] | None,
        update_memory: bool,
        args: PredictArgs,
    ) -> Iterator[Results]:
        prompted = any(prompts[name] is not None for name in ("points", "bboxes", "masks"))
        if not prompted and not live.object_ids:
            raise StateError("there is nothing in memory yet; give bboxes or points, obj_ids and update_memory=True")
        with PredictOutputs(args) as outputs:
            for image in open_source(source, args.vid_stride):
                parsed = parse_prompts(**prompts, size=image.image.size) if prompted else ()
                numbers = list(range(1, len(parsed) + 1)) if ids is None else ids
                if len(numbers) != len(parsed) and prompted:
                    raise PromptError(f"obj_ids={numbers} must be {len(parsed)} ids, one for each prompted object")
                if len({*live.object_ids, *numbers}) > self.max_obj_num:
                    raise PromptError(
                        f"obj_ids={numbers} would make more than max_obj_num={self.max_obj_num} objects: raise it"
                    )
                before = copy.deepcopy(live.tracker.objects)
                found = live.step(image.image.rgb)
                for number, prompt in zip(numbers, parsed, strict=False):
                    answer = live.add_prompt(
                        number,
                        points=None if prompt.points is None else prompt.points.xy,
                        labels=None if prompt.points is None else prompt.points.labels,
                        box=None if prompt.box is None else prompt.box.xyxy,
                        mask=None if prompt.mask is None else prompt.mask.mask,
                    )
                    assert answer is not None
                    found = _join(found[found.ids != number], answer)
                if not update_memory:
                    live.tracker.objects = before
                assert found.masks is not None
                rows = np.flatnonzero(found.masks.data.any(axis=(1, 2)) & (found.scores > args.conf))
                found = found[rows]
                results = Results.from_native(found, classes=found.ids)
                results.path = image.image.path
                outputs.add(results, image)
                yield results


def _join(first: NativeResults, second: NativeResults) -> NativeResults:
    """Return the rows of both."""
    assert first.masks is not None
    assert second.masks is not None
    return NativeResults(
        second.orig_img,
        second.path,
        NativeMasks(np.concatenate([first.masks.data, second.masks.data])),
        np.concatenate([first.scores, second.scores]),
        ids=np.concatenate([first.ids, second.ids]),
        classes=np.concatenate([first.classes, second.classes]),
        names=second.names,
        speed=first.speed or second.speed,
    )
