"""The calls of the notebooks of sam2 and segment-anything, on the originals or on `masklet.compat`, to a file.

python original_calls.py sam2|segment_anything PREFIX CHECKPOINT IMAGE FRAMES OUT: PREFIX is "" for the originals.
"""

from __future__ import annotations

import importlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from masklet.models.sam1.config import CONFIGS, SAM1Config, ViTConfig

SIZE = 256
SMALL_SAM = SAM1Config(ViTConfig(width=24, depth=3, heads=2, global_blocks=(1,)))
"""SAM with a trunk that takes images of 1024 pixels in a second."""
CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
OVERRIDES = [f"++model.image_size={SIZE}"]
CLICK = {"point_coords": np.array([[205, 160]]), "point_labels": np.array([1])}
BOX = np.array([50, 20, 400, 290])
IMAGE_CALLS: dict[str, dict[str, Any]] = {
    "click": {**CLICK, "multimask_output": True},
    "single": {**CLICK, "multimask_output": False},
    "negative": {
        "point_coords": np.array([[205, 160], [20, 20]]),
        "point_labels": np.array([1, 0]),
        "multimask_output": False,
    },
    "box": {"box": BOX[None], "multimask_output": False},
    "box and click": {"box": BOX, "point_coords": np.array([[205, 160]]), "point_labels": np.array([0])},
    "logits": {**CLICK, "return_logits": True},
}
FINE = {
    "points_per_side": 4,
    "points_per_batch": 128,
    "stability_score_offset": 0.7,
    "crop_n_layers": 1,
    "box_nms_thresh": 0.7,
    "crop_n_points_downscale_factor": 2,
}
"""The options that the notebooks on mask generation end with, with fewer points."""
SMALL_REGIONS = {"min_mask_region_area": 25.0}
"""sam2 clears nothing without its compiled extension."""


