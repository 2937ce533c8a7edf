"""The examples of transformers' documentation, in our own words, on transformers or on `masklet.compat.transformers`.

Each function takes the module, a folder of a model, and images or frames, and returns a `Recording`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

Frames = Sequence[np.ndarray]


@dataclass
class Recording:
    """What an example gave: values by name, and for each its type, dtype and shape."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    kinds: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self.arrays[name] = value.detach().cpu().numpy()
            self.kinds[name] = [str(value.dtype), list(value.shape)]
        elif isinstance(value, Mapping):
            self.kinds[name] = list(value)
            for key in value:
                self.add(f"{name}.{key}", value[key])
        elif isinstance(value, (list, tuple)) and any(isinstance(one, (torch.Tensor, Mapping)) for one in value):
            self.kinds[name] = len(value)
            for number, one in enumerate(value):
                self.add(f"{name}[{number}]", one)
        else:
            self.kinds[name] = value


def single_images(
    library: Any, folder: Path, images: Sequence[Image.Image], model_class: str, processor_class: str
) -> Recording:
    """Click, several clicks, box, several objects; batches of images; masks as input (pages sam2 and edgetam)."""
    model = getattr(library, model_class).from_pretrained(folder).to("cpu")
    processor = getattr(library, processor_class).from_pretrained(folder)
    record = Recording()

    def segment(name: str, given: Any, multimask_output: bool = True, **prompts: Any) -> Any:
        inputs = processor(images=given, return_tensors="pt", **prompts).to(model.device)
        record.add(f"{name}: inputs", inputs)
        with torch.no_grad():
            outputs = model(**inputs, multimask_output=multimask_output)
        record.add(f"{name}: outputs", outputs)
        masks = processor.post_process_masks(outputs.pred_masks.cpu(), inputs["original_sizes"])
        record.add(f"{name}: masks", masks)
        return inputs, outputs

    truck, groceries = images
    segment("click", truck, input_points=[[[[250, 187]]]], input_labels=[[[1]]])
    segment("two clicks", truck, input_points=[[[[250, 187], [562, 312]]]], input_labels=[[[1, 1]]])
    segment("no labels", truck, input_points=[[[[250, 187]]]])
    segment("box", truck, input_boxes=[[[37, 137, 862, 425]]])
    segment("box and click", truck, input_boxes=[[[212, 300, 350, 437]]], input_points=[[[[287, 362]]]],
            input_labels=[[[0]]])  # fmt: skip
    segment("two objects", truck, False, input_points=[[[[250, 187]], [[325, 375]]]], input_labels=[[[1], [1]]])
    segment("two images", [truck, groceries], False, input_points=[[[[250, 187]]], [[[385, 100]]]],
            input_labels=[[[1]], [[1]]])  # fmt: skip
    boxes = [
        [[37, 137, 862, 425], [212, 300, 350, 437], [687, 275, 825, 400], [620, 337, 700, 375]],
        [[225, 85, 260, 175], [175, 95, 225, 175], [250, 85, 290, 175], [290, 85, 320, 175]],
    ]
    segment("boxes of two images", [truck, groceries], False, input_boxes=boxes)
    inputs, outputs = segment("before", truck, input_points=[[[[250, 187]]]], input_labels=[[[1]]])
    best = outputs.pred_masks[:, :, torch.argmax(outputs.iou_scores.squeeze())]
    inputs = processor(
        input_points=[[[[250, 187], [225, 150]]]],
        input_labels=[[[1, 1]]],
        original_sizes=inputs["original_sizes"],
        return_tensors="pt",
    ).to(model.device)
    record.add("refined: inputs", inputs)
    with torch.no_grad():
        refined = model(**inputs, input_masks=best, image_embeddings=outputs.image_embeddings, multimask_output=False)
    record.add("refined: outputs", refined)
    return record


def padded_images(library: Any, folder: Path, images: Sequence[Image.Image]) -> list[Any]:
    """Images with different numbers of objects, and objects with different numbers of points: inputs, outputs."""
    model, processor = library.Sam2Model.from_pretrained(folder), library.Sam2Processor.from_pretrained(folder)
    points = (
        [[[[250, 187]], [[325, 375]]], [[[200, 150]]]],
        [[[[250, 187]], [[325, 375]]], [[[200, 150]], [[315, 150], [275, 150]]]],
    )
    labels = [[[1], [1]], [[1]]], [[[1], [1]], [[1], [1, 1]]]
    found = []
    for coords, marks in zip(points, labels, strict=True):
        inputs = processor(images=list(images), input_points=coords, input_labels=marks, return_tensors="pt")
        with torch.no_grad():
            found.append((inputs, model(**inputs, multimask_output=False)))
    return found


