"""`masklet segment` and `masklet predict`: the files they write, and the lines they print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from masklet.cli import segment_job
from masklet.image import ImagePredictor, Prediction
from masklet.sam import SAM

Masklet = Callable[..., Any]
LINE = re.compile(r"a\.png: 1 object, score 0\.\d\d, \d+ ms -> masklet-out/a_overlay\.png\n( .*\n)?")


def test_a_click_writes_an_overlay_and_names_it(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    outcome = masklet("segment", "a.png", "--point", "30,20", "--model", builtin_file)
    assert (outcome.code, outcome.err) == (0, "")
    assert LINE.fullmatch(outcome.out), outcome.out
    assert np.array(Image.open("masklet-out/a_overlay.png")).shape == (48, 64, 3)


def test_every_format_writes_its_files(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    formats = ["--format", "png,json", "--format", "coco"]
    line = ["segment", "a.png", "b.png", "--box", "5,5,30,30", "--model", builtin_file, "--out", "o", *formats]
    outcome = masklet(*line)
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in Path("o").iterdir()) == [
        ".masklet.sqlite", "a.json", "a.png", "annotations.coco.json", "b.json", "b.png",
    ]  # fmt: skip
    assert "a.png: 1 object" in outcome.out
    assert "-> o/a.png, o/a.json\n" in outcome.out
    assert outcome.out.endswith("all 2 image(s) -> o/annotations.coco.json\n")
    assert len(json.loads(Path("o/annotations.coco.json").read_text())["images"]) == 2


@pytest.mark.parametrize(
    ("words", "summary"),
    [
        (["--point", "30,20", "--negative", "2,2"], "1 object,"),
        (["--point", "30,20", "--point", "2,2,0"], "1 object,"),
        (["--point", "30,20", "--point", "2,2", "--point-per-object"], "2 objects,"),
        (["--box", "20,10,50,30", "--point", "30,20"], "1 object,"),
        (["--box", "20,10,50,30", "--negative", "2,2"], "1 object,"),
        (["--box", "20,10,50,30", "--box", "1,1,9,9"], "2 objects,"),
        (
            ["--box", "20,10,50,30", "--box", "1,1,9,9", "--point", "30,20", "--point", "3,3", "--point-per-object"],
            "2 objects,",
        ),
        (["--mask", "rough.png"], "1 object,"),
        (["--mask", "rough.png", "--box", "20,10,50,30"], "1 object,"),
        (["--point", "30,20", "--multimask"], "1 object with 3 candidates,"),
    ],
)
def test_the_grammar_counts_objects(
    words: list[str], summary: str, masklet: Masklet, folder: Path, builtin_file: Path
) -> None:
    outcome = masklet("segment", "a.png", *words, "--model", builtin_file)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"a.png: {summary}")


@pytest.fixture
def doubtful_file(builtin_file: Path, tmp_path: Path) -> Path:
    """The random network with scores of about 0.31."""
    path, tensors = tmp_path / "doubtful.safetensors", load_file(builtin_file)
    tensors["sam_mask_decoder.iou_calibration"] = torch.tensor([[[0.0, 1], [0.31, 0.311]]] * 2)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (["--point", "30,20"], "0.31"),
        (["--point", "30,20", "--multimask"], "0.31"),
        (["--point", "30,20", "--point", "2,2", "--point-per-object"], "object 1: 0.31, object 2: 0.31"),
    ],
)
def test_low_confidence_is_reported(
    words: list[str], listed: str, masklet: Masklet, folder: Path, doubtful_file: Path
) -> None:
    outcome = masklet("segment", "a.png", *words, "--model", doubtful_file, "--format", "json")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[1:] == [f"  low confidence ({listed}): add a click or a box"]
    records = json.loads(Path("masklet-out/a.json").read_text())
    assert [record["low_confidence"] for record in records] == [True] * len(records)


def test_quiet_prints_nothing(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    outcome = masklet("segment", "a.png", "--point", "30,20", "--model", builtin_file, "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert Path("masklet-out/a_overlay.png").is_file()


def test_one_bad_image_does_not_stop_the_others(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    line = ["segment", "gone.png", "bad.png", "b.png", "a.png", "--point", "45,20", "--model", builtin_file]
    outcome = masklet(*line)
    assert outcome.code == 2
    gone, bad, outside, summary = outcome.err.splitlines()
    assert gone.startswith("masklet: no such image: 'gone.png'")
    assert bad.startswith("masklet: 'bad.png'")
    assert outside.startswith("masklet: b.png: point [45, 20] lies outside the image")
    assert summary == "masklet: 3 of 4 images failed"
    assert LINE.fullmatch(outcome.out), outcome.out


def test_a_folder_is_its_images(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    outcome = masklet("segment", ".", "--point", "5,5", "--model", builtin_file, "--format", "json")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count(" -> ") == 3


def test_a_model_is_not_loaded_for_nothing(masklet: Masklet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(segment_job, "open_model", must_not)
    for line in (["segment", "gone.png"], ["segment", "gone.png", "gone2.png"], ["segment", "a.png", "--out", "a.png"]):
        assert masklet(*line, "--point", "5,5").code == 2


def test_ctrl_c_names_what_was_written(
    masklet: Masklet, folder: Path, builtin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(SAM):
        calls = 0

        def __call__(self, *args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls > 1:
                raise KeyboardInterrupt
            return super().__call__(*args, **options)

    monkeypatch.setattr("masklet.sam.SAM", Impatient)
    line = ["segment", "a.png", "b.png", "--point", "5,5", "--model", builtin_file, "--format", "overlay,coco"]
    outcome = masklet(*line)
    assert outcome.code == 130
    written = "masklet-out/a_overlay.png, masklet-out/annotations.coco.json"
    assert outcome.err == f"masklet: stopped after 1 of 2 image(s); written: {written}\n"
    assert all(Path(path).is_file() for path in written.split(", "))


@pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")
def test_a_warning_is_one_line(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    line = ["segment", "a.png", "--box", "5,5,60,40", "--box", "6,6,60,40", "--model", builtin_file, "--format", "png"]
    outcome = masklet(*line)
    assert outcome.code == 0
    assert "label map keeps IoU" in outcome.err
    assert all(line.startswith("masklet: object ") for line in outcome.err.splitlines())


def test_predict_is_the_same_as_segment(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    options = ["--box", "20,10,50,30", "--point", "30,20", "--point", "2,2,0", "--out", "o1", "--format", "png"]
    assert masklet("segment", "a.png", *options, "--model", builtin_file).code == 0
    words = ["source=a.png", "bboxes=[20,10,50,30]", "points=[[[30,20],[2,2]]]", "labels=[[1,0]]"]
    assert masklet("predict", *words, "out=o2", "format=png", f"model={builtin_file}").code == 0
    assert np.array_equal(np.array(Image.open("o1/a.png")), np.array(Image.open("o2/a.png")))


def test_predict_takes_a_mask_file(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    outcome = masklet("predict", "source=a.png", "masks=rough.png", f"model={builtin_file}", "multimask=true")
    assert outcome.code == 0, outcome.err
    assert "1 object with 3 candidates" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [["--point", "30,20"], ["--box", "5,5,60,40"], ["--mask", "rough.png"]])
def test_masks_are_cleaned_by_the_rule_of_the_option(
    masklet: Masklet, folder: Path, builtin_file: Path, monkeypatch: pytest.MonkeyPatch, prompt: list[str]
) -> None:
    def answer(self: ImagePredictor, prompts: Any, **options: Any) -> Prediction:
        mask = np.zeros((1, 1, 48, 64), bool)
        mask[..., 10:40, 15:45], mask[..., 25:27, 20:22] = True, False  # 900 pixels with a hole of 4,
        mask[..., 2, 2:5] = mask[..., 10:20, 50:60] = True  # a speck of 3, and a part of 100
        return Prediction(mask, np.ones((1, 1), np.float32), np.zeros((1, 1, 128, 128), np.float32))

    monkeypatch.setattr(ImagePredictor, "predict_prompts", answer)
    found = {}
    for area in ("", "0", "3"):
        rule = ["--fill-hole-area", area] if area else []
        line = ["segment", "a.png", *prompt, "--model", builtin_file, "--format", "png", "--out", f"o{area}", *rule]
        outcome = masklet(*line)
        assert outcome.code == 0, outcome.err
        found[area] = int((np.array(Image.open(f"o{area}/a.png")) > 0).sum())
    assert found == {"": 1000, "0": 999, "3": 996}


def test_a_negative_area_is_refused(masklet: Masklet, folder: Path) -> None:
    outcome = masklet("segment", "a.png", "--point", "30,20", "--fill-hole-area", "-1")
    assert outcome.code == 2
    assert "--fill-hole-area" in outcome.err


def test_the_limit_of_pixels_is_an_option(
    masklet: Masklet, folder: Path, builtin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLET_MAX_IMAGE_PIXELS", "2000")
    line = ["segment", "a.png", "--point", "30,20", "--model", builtin_file, "--format", "json"]
    outcome = masklet(*line)
    assert outcome.code != 0
    assert "64 x 48 = 3072 pixels; at most 2000 are read" in outcome.err
    assert "--max-image-pixels" in outcome.err
    outcome = masklet(*line, "--max-image-pixels", "3072")
    assert (outcome.code, outcome.err) == (0, "")
