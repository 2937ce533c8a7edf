"""huggingface/transformers (`pip install transformers`, Apache-2.0): `Sam2Model` and `Sam2VideoModel`.

Its processors require torchvision, so images and frames are resized here, as the published predictors do. Weights have
its own tensor names (`benchmarks.weights`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving import AdapterJob, MaskOutput, autocast, serve

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INPUT_SIZE = 1024
LOGIT_LIMIT = 32.0
"""Limit of the logits that the published predictor returns; masks are made of unlimited ones."""
TRUNKS = {
    "tiny": (96, 1, [1, 2, 7, 2], [5, 7, 9], 7, [8, 4, 14, 7]),
    "small": (96, 1, [1, 2, 11, 2], [7, 10, 13], 7, [8, 4, 14, 7]),
    "base_plus": (112, 2, [2, 3, 16, 3], [12, 16, 20], 14, [8, 4, 14, 7]),
    "large": (144, 2, [2, 6, 36, 4], [23, 33, 43], 7, [8, 4, 16, 8]),
}
"""Width, heads, blocks per stage, blocks with global attention, side of the position map, windows per stage."""


class TransformersImageProgram:
    """`Sam2Model`; without torchvision it has no mask generation."""

    def __init__(self) -> None:
        import transformers

        self.version = transformers.__version__
        self.model_class, self.config_class = transformers.Sam2Model, transformers.Sam2Config
        self.prompt_config_class = transformers.Sam2PromptEncoderConfig

    def load(self, job: AdapterJob) -> None:
        """Load the weights."""
        self.job, self.side = job, job.image_size or INPUT_SIZE
        config = self.config_class(
            vision_config=vision_config(job), prompt_encoder_config=self.prompt_config_class(image_size=self.side)
        )
        self.model = load_network(self.model_class, config, job)

    def encode(self, rgb: Any) -> None:
        """Encode an image."""
        import torch
        from torch.nn.functional import interpolate

        self.size = rgb.shape[:2]
        with torch.inference_mode(), autocast(self.job):
            pixels = torch.from_numpy(rgb).to(self.job.device).permute(2, 0, 1)[None].float() / 255
            square = interpolate(pixels, (self.side, self.side), mode="bilinear", antialias=True)
            self.embeddings = self.model.get_image_embeddings(normalize_pixels(square))

    def click(self, point: list[float]) -> MaskOutput:
        """Predict three masks for a click."""
        return self._predict(multimask=True, **self._point_inputs([point]))

    def box(self, box: list[float]) -> MaskOutput:
        """Predict one mask for a box."""
        return self._predict(multimask=False, input_boxes=self._to_input_coords([box[:2], box[2:]]).reshape(1, 1, 4))

    def prompts(self, points: list[list[float]]) -> MaskOutput:
        """Predict one mask for each of many clicks."""
        return self._predict(multimask=False, **self._point_inputs(points))

    def _point_inputs(self, points: list[list[float]]) -> dict[str, Any]:
        import torch

        labels = torch.ones(1, len(points), 1, dtype=torch.long, device=self.job.device)
        return {"input_points": self._to_input_coords(points)[None, :, None], "input_labels": labels}

    def _to_input_coords(self, points: list[list[float]]) -> Any:
        return scale_points(points, self.size, self.side).to(self.job.device)

    def _predict(self, *, multimask: bool, **prompt: Any) -> MaskOutput:
        import torch

        with torch.inference_mode(), autocast(self.job):
            output = self.model(image_embeddings=self.embeddings, multimask_output=multimask, **prompt)
            logits = output.pred_masks.flatten(0, 2)
            return MaskOutput(upsample_masks(logits, self.size), logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT))


class TransformersVideoProgram:
    """`Sam2VideoModel`, frame by frame."""

    def __init__(self) -> None:
        import transformers
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        self.version = transformers.__version__
        self.model_class, self.config_class = transformers.Sam2VideoModel, transformers.Sam2VideoConfig
        self.session_class = Sam2VideoInferenceSession

    def load(self, job: AdapterJob) -> None:
        """Load the weights and read the video."""
        self.job, self.side = job, job.image_size or INPUT_SIZE
        self.model = load_network(self.model_class, self._config(job), job)
        frames, self.size = read_video(Path(job.video_dir), self.side)
        self.session = self.session_class(
            frames, *self.size, inference_device=job.device, inference_state_device=job.device, dtype=frames.dtype
        )

    def prompt(self, prompts: list[dict[str, Any]]) -> None:
        """Prompt the objects on the first frame."""
        import torch

        for prompt in prompts:
            corners = prompt.get("box") or []
            points = [corners[:2], corners[2:]] if corners else [prompt["point"]]
            inputs = {
                "point_coords": scale_points(points, self.size, self.side)[None, None].to(self.job.device),
                "point_labels": torch.tensor([[[2, 3] if corners else [1]]], device=self.job.device),
            }
            self.session.add_point_inputs(self.session.obj_id_to_idx(prompt["id"]), 0, inputs)
        self.session.obj_with_new_inputs = [prompt["id"] for prompt in prompts]
        with torch.inference_mode(), autocast(self.job):
            self.model(self.session, frame_idx=0)
        self.outputs = self.model.propagate_in_video_iterator(self.session, start_frame_idx=0)

    def step(self) -> MaskOutput:
        """Track the next frame, from the first on."""
        import torch

        with torch.inference_mode(), autocast(self.job):
            logits = next(self.outputs).pred_masks[:, 0]
            return MaskOutput(upsample_masks(logits, self.size), logits)

    def _config(self, job: AdapterJob) -> Any:
        newer = job.model.startswith("sam2.1")
        prompts = self.config_class().prompt_encoder_config
        prompts.image_size = self.side
        return self.config_class(
            vision_config=vision_config(job),
            prompt_encoder_config=prompts,
            image_size=self.side,
            memory_attention_rope_feat_sizes=[self.side // 16] * 2,
            enable_temporal_pos_encoding_for_object_pointers=newer,
            enable_occlusion_spatial_embedding=newer,
        )


def vision_config(job: AdapterJob) -> Any:
    """Describe the image encoder of a published size."""
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    width, heads, blocks, global_blocks, background, windows = TRUNKS[job.model.partition("_hiera_")[2]]
    side = job.image_size or INPUT_SIZE
    widths = [width * 2**stage for stage in range(4)]
    trunk = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        image_size=[side, side],
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)],
        global_attention_blocks=global_blocks,
        window_positional_embedding_background_size=[background, background],
        window_size_per_stage=windows,
    )
    return Sam2VisionConfig(
        backbone_config=trunk,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, 16)],
    )


def load_network(model_class: Any, config: Any, job: AdapterJob) -> Any:
    """Build the network with its weights; the image model ignores those of the memory."""
    import torch

    model = model_class(config).eval()
    named = torch.load(job.weights, map_location="cpu", weights_only=True)
    model.load_state_dict({name: named[name] for name in model.state_dict()}, strict=True)
    return model.to(job.device)


def scale_points(points: list[list[float]], size: tuple[int, int], side: int) -> Any:
    """Scale points of an image of (height, width) to the network's square."""
    import torch

    return torch.tensor(points, dtype=torch.float32) * torch.tensor([side / size[1], side / size[0]])


def normalize_pixels(pixels: Any) -> Any:
    """Normalize (1, 3, S, S) from 0..1 for the network."""
    import torch

    mean, deviation = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pixels - mean) / deviation


def upsample_masks(logits: Any, size: tuple[int, int]) -> Any:
    """Upsample logits (N, h, w) to masks (N, H, W), as its processor does."""
    from torch.nn.functional import interpolate

    return (interpolate(logits[:, None].float(), size, mode="bilinear", align_corners=False) > 0)[:, 0]


def read_video(folder: Path, side: int) -> tuple[Any, tuple[int, int]]:
    """Read frames (T, 3, S, S) in the order of their names, resized as the published tracker does, and their size."""
    import numpy as np
    import torch
    from PIL import Image

    frames = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as file:
            size = file.height, file.width
            square = np.array(file.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
        frames.append(normalize_pixels(torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255))
    return torch.cat(frames), size


if __name__ == "__main__":
    serve(image_program=TransformersImageProgram, video_program=TransformersVideoProgram)
