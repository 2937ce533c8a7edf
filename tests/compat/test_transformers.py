"""`masklet.compat.transformers` beside masklet itself, and beside transformers with the same random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import masklet
from helpers.known_models import photograph
from masklet.compat.transformers import (
    EdgeTamVideoModel,
    Sam2Model,
    Sam2Processor,
    Sam2VideoModel,
    Sam2VideoProcessor,
    SamModel,
    SamProcessor,
    pipeline,
)
from masklet.errors import InputError, ModelError, PromptError, StateError


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
    assert outputs.iou_scores[0].numpy() == pytest.approx(expected.scores, abs=1e-2)  # images are resized as bytes
    mine, native_masks = outputs.pred_masks[0].numpy() > 0, expected.logits > 0
    assert (mine & native_masks).sum() / (mine | native_masks).sum() > 0.99


def test_prompts_are_in_pixels_of_the_image(image: Image.Image) -> None:
    inputs = Sam2Processor(512)(
        images=[image, image.crop((0, 0, 160, 240))],
        input_points=[[[[160, 120], [320, 0]]], [[[160, 120]]]],
        input_labels=[[[1, 0]], [[1]]],
    )
    assert inputs.pixel_values.shape == (2, 3, 512, 512)
    assert inputs.original_sizes.tolist() == [[240, 320], [240, 160]]
    assert inputs.input_points.tolist() == [[[[256, 256], [512, 0]]], [[[512, 256], [-10, -10]]]]
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
    with pytest.raises(PromptError, match="as many objects"):
        Sam2Processor()(images=[image, image], input_boxes=[[[1, 2, 30, 40], [5, 5, 9, 9]], [[1, 2, 30, 40]]])
    with pytest.raises(InputError, match="original_sizes"):
        Sam2Processor()(input_points=[[[[1, 2]]]])
    with pytest.raises(InputError, match="TrackOptions"):
        Sam2Processor().post_process_masks([], [], apply_non_overlapping_constraints=True)
    with pytest.raises(InputError, match="image_embeddings"):
        model(input_points=torch.zeros(1, 1, 1, 2))
    with pytest.raises(PromptError, match="no prompt"):
        model(torch.zeros(1, 3, 512, 512))
    with pytest.raises(InputError, match=r"native\.train"):
        model.train()
    with pytest.raises(ModelError, match="open it with Sam2Model"):
        EdgeTamVideoModel.from_pretrained("builtin")
    with pytest.raises(InputError, match="open_detector"):
        pipeline("object-detection", model="builtin")
    with pytest.raises(InputError, match="points_per_batch"):
        pipeline("mask-generation", model=model)(image, points_per_side=8)


def test_a_video_needs_objects_and_frames() -> None:
    model, processor = Sam2VideoModel.from_pretrained("builtin"), Sam2VideoProcessor(256)
    frames = np.full((2, 60, 90, 3), 90, np.uint8)
    session = processor.init_video_session(video=frames)
    click: dict[str, Any] = {"input_points": [[[[30, 20]]]], "input_labels": [[[1]]]}
    with pytest.raises(StateError, match="no object"):
        model(session, frame_idx=0)
    with pytest.raises(StateError, match="nothing to track"):
        next(model.propagate_in_video_iterator(session))
    with pytest.raises(PromptError, match="1 ids"):
        processor.add_inputs_to_inference_session(session, 0, [1, 2], **click)
    with pytest.raises(InputError, match="together"):
        processor.add_inputs_to_inference_session(session, 0, 1, input_points=[[[[30, 20]]]])
    with pytest.raises(InputError, match="leave it out"):
        processor.add_inputs_to_inference_session(session, 0, 1, input_boxes=[[[1, 2, 30, 40]]], clear_old_inputs=False)
    with pytest.raises(PromptError, match="outside"):
        processor.add_inputs_to_inference_session(session, 0, 1, [[[[100, 20]]]], [[[1]]])
    processor.add_inputs_to_inference_session(session, 0, 1, **click)
    with pytest.raises(InputError, match="pixel values"):
        model(session)
    stream = processor.init_video_session()
    with pytest.raises(InputError, match="original_size"):
        processor.add_inputs_to_inference_session(stream, 0, 1, **click)
    processor.add_inputs_to_inference_session(stream, 0, 1, **click, original_size=(60, 90))
    with pytest.raises(InputError, match=r"pixel_values\[0\]"):
        model(stream, frame=torch.zeros(3, 64, 64))
    with pytest.raises(StateError, match="no video"):
        next(model.propagate_in_video_iterator(stream))


def test_a_video_is_tracked_with_the_built_in_model(small_video: np.ndarray) -> None:
    model, processor = Sam2VideoModel.from_pretrained("builtin"), Sam2VideoProcessor(256)
    session = processor.init_video_session(video=small_video[:4])
    processor.add_inputs_to_inference_session(session, 0, 7, input_boxes=[[[10, 15, 35, 40]]])
    outputs = list(model.propagate_in_video_iterator(session))
    assert [output.frame_idx for output in outputs] == [0, 1, 2, 3]
    (masks,) = processor.post_process_masks([outputs[3].pred_masks], [[session.video_height, session.video_width]])
    assert masks.shape == (1, 1, 64, 96)
    assert masks[0, 0, 25, 30]  # the square has moved
    assert not masks[0, 0, 5, 80]


def test_everything_is_a_list_of_masks(image: Image.Image) -> None:
    generator = pipeline("mask-generation", model="builtin", device="cpu", points_per_crop=4)
    options = {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.05}
    outputs = generator(image, **options, output_bboxes_mask=True)
    assert list(outputs) == ["masks", "scores", "bounding_boxes"]
    assert len(outputs["masks"]) == len(outputs["scores"]) > 0
    for mask, box in zip(outputs["masks"], outputs["bounding_boxes"].tolist(), strict=True):
        rows, columns = np.nonzero(mask.numpy())
        assert box == [columns.min(), rows.min(), columns.max(), rows.max()]
    assert isinstance(generator([image], **options), list)
