"""`ExportedNetwork`: the verbs of a network, run by the graphs of an exported folder.

Selection among candidates, label matching and memory banks are masklet's own code, as for networks in PyTorch.
Shapes: B batch, N objects, C channels, M memory channels, K memory slots, Q pointers, P points, H and W of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from masklet.exported.graphs import Arrays, Engine
from masklet.exported.manifest import FolderManifest
from masklet.models.fast_cpu.label_matching_blocks import match_labels_in_blocks
from masklet.models.sam2.output_masks import output_of_mask, select_output
from masklet.models.types import (
    FrameMemory,
    ImageFeatures,
    MaskPrediction,
    MemoryContext,
    PromptTensors,
    SelectedMasks,
    empty_prompt,
    input_size_by_area,
)
from masklet.tensors import Tensor, interpolate, torch

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ExportedNetwork"]

CPU = torch.device("cpu")
STRIDE = 16
"""Of the features that have memory."""
FIRST_BOX_LABEL = 2
"""Labels from here on are box corners."""


class ExportedNetwork:
    """What image predictors (`PromptableModel`) and trackers (`VideoNetwork`) need, from the graphs of a folder.

    Tensors are on the CPU; the runtime moves them to the device of its provider. Pickling and copying keep the way to
    the graphs, which are opened again: `reopen` is a picklable function that does it.
    """

    device = CPU
    weights_keys = False
    encodes_ahead = False
    """Whether a frame is encoded while the one before is tracked: here each graph takes all threads."""

    def __init__(self, manifest: FolderManifest, engine: Engine, reopen: Callable[[], ExportedNetwork]) -> None:
        self.manifest, self.engine, self.reopen = manifest, engine, reopen
        self.still_image_size, self.keeps_aspect_ratio = manifest.still_image_size, manifest.keeps_aspect_ratio
        self.stability_threshold, self.clamps_logits = manifest.stability_threshold, manifest.clamps_logits
        self.edge_radius, self.matching = manifest.edge_radius, manifest.matching
        self.supports_video, self.score_family = manifest.video is not None, manifest.score_family
        self.constants = {name: torch.from_numpy(value.copy()) for name, value in manifest.constants.items()}
        video = manifest.video
        self.video_pixels = None if video is None else video.pixels
        sides = (self.still_image_size,) if video is None or video.size is None else video.size
        self.image_size, self.pointer_channels = max(sides), manifest.width
        self.memory_limits = None if video is None else max(video.slots.items())

    def __reduce__(self) -> tuple[Callable[[], ExportedNetwork], tuple[()]]:
        return self.reopen, ()

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @property
    def model(self) -> Self:
        """The network that a saved session belongs to."""
        return self

    def fingerprint(self) -> tuple[str, str]:
        """Return the name of the model, and a hash of its files."""
        return self.manifest.name, self.manifest.fingerprint[:16]

    def in_precision(self, precision: str) -> ExportedNetwork:
        """Return the network with its encoder and memory attention in a precision.

        Raises:
            InputError: if its runtime has none like that.
        """
        engine = self.engine.in_precision(precision)
        if engine is self.engine:
            return self
        return ExportedNetwork(self.manifest, engine, partial(_reopen_in, self.reopen, precision))

    def to(self, device: torch.device) -> Self:
        """Return itself: the runtime has its own devices."""
        return self

    # Images.

    def encode_image(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Encode normalized RGB; where labels are matched, `stride8_BCHW` holds the keys (B, H, W, C) themselves."""
        rows = [self._run("image_encoder", {"pixels": _array(pixels[None])}) for pixels in pixels_B3HW]
        found = {name: torch.cat([row[name] for row in rows]) if len(rows) > 1 else rows[0][name] for name in rows[0]}
        finer = tuple(found[name] for name in ("high_res_features_1", "high_res_features_0") if name in found)
        return ImageFeatures(found["image_embeddings"], finer, found.get("matching_keys"))

    def add_no_memory_embedding(self, features: ImageFeatures) -> ImageFeatures:
        """Condition features on an empty memory."""
        embedding_C11 = self.constants["no_memory_embedding"][:, None, None]
        return ImageFeatures(features.embed_BCHW + embedding_C11, features.high_res_features, features.stride8_BCHW)

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
        """Predict all four candidates of each object, from memory alone where `prompts` is None."""
        if prompts is None:
            prompts = empty_prompt(len(features.embed_BCHW), CPU)
        count = len(prompts.points_BN2)
        height, width = features.embed_BCHW.shape[-2:]
        points, labels = _array(prompts.points_BN2), _array(prompts.labels_BN)
        pads = self.manifest.family == "sam1" and labels.shape[1] > 0 and not (labels >= FIRST_BOX_LABEL).any()
        if pads:  # what the graph of SAM 1 leaves to its caller
            points = np.concatenate([points, np.zeros((count, 1, 2), np.float32)], axis=1)
            labels = np.concatenate([labels, np.full((count, 1), -1, np.float32)], axis=1)
        mask_B1HW = prompts.mask_B1HW
        has_mask = mask_B1HW is not None
        mask = np.zeros((count, 1, 4 * height, 4 * width), np.float32) if mask_B1HW is None else _array(mask_B1HW)
        inputs = {
            "image_embeddings": _array(_shared(features.embed_BCHW)),
            "point_coords": points,
            "point_labels": labels,
            "mask_input": mask,
            "has_mask_input": np.full(count, has_mask, np.float32),
        }
        if features.high_res_features:
            stride8, stride4 = features.high_res_features
            inputs |= {"high_res_features_0": _array(stride4[:1]), "high_res_features_1": _array(stride8[:1])}
        found = self._run("prompt_decoder", inputs)
        return MaskPrediction(found["masks"], found["iou_scores"], found["object_scores"], found["pointers"])

    # Frames of a video.

    def frame_input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that frames of `frame_size` (height, width) are resized to."""
        video = self.manifest.video
        assert video is not None, "an export for images only"
        if video.size is not None:
            return video.size
        assert video.pixels is not None
        return input_size_by_area(frame_size, video.pixels)

    def memory_shape(self, input_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return channels, rows and columns of the memories of frames of `input_size`, height and width."""
        video = self.manifest.video
        assert video is not None, "an export for images only"
        rows, columns = video.memory_size or (input_size[0] // STRIDE, input_size[1] // STRIDE)
        return video.memory_channels, rows, columns

    def condition_on_memory(self, features: ImageFeatures, memory_context: MemoryContext) -> ImageFeatures:
        """Condition the features of one frame on the memory of each object, in the smallest graph that holds it."""
        video, context = self.manifest.video, memory_context
        assert video is not None, "an export for images only"
        assert context.spatial_weights_BF is None, "these graphs do not weight keys"
        count, number = len(context.spatial), len(context.pointers)
        slots, most = next(each for each in video.slots.items() if each[0] >= count and each[1] >= number)
        objects, channels, height, width = context.spatial[0].shape
        memories = np.zeros((objects, slots, channels, height, width), np.float32)
        for i, memory in enumerate(context.spatial):
            memories[:, i] = _array(memory)
        pointers = np.zeros((objects, most, self.manifest.width), np.float32)
        for i, pointer in enumerate(context.pointers):
            pointers[:, i] = _array(pointer)
        offsets = np.zeros(most, np.float32)
        offsets[:number] = np.array(context.pointer_offsets, np.float32) / np.float32(max(context.max_pointers - 1, 1))
        ages = np.zeros(slots, np.int64)
        ages[:count] = context.temporal_positions
        inputs: Arrays = {
            "image_embeddings": _array(features.embed_BCHW[:1]),
            "memories": memories,
            "ages": ages,
            "memory_valid": (np.arange(slots) < count).astype(np.float32),
            "pointers": pointers,
            "pointer_offsets": offsets,
            "pointer_valid": (np.arange(most) < number).astype(np.float32),
        }
        return ImageFeatures(self._run(f"memory_attention_{slots}", inputs)["conditioned"], features.high_res_features)

    def select_mask(
        self,
        prediction: MaskPrediction,
        multimask: bool,
        *,
        choice_B: Tensor | None = None,
        min_object_score: float = 0.0,
    ) -> SelectedMasks:
        """Select one candidate of each object; the decoder's graph has projected the pointers."""
        return select_output(
            prediction,
            multimask,
            self.stability_threshold,
            lambda token: token,
            self.constants["no_object_pointer"][None],
            choice_B=choice_B,
            min_object_score=min_object_score,
        )

    def use_mask_as_output(self, features: ImageFeatures, mask_B1HW: Tensor) -> SelectedMasks:
        """Use a mask of 0 and 1 as if the network had predicted it."""
        count, _, height, width = mask_B1HW.shape
        blocks = mask_B1HW.float().reshape(count, height // 4, 4, width // 4, 4)
        weight_44 = self.constants["mask_downsample_weight"][0, 0]
        small_B1HW = torch.einsum("nhawb,ab->nhw", blocks, weight_44)[:, None] + self.constants["mask_downsample_bias"]
        decoded = self.select_mask(self.decode(features, empty_prompt(count, CPU, small_B1HW)), multimask=False)
        return output_of_mask(mask_B1HW, decoded, self.constants["no_object_pointer"][None])

    def encode_memory(self, features: ImageFeatures, masks: SelectedMasks, *, prompted: bool = False) -> FrameMemory:
        """Encode what later frames attend to; `prompted` masks are binarized."""
        inputs = {
            "image_embeddings": _array(features.embed_BCHW[:1]),
            "masks": _array(masks.logits_B1HW),
            "object_scores": _array(masks.object_score_B1),
            "prompted": np.array([prompted], np.float32),
        }
        return FrameMemory(self._run("memory_encoder", inputs)["memory"], masks.pointer_BC)

    def matching_keys(self, features: ImageFeatures) -> Tensor:
        """Return keys (1, H, W, C) at stride 8, which the encoder's graph has computed."""
        assert features.stride8_BCHW is not None, "this network does not match labels"
        return features.stride8_BCHW

    def match_labels(self, query_HWC: Tensor, keys_FHWC: Tensor, labels_NFHW: Tensor) -> Tensor:
        """Copy the labels of earlier frames to priors (N, 1, H, W)."""
        assert self.matching is not None
        return match_labels_in_blocks(query_HWC, keys_FHWC, labels_NFHW, self.matching)

    def decode_prior(self, features: ImageFeatures, prior_B1HW: Tensor) -> MaskPrediction:
        """Predict all four candidates of each object from memory and a prior in 0..1 at stride 8."""
        assert self.matching is not None
        logits_B1HW = (prior_B1HW.float() - 0.5) * self.matching.logit_scale
        mask_B1HW = interpolate(logits_B1HW, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.decode(features, empty_prompt(len(prior_B1HW), CPU, mask_B1HW))

    def _run(self, part: str, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
        found: Arrays = self.engine.run(part, inputs)
        return {name: torch.from_numpy(value) for name, value in found.items()}


def _reopen_in(reopen: Callable[[], ExportedNetwork], precision: str) -> ExportedNetwork:
    return reopen().in_precision(precision)


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    """Return the values of a tensor as a graph takes them."""
    array: npt.NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def _shared(features_BCHW: Tensor) -> Tensor:
    """Return one row of features that are the same for all objects by construction: the graph repeats them."""
    return features_BCHW[:1] if len(features_BCHW) > 1 and features_BCHW.stride(0) == 0 else features_BCHW