def sam_images(library: Any, folder: Path, images: Sequence[Image.Image]) -> Recording:
    """The page of SAM and the guide on mask generation: points without objects, maps of labels, nested boxes."""
    model, processor = library.SamModel.from_pretrained(folder), library.SamProcessor.from_pretrained(folder)
    record, (car, _) = Recording(), images
    labels = Image.fromarray((np.array(car)[..., 0] > 128).astype(np.uint8) * 255).convert("1")
    calls: dict[str, dict[str, Any]] = {
        "point": {"input_points": [[[225, 300]]]},
        "label map": {"input_points": [[[225, 300]]], "segmentation_maps": labels},
        "point with a label": {"input_points": [[[225, 300], [600, 100]]], "input_labels": [[1, 0]]},
        "objects": {"input_points": [[[[225, 300]], [[600, 100]]]], "input_labels": [[[1], [1]]]},
        "box": {"input_boxes": [[[[337, 200, 612, 350]]]]},
        "boxes": {"input_boxes": [[[337, 200, 612, 350], [30, 40, 200, 100]]]},
    }
    for name, prompts in calls.items():
        inputs = processor(car, **prompts, return_tensors="pt")
        record.add(f"{name}: inputs", inputs)
        with torch.no_grad():
            outputs = model(**inputs)
        record.add(f"{name}: outputs", outputs)
        masks = processor.image_processor.post_process_masks(
            outputs.pred_masks.cpu(), inputs["original_sizes"].cpu(), inputs["reshaped_input_sizes"].cpu()
        )
        record.add(f"{name}: masks", masks)
    embeddings = model.get_image_embeddings(inputs["pixel_values"])
    record.add("embeddings", embeddings)
    inputs.pop("pixel_values")
    with torch.no_grad():
        outputs = model(**inputs, image_embeddings=embeddings, multimask_output=False)
    record.add("from embeddings", outputs)
    return record


def everything(library: Any, folder: Path, image: Image.Image) -> Recording:
    """The pipeline of the guide on mask generation."""
    record = Recording()
    generator = library.pipeline("mask-generation", model=str(folder), device="cpu")
    options = {"points_per_batch": 8, "points_per_crop": 6, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    record.add("masks", generator(image, **options, crops_nms_thresh=0.95))
    answer = generator(image, **options, output_rle_mask=True, output_bboxes_mask=True)
    for code in answer.pop("rle_mask"):
        record.add("run lengths", [code["size"], type(code["counts"]).__name__, sum(code["counts"])])
    record.add("all answers", answer)
    record.add("filtered", generator([image, image], **options | {"pred_iou_thresh": 0.3}))
    return record


def videos(library: Any, folder: Path, frames: Frames, model_class: str = "Sam2VideoModel") -> Recording:
    """One object, a correction, several objects, boxes, several clicks, masks, both directions (page sam2_video).

    A correction has one object: transformers would give the memory of others on that frame hard edges too.
    """
    model = getattr(library, model_class).from_pretrained(folder).to("cpu")
    processor = library.Sam2VideoProcessor.from_pretrained(folder)
    record = Recording()
    session = processor.init_video_session(video=list(frames), inference_device="cpu")
    record.add("session", [session.num_frames, int(session.video_height), int(session.video_width)])
    size = [[session.video_height, session.video_width]]

    def prompt(ids: Any, frame_idx: int = 0, **given: Any) -> None:
        processor.add_inputs_to_inference_session(inference_session=session, frame_idx=frame_idx, obj_ids=ids, **given)

    def answer(name: str, frame_idx: int) -> None:
        see(name, model(inference_session=session, frame_idx=frame_idx))

    def see(name: str, output: Any) -> None:
        record.add(name, output)
        masks = processor.post_process_masks([output.pred_masks], original_sizes=size, binarize=False)[0]
        record.add(f"{name}: masks", masks)
        record.add(f"{name}: binary", masks > 0)

    def propagate(name: str, **options: Any) -> None:
        for output in model.propagate_in_video_iterator(session, **options):
            see(f"{name} {output.frame_idx}", output)
        record.add(f"{name}: ids", list(session.obj_ids))

    prompt(1, input_points=[[[[90, 130]]]], input_labels=[[[1]]])
    answer("click", 0)
    propagate("one object")
    prompt(1, 3, input_points=[[[[100, 128]]]], input_labels=[[[1]]])
    answer("correction", 3)
    propagate("after it", start_frame_idx=4, max_frame_num_to_track=1)
    session.reset_inference_session()
    prompt([2, 3], input_points=[[[[90, 130]], [[200, 100]]]], input_labels=[[[1], [1]]])
    answer("two objects", 0)
    propagate("both")
    session.reset_inference_session()
    prompt(5, 2, input_boxes=[[[150, 60, 250, 150]]])
    answer("box", 2)
    propagate("from the middle", max_frame_num_to_track=2)
    propagate("back", start_frame_idx=2, reverse=True)
    session.reset_inference_session()
    prompt(7, 1, input_points=[[[[90, 130], [200, 100]]]], input_labels=[[[1, 0]]])
    prompt(7, 1, input_points=[[[[95, 120]]]], input_labels=[[[1]]], clear_old_inputs=False)
    answer("three clicks", 1)
    session.reset_inference_session()
    disc = np.hypot(*(np.mgrid[:240, :320] - np.array([120, 100])[:, None, None])) < 40
    prompt(9, input_masks=disc)
    answer("mask", 0)
    return record


def stream(library: Any, folder: Path, frames: Frames) -> Recording:
    """Frames that are handed in one by one."""
    model = library.Sam2VideoModel.from_pretrained(folder)
    processor = library.Sam2VideoProcessor.from_pretrained(folder)
    record, session = Recording(), processor.init_video_session(inference_device="cpu")
    for number, frame in enumerate(frames):
        inputs = processor(images=frame, device="cpu", return_tensors="pt").to(model.device)
        if number == 0:
            processor.add_inputs_to_inference_session(
                inference_session=session,
                frame_idx=0,
                obj_ids=1,
                input_points=[[[[90, 130], [100, 120]]]],
                input_labels=[[[1, 1]]],
                original_size=inputs.original_sizes[0],
            )
        output = model(inference_session=session, frame=inputs.pixel_values[0])
        record.add(f"frame {number}", output)
        masks = processor.post_process_masks([output.pred_masks], original_sizes=inputs.original_sizes, binarize=False)[
            0
        ]
        record.add(f"frame {number}: binary", masks > 0)
    return record
