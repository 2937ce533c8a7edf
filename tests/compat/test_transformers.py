"""`masklet.compat.transformers` beside masklet itself, and beside transformers with the same random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import masklet
from helpers.known_models import photograph
from masklet.compat.transformers import Sam2Model, Sam2Processor, SamModel, SamProcessor
from masklet.errors import InputError, ModelError, PromptError


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image.Image:
    return Image.open(photograph(tmp_path_factory.mktemp("image") / "dog.png"))


def test_masks_are_those_of_masklet(image: Image.Image) -> None:
    model = Sam2Model.from_pretrained("builtin")
    processor = Sam2Processor(model.network.still_image_size)
    inputs = processor(
        images=image, input_points=[[[[150, 150]], [[275, 45]]]], input_labels=[[[1], [1]]], return_tensors="pt"
    ).to(model.device)
    with torch.no_grad():
        outputs = model(**inputs)
    (masks,) = processor.post_process_masks(outputs.pred_masks.cpu(), inputs["original_sizes"])
    assert masks.shape == (2, 3, 240, 320)
    assert masks.dtype == torch.bool
    native = masklet.SAM(device="cpu").predictor
    native.set_image(np.array(image))
    expected = native.predict(point_coords=[[150, 150], [275, 45]], multimask_output=True)
    assert outputs.iou_scores[0].numpy() == pytest.approx(expected.scores, abs=1e-4)
    assert outputs.pred_masks[0].numpy() == pytest.approx(expected.logits, abs=1e-2)


def test_prompts_are_in_pixels_of_the_image(image: Image.Image) -> None:
    inputs = Sam2Processor(512)(
        images=[image, image.crop((0, 0, 160, 240))],
        input_points=[[[[160, 120], [320, 0]]], [[[160, 120]]]],
        input_labels=[[[1, 0]], [[1]]],
    )
    assert inputs.pixel_values.shape == (2, 3, 512, 512)
    assert inputs.original_sizes.tolist() == [[240, 320], [240, 160]]
    assert inputs.input_points.tolist() == [[[[256, 256], [512, 0]]], [[[512, 256], [0, 0]]]]
    assert inputs.input_labels.tolist() == [[[1, 0]], [[1, -10]]]
    boxes = SamProcessor(640)(images=image, input_boxes=[[[10, 20, 30, 40]]])
    assert boxes.input_boxes.tolist() == [[[20, 40, 60, 80]]]
    assert boxes.reshaped_input_sizes.tolist() == [[480, 640]]


def test_a_box_gives_one_mask(image: Image.Image) -> None:
    model = Sam2Model.from_pretrained("builtin")
    processor = Sam2Processor(model.network.still_image_size)
    inputs = processor(images=image, input_boxes=[[[100, 60, 220, 180]]])
    outputs = model(**inputs, multimask_output=False)
    (masks,) = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])
    truth = torch.zeros(240, 320, dtype=torch.bool)
    truth[60:180, 100:220] = True
    assert (masks[0, 0] & truth).sum() / (masks[0, 0] | truth).sum() > 0.9


def test_what_is_not_possible_names_the_way(image: Image.Image) -> None:
    with pytest.raises(ModelError, match="open it with Sam2Model"):
        SamModel.from_pretrained("builtin")
    model = Sam2Model.from_pretrained("builtin")
    with pytest.raises(InputError, match="Sam2Processor"):
        model(**Sam2Processor(256)(images=image, input_boxes=[[[1, 2, 30, 40]]]))
    with pytest.raises(InputError, match="precision"):
        Sam2Model.from_pretrained("builtin", dtype=torch.float16)
    with pytest.raises(PromptError, match="nested"):
        Sam2Processor()(images=image, input_points=[[150, 150]])
    with pytest.raises(InputError, match="image_embeddings"):
        model(image_embeddings=torch.zeros(1))


@pytest.mark.slow
def test_a_folder_of_transformers_gives_the_same(image: Image.Image, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.Sam2Model(transformers.Sam2Config()).eval()
    theirs.prompt_encoder.shared_embedding.load_state_dict(theirs.shared_image_embedding.state_dict())  # as published
    theirs.save_pretrained(tmp_path)
    points, labels = [[[[150, 150], [20, 20]], [[275, 45], [270, 40]]]], [[[1, 0], [1, 1]]]
    inputs = Sam2Processor.from_pretrained(tmp_path)(images=image, input_points=points, input_labels=labels)
    mine = Sam2Model.from_pretrained(tmp_path)(**inputs)
    with torch.no_grad():
        expected = theirs(**{name: inputs[name] for name in ("pixel_values", "input_points", "input_labels")})
    assert mine.iou_scores.shape == expected.iou_scores.shape
    assert mine.pred_masks.shape == expected.pred_masks.shape
    assert mine.iou_scores.numpy() == pytest.approx(expected.iou_scores.numpy(), abs=1e-4)
    logits = expected.pred_masks.clamp(-32, 32)
    assert (mine.pred_masks - logits).abs().max() <= 1e-3 * logits.std()