class Recorder:
    """Arrays, and for all values what they are."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.kinds: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        kind = "tensor" if isinstance(value, torch.Tensor) else "array"
        self.arrays[name] = array = value.detach().cpu().numpy() if kind == "tensor" else value
        self.kinds[name] = [kind, str(array.dtype), list(array.shape)]

    def answer(self, name: str, answer: Any) -> None:
        for part, value in zip(("masks", "scores", "logits"), answer, strict=True):
            self.add(f"{name}: {part}", value)

    def frame(self, name: str, answer: Any) -> None:
        frame, ids, masks = answer
        self.kinds[f"{name}: frame, ids"] = [frame, list(ids)]
        self.add(f"{name}: masks", masks)

    def records(self, name: str, records: list[dict[str, Any]]) -> None:
        self.kinds[f"{name}: records"] = [[list(record), str(record["segmentation"].dtype)] for record in records]
        self.kinds[f"{name}: crops"] = [record["crop_box"] for record in records]
        self.add(f"{name}: masks", np.array([record["segmentation"] for record in records]))
        self.add(f"{name}: scores", np.array([record["predicted_iou"] for record in records]))
        edges = [[*record["bbox"], record["area"] ** 0.5] for record in records]
        self.add(f"{name}: boxes", np.array(edges, np.float64))


def refine(record: Recorder, predictor: Any) -> None:
    _, scores, logits = predictor.predict(**CLICK, multimask_output=True)
    best = logits[np.argmax(scores)][None]
    points = {"point_coords": np.array([[205, 160], [100, 100]]), "point_labels": np.array([1, 1])}
    record.answer("refine", predictor.predict(**points, mask_input=best, multimask_output=False))


def sam2_calls(prefix: str, checkpoint: str, image: np.ndarray, frames: str) -> Recorder:
    build = importlib.import_module(f"{prefix}sam2.build_sam")
    predictor_class = importlib.import_module(f"{prefix}sam2.sam2_image_predictor").SAM2ImagePredictor
    generator_class = importlib.import_module(f"{prefix}sam2.automatic_mask_generator").SAM2AutomaticMaskGenerator
    sizes = [(SIZE // stride, SIZE // stride) for stride in (4, 8, 16)]  # the original assumes those of 1024
    record = Recorder()
    model = build.build_sam2(CONFIG, checkpoint, device="cpu", hydra_overrides_extra=OVERRIDES)
    predictor = predictor_class(model)
    predictor._bb_feat_sizes = sizes
    predictor.set_image(image)
    record.add("embedding", predictor.get_image_embedding())
    record.add("features", predictor._features["image_embed"])
    for number, level in enumerate(predictor._features["high_res_feats"]):
        record.add(f"features {number}", level)
    boxes = {"box": np.array([BOX, [10, 10, 100, 100], [200, 100, 300, 200]]), "multimask_output": False}
    for name, call in {**IMAGE_CALLS, "boxes": boxes}.items():
        record.answer(name, predictor.predict(**call))
    unit = {"point_coords": np.array([[0.5, 0.5]]), "point_labels": np.array([1]), "normalize_coords": False}
    record.answer("unit", predictor.predict(**unit))
    refine(record, predictor)
    predictor.set_image_batch([image, image[:200, :300].copy()])
    coords, labels = [np.array([[[205, 160]], [[100, 50]]]), np.array([[[20, 30]]])], [np.ones((2, 1)), np.ones((1, 1))]
    for number, answer in enumerate(zip(*predictor.predict_batch(coords, labels, multimask_output=True), strict=True)):
        record.answer(f"batch {number}", answer)
    batches = [np.array([BOX, [10, 10, 100, 100]]), np.array([[20, 30, 200, 150], [5, 5, 90, 90], [50, 20, 290, 180]])]
    found = predictor.predict_batch(None, None, box_batch=batches, multimask_output=False)
    for number, answer in enumerate(zip(*found, strict=True)):
        record.answer(f"batch of boxes {number}", answer)
    plain = build.build_sam2(CONFIG, checkpoint, "cpu", hydra_overrides_extra=OVERRIDES, apply_postprocessing=False)
    for name, options in {
        "few": {"points_per_side": 6, "box_nms_thresh": 0.98},
        "fine": FINE,
        "refined": {**FINE, "use_m2m": True},
    }.items():
        generator = generator_class(plain, pred_iou_thresh=0.0, stability_score_thresh=0.0, **options)
        generator.predictor._bb_feat_sizes = sizes
        record.records(name, generator.generate(image))

    video = build.build_sam2_video_predictor(CONFIG, checkpoint, device="cpu", hydra_overrides_extra=OVERRIDES)
    video.fill_hole_area = 0
    with torch.inference_mode():
        state = video.init_state(frames)
        record.kinds["video"] = [state[name] for name in ("num_frames", "video_height", "video_width")]
        click = {"points": np.array([[20, 25]], np.float32), "labels": np.array([1], np.int32)}
        two = {"points": np.array([[20, 25], [80, 50]], np.float32), "labels": np.array([1, 0], np.int32)}
        record.frame("click", video.add_new_points_or_box(state, 0, 1, **click))
        record.frame("two clicks", video.add_new_points_or_box(state, 0, 1, **two))
        record.frame("box", video.add_new_points_or_box(state, 0, 2, box=np.array([30, 10, 70, 50], np.float32)))
        passes = {"forward": {}, "part": {"start_frame_idx": 2, "max_frame_num_to_track": 1}}
        passes["back"] = {
            "start_frame_idx": 2,
            "reverse": True,
        }  # from the last frame the original fails in fp32
        for name, options in passes.items():
            for number, answer in enumerate(video.propagate_in_video(state, **options)):
                record.frame(f"{name} {number}", answer)
        record.frame("correction", video.add_new_points_or_box(state, 3, 2, **click))
        for number, answer in enumerate(video.propagate_in_video(state, 3)):
            record.frame(f"corrected {number}", answer)
        negative = {"points": np.array([[82, 41]], np.float32), "labels": np.array([0], np.int32)}
        record.frame("negative correction", video.add_new_points_or_box(state, 2, 1, **negative))
        record.frame("clear", video.clear_all_prompts_in_frame(state, 3, 2))
        ids, updated = video.remove_object(state, 2)
        record.kinds["removed"] = [list(ids), [frame for frame, _ in updated]]
        box = np.array([10, 15, 36, 41], np.float32)
        record.frame("box and click", video.add_new_points_or_box(state, 0, 3, box=box, **click))
        for number, answer in enumerate(video.propagate_in_video(state)):
            record.frame(f"with a new object {number}", answer)
        video.reset_state(state)
        record.kinds["reset"] = list(state["obj_ids"])
        mask = np.zeros((64, 96), bool)
        mask[10:30, 40:70] = True
        record.frame("mask", video.add_new_mask(state, 1, 7, mask))
        for number, answer in enumerate(video.propagate_in_video(state, max_frame_num_to_track=1)):
            record.frame(f"from mask {number}", answer)
    return record


def use_small_trunk(prefix: str, library: Any) -> None:
    """Let "vit_b" be `SMALL_SAM`."""
    trunk = SMALL_SAM.trunk
    assert isinstance(trunk, ViTConfig)
    if prefix:
        CONFIGS["sam_vit_b"] = SMALL_SAM
    else:
        shape = (trunk.width, trunk.depth, trunk.heads, trunk.global_blocks)
        library.sam_model_registry["vit_b"] = partial(library.build_sam.__globals__["_build_sam"], *shape)


def segment_anything_calls(prefix: str, checkpoint: str, image: np.ndarray) -> Recorder:
    library, record = importlib.import_module(f"{prefix}segment_anything"), Recorder()
    use_small_trunk(prefix, library)
    sam = library.sam_model_registry["vit_b"](checkpoint=checkpoint)
    sam.to(device="cpu")
    predictor = library.SamPredictor(sam)
    predictor.set_image(image[..., ::-1].copy(), "BGR")
    record.add("embedding", predictor.get_image_embedding())
    for name, call in IMAGE_CALLS.items():
        record.answer(name, predictor.predict(**call))
    refine(record, predictor)
    boxes = torch.tensor([BOX.tolist(), [10, 10, 100, 100]], device=predictor.device)
    scaled = predictor.transform.apply_boxes_torch(boxes, image.shape[:2])
    found = predictor.predict_torch(point_coords=None, point_labels=None, boxes=scaled, multimask_output=False)
    record.answer("torch boxes", found)
    for name, options in {
        "few": {"points_per_side": 4, "box_nms_thresh": 0.98},
        "fine": {**FINE, **SMALL_REGIONS},
    }.items():
        generator = library.SamAutomaticMaskGenerator(sam, pred_iou_thresh=0.0, stability_score_thresh=0.0, **options)
        record.records(name, generator.generate(image))
    several_images(record, prefix, sam, image)
    exported_decoder(record, prefix, sam, predictor, image)
    return record


def several_images(record: Recorder, prefix: str, sam: Any, image: np.ndarray) -> None:
    """Call the network with two images and their prompts, as the notebook on predictors ends."""
    resize = importlib.import_module(f"{prefix}segment_anything.utils.transforms").ResizeLongestSide
    transform, images = resize(sam.image_encoder.img_size), (image, image[:200, :300].copy())
    boxes = torch.tensor([BOX.tolist(), [10, 10, 100, 100]]), torch.tensor([[20, 30, 200, 150]])
    batch = [
        {
            "image": torch.as_tensor(transform.apply_image(one), device=sam.device).permute(2, 0, 1).contiguous(),
            "boxes": transform.apply_boxes_torch(of_one, one.shape[:2]),
            "original_size": one.shape[:2],
        }
        for one, of_one in zip(images, boxes, strict=True)
    ]
    clicks = transform.apply_coords_torch(torch.tensor([[[205, 160], [20, 20]]]), image.shape[:2])
    batch[0] |= {"point_coords": clicks.repeat(2, 1, 1), "point_labels": torch.tensor([[1, 0], [1, 0]])}
    for number, output in enumerate(sam(batch, multimask_output=False)):
        record.kinds[f"several {number}"] = list(output)
        record.answer(f"several {number}", (output["masks"], output["iou_predictions"], output["low_res_logits"]))


def exported_decoder(record: Recorder, prefix: str, sam: Any, predictor: Any, image: np.ndarray) -> None:
    """Call the module that the notebook on ONNX exports, as it calls the exported graph."""
    model_class = importlib.import_module(f"{prefix}segment_anything.utils.onnx").SamOnnxModel
    embed_dim, embed_size = sam.prompt_encoder.embed_dim, sam.prompt_encoder.image_embedding_size
    record.kinds["prompt encoder"] = [embed_dim, list(embed_size)]
    click = np.concatenate([CLICK["point_coords"], [[0.0, 0.0]]])[None]
    box = np.concatenate([CLICK["point_coords"], BOX.reshape(2, 2)])[None]
    prompts = {"click": (click, [[1, -1]]), "box and click": (box, [[0, 2, 3]])}
    earlier = torch.zeros(1, 1, *(4 * side for side in embed_size))
    options = {"single": {"return_single_mask": True}, "all": {"return_single_mask": False}}
    options["extra"] = {"return_single_mask": True, "use_stability_score": True, "return_extra_metrics": True}
    for kind, chosen in options.items():
        decoder = model_class(sam, **chosen)
        for name, (coords, labels) in prompts.items():
            scaled = torch.from_numpy(predictor.transform.apply_coords(coords, image.shape[:2]).astype(np.float32))
            marks, size = torch.tensor(labels).float(), torch.tensor(image.shape[:2]).float()
            found = decoder(predictor.get_image_embedding(), scaled, marks, earlier, torch.zeros(1), size)
            for part, value in enumerate(found):
                record.add(f"exported {kind} {name} {part}", value)
        again = found[-1][:, :1]
        refined = decoder(predictor.get_image_embedding(), scaled, marks, again, torch.ones(1), size)
        record.add(f"exported {kind} refined", refined[0])
    record.kinds["threshold"] = predictor.model.mask_threshold


def main() -> None:
    library, prefix, checkpoint, image_file, frames, out = sys.argv[1:]
    image = np.array(Image.open(image_file).convert("RGB"))
    if not prefix:
        sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "adapters"))
        importlib.import_module("torchvision_ops").import_torchvision()
    if library == "sam2":
        record = sam2_calls(prefix, checkpoint, image, frames)
    else:
        record = segment_anything_calls(prefix, checkpoint, image)
    np.savez(f"{out}.npz", **record.arrays)
    Path(f"{out}.json").write_text(json.dumps(record.kinds))


if __name__ == "__main__":
    main()
