"""Keywords of other libraries, each refused with what there is instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from typing import ParamSpec, TypeVar

from masklet.errors import InputError

__all__ = ["explain_keywords"]

P = ParamSpec("P")
T = TypeVar("T")

_AT_OPENING = "it is chosen when the model is opened, {model}({hint}): open another one and leave it out of the call"
_AFTERWARD = "the call returns results and writes nothing: leave it out and use results[0].{hint}"
_ALWAYS = "leave it out: {hint}"
_OTHER_NAME = "its name here is {hint}"

REMEDIES: dict[str, tuple[str, str]] = {
    "augment": (_ALWAYS, "images are not augmented in prediction"),
    "batch": (_ALWAYS, "images are segmented one by one"),
    "box": (_OTHER_NAME, "bboxes"),
    "boxes": (_AFTERWARD, "save('out.png', boxes=True)"),
    "conf": (_ALWAYS, "results[0][results[0].scores > 0.5] has the objects with high scores"),
    "classes": (_ALWAYS, "this model has no classes; masklet.YOLO detects objects by class"),
    "agnostic_nms": (_ALWAYS, "this model has no classes; masklet.YOLO detects objects by class"),
    "device": (_AT_OPENING, "device='cuda:0'"),
    "embed": (_ALWAYS, "features are in model.predictor.features after model.predictor.set_image(rgb)"),
    "half": (_AT_OPENING, "precision='fp16'"),
    "image_size": (_AT_OPENING, "image_size=512"),
    "imgsz": (_AT_OPENING, "image_size=512"),
    "iou": (_ALWAYS, "everything=MaskGeneratorOptions(box_nms_thresh=0.7) removes duplicates without prompts"),
    "line_width": (_AFTERWARD, "plot(style=...)"),
    "mask_input": (_OTHER_NAME, "logits"),
    "max_det": (_ALWAYS, "results[0][:100] has the first objects"),
    "multimask_output": (_OTHER_NAME, "multimask"),
    "name": (_AFTERWARD, "save('folder/out.png')"),
    "persist": (_ALWAYS, "model.session(video) keeps its tracks"),
    "point_coords": (_OTHER_NAME, "points"),
    "point_labels": (_OTHER_NAME, "labels"),
    "precision": (_AT_OPENING, "precision='fp16'"),
    "project": (_AFTERWARD, "save('folder/out.png')"),
    "retina_masks": (_ALWAYS, "masks always have the size of the image"),
    "save": (_AFTERWARD, "save('out.png')"),
    "save_conf": (_AFTERWARD, "save_txt('out.txt', save_conf=True)"),
    "save_crop": (_AFTERWARD, "save_crop('crops')"),
    "save_dir": (_AFTERWARD, "save('folder/out.png')"),
    "save_frames": (_AFTERWARD, "save('frame.png')"),
    "save_txt": (_AFTERWARD, "save_txt('out.txt')"),
    "show": (_AFTERWARD, "show()"),
    "show_boxes": (_AFTERWARD, "plot(boxes=True)"),
    "show_conf": (_AFTERWARD, "plot(labels=True)"),
    "show_labels": (_AFTERWARD, "plot(labels=True)"),
    "stream": (_ALWAYS, "model.stream(source) yields one result after the other"),
    "stream_buffer": (_ALWAYS, "no frame is dropped"),
    "task": (_ALWAYS, "the checkpoint says what the model does"),
    "texts": (_ALWAYS, "masklet.FastSAM takes texts"),
    "tracker": (_ALWAYS, "options of tracking are options=TrackOptions(...)"),
    "verbose": (_ALWAYS, "nothing is printed"),
    "vid_stride": (_ALWAYS, "choose the frames in the source"),
    "visualize": (_ALWAYS, "features are in model.predictor.features after model.predictor.set_image(rgb)"),
}
"""For each keyword what to say, and the hint in it."""


def explain_keywords(keywords: Iterable[str] = ()) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a method so that an unknown keyword raises `InputError` with the remedy, instead of `TypeError`.

    `keywords` are those that the method takes beside the ones in its signature.

    Example:
        >>> class Model:
        ...     @explain_keywords()
        ...     def __call__(self, source, *, points=None): ...
        >>> Model()("dog.jpg", imgsz=512)
        Traceback (most recent call last):
            ...
        masklet.errors.InputError: imgsz=512 is no keyword of this call; it is chosen when the model is opened, ...
    """

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        parameters = inspect.signature(method).parameters.values()
        named = [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        accepted = dict.fromkeys([*named[1:], *keywords])

        @wraps(method)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            unknown = next((name for name in kwargs if name not in accepted), None)
            if unknown is None:
                return method(*args, **kwargs)
            model = type(args[0]).__name__ if args else "model"
            start = f"{unknown}={kwargs[unknown]!r:.40} is no keyword of this call"
            close = get_close_matches(unknown, accepted, 1, 0.8)
            if unknown in REMEDIES:
                template, hint = REMEDIES[unknown]
                aliases = {"imgsz": "image_size", "image_size": "imgsz", "half": "precision", "device": "device"}
                if aliases.get(unknown) in accepted:
                    template, hint = _OTHER_NAME, aliases[unknown]
                raise InputError(f"{start}; {template.format(model=model, hint=hint)}")
            if close:
                raise InputError(f"{start}; did you mean {close[0]}?")
            raise InputError(f"{start}; it takes {', '.join(accepted)}")

        return checked

    return decorate
