"""The words of the `yolo` command: key=value arguments that `masklet.compat.ultralytics` understands."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masklet.errors import InputError

__all__ = ["YOLO_KEYS", "is_key_value_line", "needs_yolo", "run_yolo_words"]

YOLO_KEYS = (
    "agnostic_nms", "augment", "classes", "conf", "exist_ok", "half", "iou", "line_width", "max_det", "mode", "name",
    "project", "retina_masks", "save", "save_conf", "save_crop", "save_frames", "save_txt", "show", "show_boxes",
    "show_conf", "show_labels", "stream", "task", "texts", "verbose", "vid_stride", "visualize",
)  # fmt: skip
"""Keys that `yolo` has and `masklet predict` has not."""
SHARED_KEYS = ("source", "model", "points", "labels", "bboxes", "device", "imgsz")
TEXT_KEYS = ("source", "model", "device", "project", "name", "mode", "task", "texts")
MODES = ("predict", "track")


def is_key_value_line(words: Sequence[str]) -> bool:
    """Whether the words after a command are those of `yolo`: all key=value, with a source among them.

    Example:
        >>> is_key_value_line(["model=sam2.1_b.pt", "source=dog.jpg"]), is_key_value_line(["dog.jpg", "--quiet"])
        (True, False)
    """
    return any(word.startswith("source=") for word in words) and all("=" in word for word in words)


def needs_yolo(words: Sequence[str]) -> bool:
    """Whether key=value words are for `run_yolo_words`: a key of `yolo` alone, a detector, or a video as the source."""
    pairs = {key.strip().lower(): value for key, _, value in (word.partition("=") for word in words)}
    if pairs.keys() & set(YOLO_KEYS) or _opener_name(pairs.get("model", "")) != "SAM":
        return True
    from masklet.compat.ultralytics.sources import is_video

    return is_video(pairs.get("source", ""))


def run_yolo_words(words: Sequence[str]) -> None:
    """Do what `yolo` does with these words: segment images or frames, with mode=track follow objects through a video.

    Results are in runs/segment/predict, or where `project` and `name` say; save=False writes no images.

    Raises:
        InputError: if a word is not key=value, or a key is unknown or impossible here.
    """
    values: dict[str, Any] = {"save": True}
    known = (*SHARED_KEYS, *YOLO_KEYS)
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}=...?" if near else f"keys are {', '.join(known)}"
            raise InputError(f"{word!r} is no key=value of yolo; {hint}")
        values[key] = text if key in TEXT_KEYS else _parse_value(text)
    mode, model = values.pop("mode", "predict"), values.pop("model", "")
    if mode not in MODES:
        raise InputError(
            f"mode={mode} is not possible here; masklet {mode} --help may be what you need, or mode=predict"
        )
    if "source" not in values:
        raise InputError("no source was given; write source=dog.jpg (a file, folder, glob or URL)")
    values["stream"] = True
    from masklet.compat import ultralytics
    from masklet.compat.ultralytics.models.sam import SAM2VideoPredictor

    opener = getattr(ultralytics, _opener_name(model))
    run = SAM2VideoPredictor(overrides={"model": model}) if mode == "track" else opener(model)
    for _ in run(**values):  # results are written and printed one by one
        pass


def _opener_name(model: str) -> str:
    stem = Path(model).name.lower()
    return "FastSAM" if stem.startswith("fastsam") else "YOLO" if stem.startswith("yolo") else "SAM"


def _parse_value(text: str) -> Any:
    """Read a value as Python writes it; bare commas make a list, and other words are text."""
    try:
        value = ast.literal_eval(text.capitalize() if text.lower() in ("true", "false", "none") else text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return list(value) if isinstance(value, tuple) else value
