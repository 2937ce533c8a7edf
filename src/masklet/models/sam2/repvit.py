"""RepViT, the convolutional trunk of EdgeTAM (Wang et al. 2024, arXiv 2307.09283).

Every convolution is followed by batch normalization, with the statistics of the published training: they stay fixed
when the network is trained further, because the batches of videos are small. `masklet.models.fast_cpu.fused_repvit`
folds all of them into the convolutions.
Shapes: B batch, C channels, H and W of a map.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from masklet.models.sam2.config import RepViTConfig
from masklet.nn.layers import ConvBN

__all__ = ["RepViT", "RepViTBlock", "RepViTDownsample", "RepViTMLP", "TokenMixer"]


class TokenMixer(nn.Module):
    """Two depthwise convolutions of 3 x 3 and 1 x 1 and the input, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvBN(channels, channels, 3, groups=channels)
        self.conv1 = ConvBN(channels, channels, groups=channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = self.conv(x_BCHW) + self.conv1(x_BCHW) + x_BCHW
        return out


class SqueezeExcite(nn.Module):
    """Channels scaled by a function of their means (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, (channels // 4 + 4) // 8 * 8)  # a quarter, to the nearest multiple of eight
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Scale (B, C, H, W)."""
        scale_BC11: Tensor = self.fc2(relu(self.fc1(x_BCHW.mean((2, 3), keepdim=True)))).sigmoid()
        return x_BCHW * scale_BC11


class RepViTMLP(nn.Module):
    """Two 1 x 1 convolutions with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(channels, 2 * channels)
        self.conv2 = ConvBN(2 * channels, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Update (B, C, H, W)."""
        out: Tensor = x_BCHW + self.conv2(gelu(self.conv1(x_BCHW)))
        return out


class RepViTBlock(nn.Module):
    """A token mixer, optionally `SqueezeExcite`, and an MLP."""

    def __init__(self, channels: int, squeeze: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(channels)
        self.se = SqueezeExcite(channels) if squeeze else None
        self.channel_mixer = RepViTMLP(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Update (B, C, H, W)."""
        mixed: Tensor = self.token_mixer(x_BCHW)
        out: Tensor = self.channel_mixer(mixed if self.se is None else self.se(mixed))
        return out


class RepViTDownsample(nn.Module):
    """A block, then half the rows and columns and `outputs` channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pre_block = RepViTBlock(inputs, squeeze=False)
        self.spatial_downsample = ConvBN(inputs, inputs, 3, 2, groups=inputs)
        self.channel_downsample = ConvBN(inputs, outputs)
        self.ffn = RepViTMLP(outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / 2, W / 2)."""
        halved: Tensor = self.channel_downsample(self.spatial_downsample(self.pre_block(x_BCHW)))
        out: Tensor = self.ffn(halved)
        return out


class RepViTBody(nn.Module):
    """The stem and four stages, under the names of the published file."""

    def __init__(self, config: RepViTConfig) -> None:
        super().__init__()
        first = config.channels[0]
        stem = OrderedDict(conv1=ConvBN(3, first // 2, 3, 2), act=nn.GELU(), conv2=ConvBN(first // 2, first, 3, 2))
        self.stem = nn.Sequential(stem)
        for stage, (channels, depth) in enumerate(zip(config.channels, config.depths, strict=True)):
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            if stage:
                parts["downsample"] = RepViTDownsample(config.channels[stage - 1], channels)
            blocks = (RepViTBlock(channels, squeeze=i % 2 == 0) for i in range(depth))
            parts["blocks"] = nn.Sequential(*blocks)
            self.add_module(f"stages_{stage}", nn.Sequential(parts))

    def forward(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H, W) at strides 4, 8, 16, 32."""
        x_BCHW, *stages = self.stem(pixels_B3HW), *list(self.children())[1:]
        maps = []
        for stage in stages:
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        return maps


class RepViT(nn.Module):
    """Four stages at strides 4, 8, 16 and 32.

    Example:
        >>> [tuple(x.shape) for x in RepViT(RepViTConfig())(torch.zeros(1, 3, 64, 64))][-1]
        (1, 384, 2, 2)
    """

    def __init__(self, config: RepViTConfig) -> None:
        super().__init__()
        self.body = RepViTBody(config)
        self.channels = config.channels
        self.train()

    def forward(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H, W) at strides 4, 8, 16, 32."""
        maps: list[Tensor] = self.body(pixels_B3HW)
        return maps

    def train(self, mode: bool = True) -> RepViT:
        """Set the mode of all modules except batch normalization, whose statistics stay fixed."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
