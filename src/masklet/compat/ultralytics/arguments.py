"""The keywords of ultralytics' `predict`, with its defaults, as one checked value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

from torch import Tensor

from masklet.errors import InputError
from masklet.runtime import DeviceLike

__all__ = ["PredictArgs", "PromptValue", "parse_predict_args", "plain_prompt"]

PromptValue = object
"""Points, labels, boxes or masks: nested lists, an array or a tensor."""

REFUSED: Mapping[str, str] = {
    "agnostic_nms": "SAM has no classes; masklet.YOLO takes agnostic_nms",
    "augment": "images are not augmented in prediction: remove it",
    "classes": "SAM has no classes: take masklet.YOLO, or results[0][[0, 2]] for some of the objects",
    "compile": "masklet has compiled no network: remove it",
    "embed": "features are in masklet.SAM(...).predictor.features after predictor.set_image(rgb)",
    "int8": "weights are in fp32: remove it, or take half=True",
    "dnn": "networks run in PyTorch: remove it",
    "visualize": "features are in masklet.SAM(...).predictor.features after predictor.set_image(rgb)",
}
"""What is refused unless it has its default, and what there is instead."""
IGNORED = ("batch", "mode", "optimize", "rect", "simplify", "stream_buffer", "task")
"""Keywords that change no result here: images are segmented one by one, and no frame is dropped."""


@dataclass(frozen=True)
class PredictArgs:
    """The keywords of a prediction; defaults are those of ultralytics.

    Example:
        >>> PredictArgs(conf=0.4).iou is None
        True
    """

    model: str | None = None
    conf: float = 0.25
    iou: float | None = None
    """None: 0.7 for detectors; without prompts, that of masklet's preset."""
    imgsz: int | None = None
    """None: what the model was trained for."""
    device: DeviceLike | None = None
    half: bool = False
    max_det: int = 300
    classes: Sequence[int] | int | None = None
    agnostic_nms: bool = False
    augment: bool = False
    compile: bool = False
    dnn: bool = False
    int8: bool = False
    embed: Sequence[int] | None = None
    visualize: bool = False
    retina_masks: bool = False
    """Masks always have the size of the image."""
    vid_stride: int = 1
    save: bool = False
    save_frames: bool = False
    save_txt: bool = False
    save_conf: bool = False
    save_crop: bool = False
    show: bool = False
    show_labels: bool = True
    show_conf: bool = True
    show_boxes: bool = True
    line_width: int | None = None
    project: str | None = None
    name: str | None = None
    exist_ok: bool = False
    verbose: bool = True

    @property
    def writes(self) -> bool:
        """Whether files are written."""
        return self.save or self.save_frames or self.save_txt or self.save_crop


def parse_predict_args(
    given: Mapping[str, object], defaults: PredictArgs | None = None, *, allowed: Sequence[str] = ()
) -> PredictArgs:
    """Read keywords over `defaults`; those in `allowed` may differ from their default although SAM refuses them.

    Example:
        >>> parse_predict_args({"imgsz": (512, 512), "conf": 0.5}).imgsz
        512

    Raises:
        InputError: if a keyword is unknown, or masklet cannot do what it says.
    """
    known = [field.name for field in fields(PredictArgs)]
    values: dict[str, object] = {}
    for name, value in given.items():
        if name in IGNORED:
            continue
        if name not in known:
            near = get_close_matches(name, known, 1, 0.7)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise InputError(f"{name}={value!r:.40} is no keyword of predict; {hint}")
        values[name] = value
    size = values.get("imgsz")
    if isinstance(size, (tuple, list)):
        if len(set(size)) != 1:
            raise InputError(
                f"imgsz={size!r} must be one side, as networks see squares: imgsz={max(size, default=640)}"
            )
        values["imgsz"] = size[0]
    try:
        args = replace(defaults or PredictArgs(), **values)  # type: ignore[arg-type]
    except TypeError as error:  # pragma: no cover - every name was checked
        raise InputError(str(error)) from None
    plain = PredictArgs()
    for name, remedy in REFUSED.items():
        value = getattr(args, name)
        if name not in allowed and value != getattr(plain, name):
            raise InputError(f"{name}={value!r:.40} is not possible here; {remedy}")
    if isinstance(args.conf, bool) or not isinstance(args.conf, (int, float)) or not 0 <= args.conf <= 1:
        raise InputError(f"conf={args.conf!r:.40} must be a score, from 0 to 1")
    for name, value in (("max_det", args.max_det), ("vid_stride", args.vid_stride)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r:.40} must be a whole number, 1 or more")
    return args


def plain_prompt(value: PromptValue) -> PromptValue:
    """Return a prompt as masklet takes it: tensors as arrays, in lists too.

    Example:
        >>> import torch
        >>> plain_prompt([torch.tensor([1.0, 2.0])])[0].tolist()
        [1.0, 2.0]
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, (list, tuple)):
        return [plain_prompt(item) for item in value]
    return value
