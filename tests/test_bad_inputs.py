"""Thirty and more invalid inputs to the public API: one clear error each.

A row is a name, the call, the error's class, and words its message must have: the value, the rule, the remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from masklet import SAM, errors

RGB = np.full((40, 60, 3), 90, np.uint8)
Act = Callable[[SAM, Path], object]

NAN, INF = float("nan"), float("inf")


def text_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


ROWS: list[tuple[str, Act, type[Exception], list[str]]] = [
    # prompts
    ("labels of nothing", lambda m, d: m(RGB, labels=[1]), errors.PromptError, ["points=", "bboxes=", "masks"]),
    ("everything and a point", lambda m, d: m(RGB, points=[9, 9], everything="fast"), errors.PromptError, ["remove"]),
    ("unknown preset", lambda m, d: m(RGB, everything="best"), errors.InputError, ["'best'", "fast", "fine"]),
    ("everything of no kind", lambda m, d: m(RGB, everything=3), errors.InputError, ["3", "MaskGeneratorOptions"]),
    ("x right of it", lambda m, d: m(RGB, points=[60, 10]), errors.PromptError, ["60", "40"]),
    ("y below it", lambda m, d: m(RGB, points=[10, 400]), errors.PromptError, ["400", "40"]),
    ("negative x", lambda m, d: m(RGB, points=[-1, 10]), errors.PromptError, ["-1"]),
    ("NaN point", lambda m, d: m(RGB, points=[NAN, 10]), errors.PromptError, ["nan"]),
    ("infinite box", lambda m, d: m(RGB, bboxes=[0, 0, INF, 10]), errors.PromptError, ["inf"]),
    ("swapped box", lambda m, d: m(RGB, bboxes=[30, 10, 20, 30]), errors.PromptError, ["x2", "20"]),
    ("flat box", lambda m, d: m(RGB, bboxes=[10, 10, 20, 10]), errors.PromptError, ["y2"]),
    ("box elsewhere", lambda m, d: m(RGB, bboxes=[100, 100, 200, 200]), errors.PromptError, ["60", "40"]),
    ("box of three", lambda m, d: m(RGB, bboxes=[1, 2, 3]), errors.PromptError, ["[1, 2, 3]"]),
    ("odd coordinates", lambda m, d: m(RGB, points=[1, 2, 3]), errors.PromptError, ["[1, 2, 3]"]),
    ("only a negative", lambda m, d: m(RGB, points=[5, 5], labels=[0]), errors.PromptError, ["0"]),
    (
        "second object negative",
        lambda m, d: m(RGB, points=[[5, 5], [9, 9]], labels=[1, 0]),
        errors.PromptError,
        ["[[[5, 5], [9, 9]]]", "[[1, 0]]"],
    ),
    ("label 7", lambda m, d: m(RGB, points=[5, 5], labels=[7]), errors.PromptError, ["7", "1", "0"]),
    ("labels too many", lambda m, d: m(RGB, points=[5, 5], labels=[1, 1]), errors.PromptError, ["label"]),
    ("labels alone", lambda m, d: m(RGB, labels=[1]), errors.PromptError, ["points"]),
    (
        "two points, one box",
        lambda m, d: m(RGB, points=[[5, 5], [9, 9]], bboxes=[1, 1, 20, 20]),
        errors.PromptError,
        ["[[[5, 5], [9, 9]]]"],
    ),
    ("words as points", lambda m, d: m(RGB, points="here"), errors.PromptError, ["here"]),
    ("no point", lambda m, d: m(RGB, points=[]), errors.PromptError, ["points"]),
    ("mask of another size", lambda m, d: m(RGB, masks=np.ones((3, 3), bool)), errors.PromptError, ["3", "40"]),
    ("empty mask", lambda m, d: m(RGB, masks=np.zeros((40, 60), bool)), errors.PromptError, ["mask"]),
    (
        "logits of another model",
        lambda m, d: m(RGB, points=[5, 5], logits=np.zeros((1, 1, 9, 9), np.float32)),
        errors.PromptError,
        ["(1, 1, 9, 9)", "128"],
    ),
    # images
    ("missing file", lambda m, d: m(d / "dgo.jpg", points=[5, 5]), errors.SourceError, ["dgo.jpg"]),
    ("empty folder", lambda m, d: m(d, points=[5, 5]), errors.SourceError, [".jpg"]),
    ("text as image", lambda m, d: m(text_file(d, "a.jpg", b"hello"), points=[5, 5]), errors.SourceError, ["a.jpg"]),
    ("empty file", lambda m, d: m(text_file(d, "b.png", b""), points=[5, 5]), errors.SourceError, ["b.png"]),
    ("no pixels", lambda m, d: m(np.zeros((0, 5, 3), np.uint8), points=[1, 1]), errors.SourceError, ["(0, 5, 3)"]),
    ("NaN pixels", lambda m, d: m(np.full((9, 9, 3), NAN), points=[1, 1]), errors.SourceError, ["NaN"]),
    ("five channels", lambda m, d: m(np.zeros((9, 9, 5), np.uint8), points=[1, 1]), errors.SourceError, ["(9, 9, 5)"]),
    ("a video", lambda m, d: m(text_file(d, "c.mp4", b"x"), points=[1, 1]), errors.SourceError, ["video"]),
    ("a number", lambda m, d: m(42, points=[1, 1]), errors.SourceError, ["42"]),
    # models
    ("unknown name", lambda m, d: SAM("sam2_x.pt"), errors.UnknownModelError, ["sam2_x", "sam2_"]),
    ("empty name", lambda m, d: SAM("  "), errors.UnknownModelError, ["empty"]),
    ("text as weights", lambda m, d: SAM(text_file(d, "w.pt", b"hello there")), errors.CheckpointError, ["w.pt"]),
    ("empty weights", lambda m, d: SAM(text_file(d, "e.safetensors", b"")), errors.CheckpointError, ["e.safetensors"]),
    ("unknown device", lambda m, d: SAM(m.info().path, device="tpu9"), errors.InputError, ["tpu9", "cpu"]),
    ("unknown precision", lambda m, d: SAM(m.info().path, precision="int2"), errors.InputError, ["int2", "bf16"]),
    # order
    ("predict before set_image", lambda m, d: fresh(m).predict(point_coords=[1, 1]), errors.StateError, ["set_image"]),
    ("float image", lambda m, d: fresh(m).set_image(RGB / 255), errors.InputError, ["float64", "uint8"]),
]


def fresh(model: SAM):
    from masklet import ImagePredictor

    return ImagePredictor(model.predictor.model)


@pytest.fixture(scope="module")
def model(builtin_file: Path) -> SAM:
    return SAM(builtin_file)


@pytest.mark.parametrize(("act", "error", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_bad_input_is_one_clear_error(
    model: SAM, tmp_path: Path, act: Act, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        act(model, tmp_path)
    message = str(caught.value)
    assert len(message) > 30
    assert all(word in message for word in words), message


def test_the_table_is_long_enough() -> None:
    assert len(ROWS) >= 30
    assert len({row[0] for row in ROWS}) == len(ROWS)
