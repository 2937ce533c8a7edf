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
    """Side of the square that frames of films are brought to."""
    picture_size: int
    """The same of pictures that stand alone."""
    megabytes: float
    """Of the file."""
    licence_code: str
    licence_weights: str
    device: str
    precision: str
    follows_films: bool = True

    def __str__(self) -> str:
        frames = f", frames of {self.image_size} x {self.image_size}" if self.follows_films else ", no films"
        return (
            f"{self.name}: {self.parameters / 1e6:.1f} M parameters, {self.megabytes:.1f} MB, "
            f"pictures of {self.picture_size} x {self.picture_size}{frames}, "
            f"{self.precision} on {self.device}\n"
            f"file: {self.path}\n"
            f"licence: code {self.licence_code}, weights {self.licence_weights}"
        )
