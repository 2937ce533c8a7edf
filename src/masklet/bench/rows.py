"""Rows of the table of the family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["EverythingSpeed", "FamilyRow", "PromptedSpeed", "row_of"]


@dataclass(frozen=True)
class PromptedSpeed:
    """Milliseconds of one prompted answer."""

    encode_ms: float
    click_ms: float


@dataclass(frozen=True)
class EverythingSpeed:
    """Seconds of segmenting everything."""

    seconds: float
    points: int
    estimated: bool


@dataclass(frozen=True)
class FamilyRow:
    """One model. Speeds that it does not have are None: a detector answers no prompts, a segmenter makes no pass."""

    name: str
    title: str
    parameters: int
    published_millions: float | None
    file_megabytes: float
    """As published, else of the file that its tensors would make in fp32."""
    trained: bool
    """Whether it was timed with its own weights, not random ones."""
    side: int
    """Of what the network sees, in pixels."""
    prompted: PromptedSpeed | None = None
    everything: EverythingSpeed | None = None
    pass_ms: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the parameters are those that were published, to the digit that was."""
        return self.published_millions is None or abs(self.parameters / 1e6 - self.published_millions) < 0.1


def row_of(told: Mapping[str, Any]) -> FamilyRow:
    """A row as `asdict` tells it.

    Example:
        >>> row_of(asdict(row)) == row
        True
    """
    asked, everything = told["prompted"], told["everything"]
    speeds = {
        "prompted": None if asked is None else PromptedSpeed(**asked),
        "everything": None if everything is None else EverythingSpeed(**everything),
    }
    return FamilyRow(**{**told, **speeds})
