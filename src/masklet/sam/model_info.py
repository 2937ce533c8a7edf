"""`ModelInfo`: size, file and licenses of a model."""

from __future__ import annotations

from dataclasses import dataclass

from masklet.exported import ExportedModel
from masklet.image import ImagePredictor
from masklet.load_model import LoadedModel
from masklet.models.types import input_size_by_area
from masklet.sam.choose_precision import PrecisionChoice

__all__ = ["ModelInfo"]


@dataclass(frozen=True)
class ModelInfo:
    """Name, size, file and licenses of a model; `print(model.info())` shows them."""

    name: str
    path: str
    parameters: int | None
    """Number of values in all tensors; None where an exported folder does not say it."""
    image_size: int
    """Side of the square that frames of videos are resized to, unless they keep their shape."""
    still_image_size: int
    """The same for single images."""
    megabytes: float
    """Size of the file, or of all graphs of an exported folder."""
    license_code: str
    license_weights: str
    device: str
    precision: str
    """Of images."""
    supports_video: bool = True
    video_pixels: int | None = None
    """Frames of videos keep their shape at about this many pixels; None: they are resized to a square."""
    variant: str | None = None
    """Which variant of EfficientTAM it is, and how that is known; None for networks without variants."""
    video_precision: str | None = None
    """None: as `precision`."""
    precision_reason: str | None = None
    """Why the precision "auto" became these; None: they were given."""

    @classmethod
    def from_loaded(
        cls, loaded: LoadedModel | ExportedModel, predictor: ImagePredictor, choice: PrecisionChoice
    ) -> ModelInfo:
        """Describe a loaded model that runs in `predictor`, in precisions that were chosen."""
        if isinstance(loaded, ExportedModel):
            manifest = loaded.network.manifest
            size, code, weights = manifest.bytes, manifest.license_code, manifest.license_weights
            device = loaded.network.engine.description
            precision = manifest.precision if predictor.precision == "fp32" else predictor.precision
        else:
            size, device, precision = loaded.path.stat().st_size, str(predictor.device), predictor.precision
            code, weights = "unknown", "unknown"
            if loaded.card is not None:
                code, weights = loaded.card.license_code, loaded.card.license_weights
        return cls(
            name=loaded.name,
            path=str(loaded.path),
            parameters=loaded.parameters,
            image_size=loaded.network.image_size,
            still_image_size=loaded.network.still_image_size,
            megabytes=size / 1e6,
            license_code=code,
            license_weights=weights,
            device=device,
            precision=precision,
            supports_video=loaded.network.supports_video,
            video_pixels=getattr(loaded.network, "video_pixels", None),
            variant=None if isinstance(loaded, ExportedModel) else loaded.variant,
            video_precision=None if choice.video == choice.image else choice.video,
            precision_reason=choice.reason,
        )

    def __str__(self) -> str:
        frames = f", frames of {self.image_size} x {self.image_size}" if self.supports_video else ", no videos"
        if self.video_pixels is not None and self.supports_video:
            height, width = input_size_by_area((9, 16), self.video_pixels)
            frames = f", frames of {width} x {height} (16:9)"
        parameters = "" if self.parameters is None else f"{self.parameters / 1e6:.1f} M parameters, "
        variant = f"variant: {self.variant}\n" if self.variant else ""
        part = "videos" if self.video_pixels else "memory attention"  # the encoder of videos is that of images
        videos = f", {part} in {self.video_precision}" if self.video_precision and self.supports_video else ""
        reason = f"precision auto: {self.precision_reason}\n" if self.precision_reason else ""
        return (
            f"{self.name}: {parameters}{self.megabytes:.1f} MB, "
            f"images of {self.still_image_size} x {self.still_image_size}{frames}, "
            f"{self.precision} on {self.device}{videos}\n"
            f"{reason}{variant}file: {self.path}\n"
            f"license: code {self.license_code}, weights {self.license_weights}"
        )
