"""huggingface/transformers (`pip install transformers`, Apache-2.0) beside masklet: `Sam2Model` and `Sam2VideoModel`.

Its processors ask for torchvision, so pictures and frames are resized here, as the published predictors do, and handed
in as pixel values. Weights come under its own names for them (`masklet.benchmark.peers.weight_formats`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving import Job, Seen, autocast, serve

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 1024
LIMIT = 32.0
"""Of the logits that the published predictor shows; masks are made of those without it."""
TRUNKS = {
    "tiny": (96, 1, [1, 2, 7, 2], [5, 7, 9], 7, [8, 4, 14, 7]),
    "small": (96, 1, [1, 2, 11, 2], [7, 10, 13], 7, [8, 4, 14, 7]),
    "base_plus": (112, 2, [2, 3, 16, 3], [12, 16, 20], 14, [8, 4, 14, 7]),
    "large": (144, 2, [2, 6, 36, 4], [23, 33, 43], 7, [8, 4, 16, 8]),
}
"""Width, heads, blocks of each stage, blocks that see everything, side of the position map, windows of each stage."""


class Picture:
    """`Sam2Model`; it has no everything without torchvision."""

    def __init__(self) -> None:
        import transformers

        self.version = transformers.__version__
        self.model_of, self.config_of = transformers.Sam2Model, transformers.Sam2Config
        self.prompts_of = transformers.Sam2PromptEncoderConfig

    def load(self, job: Job) -> None:
        """Open the weights."""
        self.job, self.side = job, job.image_size or SIDE
        config = self.config_of(vision_config=vision(job), prompt_encoder_config=self.prompts_of(image_size=self.side))
        self.model = filled(self.model_of, config, job)

    def encode(self, rgb: Any) -> None:
        """Take a picture."""
        import torch
        from torch.nn.functional import interpolate

        self.size = rgb.shape[:2]
        with torch.inference_mode(), autocast(self.job):
            pixels = torch.from_numpy(rgb).to(self.job.device).permute(2, 0, 1)[None].float() / 255
            square = interpolate(pixels, (self.side, self.side), mode="bilinear", antialias=True)
            self.embeddings = self.model.get_image_embeddings(normalised(square))

    def click(self, point: list[float]) -> Seen:
        """Three candidates for one positive click."""
        return self._ask(many=True, **self._clicks([point]))

    def box(self, box: list[float]) -> Seen:
        """One mask for one box."""
        return self._ask(many=False, input_boxes=self._places([box[:2], box[2:]]).reshape(1, 1, 4))

    def prompts(self, points: list[list[float]]) -> Seen:
        """One mask for each of many clicks."""
        return self._ask(many=False, **self._clicks(points))

    def _clicks(self, points: list[list[float]]) -> dict[str, Any]:
        import torch

        labels = torch.ones(1, len(points), 1, dtype=torch.long, device=self.job.device)
        return {"input_points": self._places(points)[None, :, None], "input_labels": labels}

    def _places(self, points: list[list[float]]) -> Any:
        return placed(points, self.size, self.side).to(self.job.device)

    def _ask(self, *, many: bool, **prompt: Any) -> Seen:
        import torch

        with torch.inference_mode(), autocast(self.job):
            reply = self.model(image_embeddings=self.embeddings, multimask_output=many, **prompt)
            logits = reply.pred_masks.flatten(0, 2)
            return Seen(enlarged(logits, self.size), logits.clamp(-LIMIT, LIMIT))


class Film:
    """`Sam2VideoModel`, frame by frame."""

    def __init__(self) -> None:
        import transformers
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        self.version = transformers.__version__
        self.model_of, self.config_of = transformers.Sam2VideoModel, transformers.Sam2VideoConfig
        self.session_of = Sam2VideoInferenceSession

    def load(self, job: Job) -> None:
        """Open the weights and read the film."""
        self.job, self.side = job, job.image_size or SIDE
        self.model = filled(self.model_of, self._config(job), job)
        frames, self.size = read_film(Path(job.film), self.side)
        self.session = self.session_of(
            frames, *self.size, inference_device=job.device, inference_state_device=job.device, dtype=frames.dtype
        )

    def prompt(self, prompts: list[dict[str, Any]]) -> None:
        """Say what is to be followed, on the first frame."""
        import torch

        for one in prompts:
            corners = one.get("box") or []
            given = [corners[:2], corners[2:]] if corners else [one["point"]]
            said = {
                "point_coords": placed(given, self.size, self.side)[None, None].to(self.job.device),
                "point_labels": torch.tensor([[[2, 3] if corners else [1]]], device=self.job.device),
            }
            self.session.add_point_inputs(self.session.obj_id_to_idx(one["id"]), 0, said)
        self.session.obj_with_new_inputs = [one["id"] for one in prompts]
        with torch.inference_mode(), autocast(self.job):
            self.model(self.session, frame_idx=0)
        self.replies = self.model.propagate_in_video_iterator(self.session, start_frame_idx=0)

    def step(self) -> Seen:
        """The next frame, the first one first."""
        import torch

        with torch.inference_mode(), autocast(self.job):
            logits = next(self.replies).pred_masks[:, 0]
            return Seen(enlarged(logits, self.size), logits)

    def _config(self, job: Job) -> Any:
        newer = job.model.startswith("sam2.1")
        prompts = self.config_of().prompt_encoder_config
        prompts.image_size = self.side
        return self.config_of(
            vision_config=vision(job),
            prompt_encoder_config=prompts,
            image_size=self.side,
            memory_attention_rope_feat_sizes=[self.side // 16] * 2,
            enable_temporal_pos_encoding_for_object_pointers=newer,
            enable_occlusion_spatial_embedding=newer,
        )


def vision(job: Job) -> Any:
    """How the image encoder of a published size is described there."""
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    width, heads, blocks, wide, background, windows = TRUNKS[job.model.partition("_hiera_")[2]]
    side = job.image_size or SIDE
    widths = [width * 2**stage for stage in range(4)]
    trunk = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        image_size=[side, side],
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)],
        global_attention_blocks=wide,
        window_positional_embedding_background_size=[background, background],
        window_size_per_stage=windows,
    )
    return Sam2VisionConfig(
        backbone_config=trunk,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, 16)],
    )


def filled(model_of: Any, config: Any, job: Job) -> Any:
    """The network with its weights; that of pictures leaves the memory's alone."""
    import torch

    model = model_of(config).eval()
    named = torch.load(job.weights, map_location="cpu", weights_only=True)
    model.load_state_dict({name: named[name] for name in model.state_dict()}, strict=True)
    return model.to(job.device)


def placed(points: list[list[float]], size: tuple[int, int], side: int) -> Any:
    """Points of a picture of that height and width as those of the network's square."""
    import torch

    return torch.tensor(points, dtype=torch.float32) * torch.tensor([side / size[1], side / size[0]])


def normalised(pixels: Any) -> Any:
    """(1, 3, S, S) from 0..1 to what the network has learnt with."""
    import torch

    mean, deviation = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    return (pixels - mean) / deviation


def enlarged(logits: Any, size: tuple[int, int]) -> Any:
    """(N, h, w) to masks (N, H, W), as its processor does."""
    from torch.nn.functional import interpolate

    return (interpolate(logits[:, None].float(), size, mode="bilinear", align_corners=False) > 0)[:, 0]


def read_film(folder: Path, side: int) -> tuple[Any, tuple[int, int]]:
    """Frames (T, 3, S, S) in the order of their names, resized as the published tracker does, and their size."""
    import numpy as np
    import torch
    from PIL import Image

    frames = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as file:
            size = file.height, file.width
            square = np.array(file.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
        frames.append(normalised(torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255))
    return torch.cat(frames), size


if __name__ == "__main__":
    serve(picture=Picture, film=Film)
