"""SAM and MobileSAM by `SAM`: the same prompts, the same results, images only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.reference import GOLDEN, golden_image, module_at
from masklet import SAM
from masklet.cli.main import app
from masklet.errors import ModelError, PromptError
from masklet.load_model import load

RGB = golden_image()
CENTER = [RGB.shape[1] // 2, RGB.shape[0] // 2]


@pytest.fixture(scope="module")
def mobile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileSAM as it is published, but for the values in it."""
    from safetensors.torch import save_file

    from masklet.models.sam1 import CONFIGS
    from masklet.models.sam1.state_dict import expected_shapes

    path, shapes = (
        tmp_path_factory.mktemp("weights") / "called_anything.safetensors",
        expected_shapes(CONFIGS["mobile_sam"]),
    )
    filled = module_at(GOLDEN / "fill.py").fill_state_dict(shapes)
    save_file({name: tensor.reshape(shapes[name]) for name, tensor in filled.items()}, path)
    return path


@pytest.fixture(scope="module")
def model(mobile_file: Path) -> SAM:
    return SAM(mobile_file, image_size=128)


def test_it_is_recognized_by_its_tensors(model: SAM) -> None:
    info = model.info()
    assert info.name == "mobile_sam"
    assert (info.license_code, info.license_weights) == ("Apache-2.0", "Apache-2.0")
    assert info.parameters == 10_140_231
    assert "images of 128 x 128, no videos" in str(info)


@pytest.mark.parametrize("size", [(60, 100), (100, 60), (1, 7)])
def test_masks_have_the_images_size_whatever_its_shape(model: SAM, size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    (found,) = model(rgb, points=[0, 0], multimask=True)
    assert found.masks.data.shape == (3, *size)
    assert found.logits.shape == (3, 32, 32)
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_every_prompt_type_works(model: SAM) -> None:
    mask = np.zeros(RGB.shape[:2], bool)
    mask[20:60, 30:90] = True
    for prompts in (
        {"points": CENTER},
        {"points": [[CENTER, [3, 3]]], "labels": [[1, 0]]},
        {"bboxes": [10, 10, 90, 80]},
    ):
        assert len(model(RGB, **prompts)[0]) == 1
    assert len(model(RGB, masks=mask)[0]) == 1
    assert len(model(RGB, bboxes=[[10, 10, 90, 80], [5, 5, 50, 50]], points=[CENTER, CENTER], labels=[1, 0])[0]) == 2


def test_objects_prompted_by_box_and_by_two_points_have_the_results_of_each_alone(model: SAM) -> None:
    """Both are two tokens, but only clicks without a box are followed by a padding token."""
    from masklet.prompts import parse_prompts

    predictor = model.predictor
    predictor.set_image(RGB)
    size = RGB.shape[:2]
    prompts = [
        *parse_prompts(bboxes=[10, 10, 90, 80], size=size),
        *parse_prompts([[CENTER, [9, 9]]], [[1, 0]], size=size),
    ]
    together = predictor.predict_prompts(prompts)
    for i, one in enumerate(prompts):
        np.testing.assert_allclose(together.logits[i], predictor.predict_prompts([one]).logits[0], atol=1e-4)


def test_an_earlier_result_is_refined(model: SAM) -> None:
    first = model(RGB, points=CENTER)[0]
    assert not np.array_equal(model(RGB, points=CENTER, logits=first.logits)[0].logits, first.logits)
    with pytest.raises(PromptError, match=r"\(1, 1, 32, 32\)"):
        model(RGB, points=CENTER, logits=first.logits[:, :16])


def test_bf16_keeps_the_masks(mobile_file: Path, model: SAM) -> None:
    half = SAM(mobile_file, image_size=128, precision="bf16")
    full, rounded = (m(RGB, points=CENTER, multimask=False)[0].masks.data[0] for m in (model, half))
    assert (full & rounded).sum() / (full | rounded).sum() > 0.95


VIDEOS: dict[str, Callable[[SAM, np.ndarray], object]] = {
    "track": lambda model, video: list(model.track(video, points=[20, 25])),
    "session": lambda model, video: model.session(video),
    "track everything": lambda model, video: model.track(video),
    "live": lambda model, video: model.live(),
}


@pytest.mark.parametrize("doing", list(VIDEOS))
def test_videos_are_refused(model: SAM, small_video: np.ndarray, doing: str) -> None:
    with pytest.raises(ModelError, match=r"mobile_sam \(.*\) is for images only: it cannot follow objects"):
        VIDEOS[doing](model, small_video)


def test_training_is_refused(model: SAM, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it cannot be trained here"):
        model.train(tmp_path, epochs=1)


@pytest.mark.slow
def test_it_is_a_model_of_the_command_line(mobile_file: Path, tmp_path: Path) -> None:
    Image.fromarray(RGB[:64, :48]).save(tmp_path / "dog.png")
    options = ["--model", str(mobile_file), "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, ["segment", str(tmp_path / "dog.png"), "--point", "20,30", *options])
    assert found.exit_code == 0, found.output
    assert list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_a_file_of_transformers_is_read(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from masklet.models.sam1 import CONFIGS
    from masklet.models.sam1.state_dict import expected_shapes, to_transformers

    state = {
        n: torch.full(s, i / 100, dtype=torch.float16)
        for i, (n, s) in enumerate(expected_shapes(CONFIGS["sam_vit_b"]).items())
    }
    named = {name: tensor.clone() for name, tensor in to_transformers(state).items()}
    save_file(named, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.name == "sam_vit_b"
    assert loaded.card is not None
    assert all(torch.equal(t, state[n].float()) for n, t in loaded.network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "face"), [("yolov8n.pt", "YOLO"), ("YOLOv8x-seg", "YOLO"), ("FastSAM-s.pt", "FastSAM")]
)
def test_the_name_of_a_detector_is_refused_with_the_class_to_use(name: str, face: str) -> None:
    with pytest.raises(ModelError, match=rf"open it with masklet\.{face}\("):
        SAM(name)
