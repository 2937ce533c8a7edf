"""EdgeTAM in `transformers` as an independent second reference, filled from our tensors through our name mapping.

Its trunk is timm's RepViT, which needs torchvision too. Without these packages their network gets the maps of our
trunk, and the comparison is of everything behind it; the trunk alone is then compared with the published code only
(`test_goldens`).
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.reference import GOLDEN, encoding_once, golden_image, module_at, published_shapes, reference_model
from masklet.errors import CheckpointError
from masklet.load_model import load
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2, FastSAM2Encoder
from masklet.models.sam2 import SAM2
from masklet.models.sam2.memory_attention import KeyLayout
from masklet.models.sam2.state_dict import from_transformers, is_transformers, to_transformers
from masklet.models.types import PromptTensors
from masklet.nn.attention import axial_rope
from masklet.transforms import ImageTransform, preprocess_frame
from masklet.video import Session, TrackOptions

transformers = pytest.importorskip("transformers", reason="transformers (extra 'test') is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.golden, pytest.mark.filterwarnings("ignore")]

SIDE, FRAMES = 512, 9
LARGEST, MEAN = 2e-3, 2e-4
"""Of the logits' deviation."""


def has_timm() -> bool:
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError):  # torchvision of another build
        return False
    return True


class OurTrunk(nn.Module):
    """Our trunk behind the interface of timm's, whose place it takes."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.timm_model = trunk.body  # under their names

    def forward(self, pixels: Tensor, **_: Any) -> types.SimpleNamespace:
        return types.SimpleNamespace(last_hidden_state=self.timm_model(pixels), hidden_states=None)


def filled(theirs: Any, ours: SAM2, *, timm: bool) -> Any:
    """Their network with our weights, loaded strictly."""
    if not timm:
        theirs.vision_encoder.backbone = OurTrunk(ours.image_encoder.trunk)
    named, wanted = to_transformers(ours.state_dict()), theirs.state_dict()
    theirs.load_state_dict({name: named[name] for name in wanted}, strict=True)
    return theirs.eval()


def vision_config(timm: bool) -> Any:
    sizes = [[SIDE // stride] * 2 for stride in (4, 8, 16)]
    if timm:
        trunk = transformers.TimmWrapperConfig(
            architecture="repvit_m1",
            model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
        )
    else:
        trunk = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])  # replaced by `OurTrunk`
    return transformers.EdgeTamVisionConfig(backbone_config=trunk, backbone_feature_sizes=sizes)


def their_image_model(ours: SAM2) -> Any:
    timm = has_timm()
    prompts = transformers.EdgeTamPromptEncoderConfig(image_size=SIDE)
    config = transformers.EdgeTamConfig(vision_config=vision_config(timm), prompt_encoder_config=prompts)
    return filled(transformers.EdgeTamModel(config), ours, timm=timm)


def their_video_model(ours: SAM2) -> Any:
    timm = has_timm()
    config = transformers.EdgeTamVideoConfig(
        vision_config=vision_config(timm),
        prompt_encoder_config=transformers.EdgeTamVideoPromptEncoderConfig(image_size=SIDE),
        image_size=SIDE,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
        enable_temporal_pos_encoding_for_object_pointers=False,
        enable_occlusion_spatial_embedding=False,
    )
    return filled(transformers.EdgeTamVideoModel(config), ours, timm=timm)


def close(mine: Tensor, reply: Tensor) -> None:
    assert mine.shape == reply.shape
    difference = (mine - reply).abs() / reply.std()
    assert float(difference.max()) < LARGEST
    assert float(difference.mean()) < MEAN


@pytest.fixture(scope="module")
def ours() -> SAM2:
    return reference_model("edgetam", SIDE, "c")


@pytest.fixture(scope="module")
def theirs(ours: SAM2) -> Any:
    return their_video_model(ours)


def test_transformers_gives_the_same_masks(ours: SAM2) -> None:
    theirs, image = their_image_model(ours), golden_image()
    pixels = ImageTransform((image.shape[0], image.shape[1]), SIDE).preprocess(image)
    points, labels = torch.tensor([[[144.0, 276.0], [320.0, 212.0]]]), torch.tensor([[1, 0]])
    with torch.inference_mode():
        features = ours.add_no_memory_embedding(FastSAM2Encoder(ours)(pixels))
        mine = ours.decode(features, PromptTensors(points, labels))
        reply = theirs(pixel_values=pixels, input_points=points[None], input_labels=labels[None], multimask_output=True)
    close(mine.logits_BKHW[0, 1:], reply.pred_masks[0, 0])
    np.testing.assert_allclose(mine.iou_BK[0, 1:].numpy(), reply.iou_scores.numpy().ravel(), atol=1e-4)
    assert float(mine.object_score_B1) == pytest.approx(float(reply.object_score_logits.ravel()), abs=1e-3)


def test_transformers_compresses_memories_the_same(ours: SAM2, theirs: Any) -> None:
    """Windows of three by three cells; one object, because theirs takes no more."""
    random = torch.Generator().manual_seed(0)
    memory = torch.randn(1, 64, 48, 48, generator=random)
    position = theirs.spatial_perceiver.positional_encoding(memory.shape, memory.device, memory.dtype)
    with torch.inference_mode():
        reply, reply_position = theirs.spatial_perceiver(memory, position)
        mine = ours.spatial_perceiver(memory)
    close(mine.flatten(2).transpose(1, 2), reply)
    assert not reply_position[:, :256].any()
    placed = ours.memory_tokenizer().layout(mine, 0)
    assert (placed.unplaced, placed.size) == (256, (16, 16))


def test_transformers_conditions_on_memory_the_same(ours: SAM2, theirs: Any) -> None:
    """Two frames of memory and eight pointer tokens."""
    random, side = torch.Generator().manual_seed(0), SIDE // 16
    present, position = torch.randn(2, side**2, 1, 256, generator=random)
    memory, memory_position = torch.randn(2, 2 * 512 + 8, 1, 64, generator=random)
    ropes = (axial_rope(side, side, 256), axial_rope(16, 16, 256))
    with torch.inference_mode():
        reply = theirs.memory_attention(present, memory, position, memory_position, 8, 2)
        batched = (t.transpose(0, 1) for t in (present, position, memory, memory_position))
        mine = ours.memory_attention(*batched, ropes, KeyLayout(8, (16, 16), 256))
    close(mine, reply.reshape(mine.shape))


@pytest.mark.parametrize("reverse", [False, True])
def test_transformers_tracks_the_same(ours: SAM2, theirs: Any, reverse: bool) -> None:
    """An object with two points, through seven memories."""
    from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession

    clip = module_at(GOLDEN / "portable" / "scene.py").clip(FRAMES)
    height, width = clip.shape[1:3]
    first, xy, labels = (FRAMES - 1 if reverse else 0), [[240.0, 168.0], [60.0, 60.0]], [1, 0]
    network = FastSAM2(ours, encode_image=encoding_once(FastSAM2Encoder(ours)))
    mine: dict[int, tuple[Tensor, float]] = {}
    with Session(network, open_video(list(clip)), TrackOptions(fill_hole_area=0).as_published()) as session:
        session.add_prompt(1, frame_idx=first, points=xy, labels=labels)
        for shown in session.propagate(reverse=reverse):
            kept = session.tracker.objects[1].bank[shown.frame_idx]
            assert kept.logits_11HW is not None
            mine[shown.frame_idx] = (kept.logits_11HW[0, 0], kept.object_score)

    pixels = torch.cat([preprocess_frame(frame, (SIDE, SIDE)) for frame in clip])
    other = EdgeTamVideoInferenceSession(pixels, height, width, dtype=torch.float32)
    points = torch.tensor(xy) * torch.tensor([SIDE / width, SIDE / height])
    prompt = {"point_coords": points[None, None], "point_labels": torch.tensor(labels)[None, None]}
    other.add_point_inputs(other.obj_id_to_idx(1), first, prompt)
    other.obj_with_new_inputs = [1]
    with torch.inference_mode():
        theirs(other, frame_idx=first)
        replies = list(theirs.propagate_in_video_iterator(other, start_frame_idx=first, reverse=reverse))
    assert sorted(reply.frame_idx for reply in replies) == sorted(mine) == list(range(FRAMES))
    for reply in replies:
        logits, score = mine[reply.frame_idx]
        close(logits, reply.pred_masks[0, 0])
        assert score == pytest.approx(float(reply.object_score_logits.ravel()[0]), abs=2e-3)


def test_names_and_shapes_are_those_of_the_video_model() -> None:
    published = {name: torch.empty(shape, device="meta") for name, shape in published_shapes("edgetam").items()}
    model = reference_model("edgetam", SIDE, "c")
    state = their_video_model(model).state_dict()
    named = to_transformers(published)
    assert {name: tuple(t.shape) for name, t in named.items()} == {name: tuple(t.shape) for name, t in state.items()}


def test_a_file_of_transformers_opens(ours: SAM2, tmp_path: Any) -> None:
    from safetensors.torch import save_file

    named = {name: tensor.clone().contiguous() for name, tensor in to_transformers(ours.state_dict()).items()}
    assert is_transformers(named)
    save_file(named, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.name == "edgetam"
    found = loaded.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in ours.state_dict().items())


def test_a_file_of_the_image_model_has_no_memory(ours: SAM2, tmp_path: Any) -> None:
    from safetensors.torch import save_file

    state = their_image_model(ours).state_dict()
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert (loaded.name, loaded.network.supports_video) == ("edgetam", False)


def test_half_of_a_tensor_is_missing_not_guessed(ours: SAM2) -> None:
    named = to_transformers(ours.state_dict())
    del named["spatial_perceiver.layers.0.self_attention.v_proj.weight"]
    assert "spatial_perceiver.layers.0.self_attn.to_kv.weight" not in from_transformers(named)
    with pytest.raises(CheckpointError, match="has no name in transformers"):
        to_transformers({**ours.state_dict(), "another.weight": torch.zeros(1)})
