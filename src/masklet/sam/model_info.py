"""`ModelInfo`: size, file and licenses of a model."""

from __future__ import annotations

from dataclasses import dataclass

from masklet.image import ImagePredictor
from masklet.load_model import LoadedModel
from masklet.models.sam2 import SAM2
from masklet.models.types import input_size_by_area

__all__ = ["ModelInfo"]


@dataclass(frozen=True)
class ModelInfo:
    """Name, size, file and licenses of a model; `print(model.info())` shows them."""

    name: str
    path: str
    parameters: int
    image_size: int
    """Side of the square that frames of videos are resized to, unless they keep their shape."""
    still_image_size: int
    """The same for single images."""
    megabytes: float
    """Size of the file."""
    license_code: str
    license_weights: str
    device: str
    precision: str
    supports_video: bool = True
    video_pixels: int | None = None
    """Frames of videos keep their shape at about this many pixels; None: they are resized to a square."""
    variant: str | None = None
    """Which variant of EfficientTAM it is, and how that is known; None for networks without variants."""

    @classmethod
    def from_loaded(cls, loaded: LoadedModel, predictor: ImagePredictor) -> ModelInfo:
        """Describe a loaded model that runs in `predictor`."""
        return cls(
            name=loaded.name,
            path=str(loaded.path),
            parameters=loaded.parameters,
            image_size=loaded.network.image_size,
            still_image_size=loaded.network.still_image_size,
            megabytes=loaded.path.stat().st_size / 1e6,
            license_code=loaded.card.license_code if loaded.card else "unknown",
            license_weights=loaded.card.license_weights if loaded.card else "unknown",
            device=str(predictor.device),
            precision=predictor.precision,
            supports_video=loaded.network.supports_video,
            video_pixels=loaded.network.video_pixels if isinstance(loaded.network, SAM2) else None,
            variant=loaded.variant,
        )

    def __str__(self) -> str:
        frames = f", frames of {self.image_size} x {self.image_size}" if self.supports_video else ", no videos"
        if self.video_pixels is not None and self.supports_video:
            height, width = input_size_by_area((9, 16), self.video_pixels)
            frames = f", frames of {width} x {height} (16:9)"
        variant = f"variant: {self.variant}\n" if self.variant else ""
        return (
            f"{self.name}: {self.parameters / 1e6:.1f} M parameters, {self.megabytes:.1f} MB, "
            f"images of {self.still_image_size} x {self.still_image_size}{frames}, "
            f"{self.precision} on {self.device}\n"
            f"{variant}file: {self.path}\n"
            f"license: code {self.license_code}, weights {self.license_weights}"
        )
