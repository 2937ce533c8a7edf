"""What a model is and under which terms."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ModelInfo"]


@dataclass(frozen=True)
class ModelInfo:
    """What a model is and under which terms; `print(model.info())` shows it."""

    name: str
    path: str
    parameters: int
    image_size: int
    """Side of the square that frames of videos are brought to."""
    still_image_size: int
    """The same of images that stand alone."""
    megabytes: float
    """Of the file."""
    license_code: str
    license_weights: str
    device: str
    precision: str
    supports_video: bool = True

    def __str__(self) -> str:
        frames = f", frames of {self.image_size} x {self.image_size}" if self.supports_video else ", no videos"
        return (
            f"{self.name}: {self.parameters / 1e6:.1f} M parameters, {self.megabytes:.1f} MB, "
            f"images of {self.still_image_size} x {self.still_image_size}{frames}, "
            f"{self.precision} on {self.device}\n"
            f"file: {self.path}\n"
            f"license: code {self.license_code}, weights {self.license_weights}"
        )
