"""Prompts: points, boxes and masks in original-image pixels, validated when they are created.

    ObjectPrompt  everything that prompts one object: points, a box, a mask
    Points        clicks on (label 1) and off (label 0) an object
    Box           the corners of a box around it
    MaskPrompt    a rough mask of it

`parse_prompts` reads lists, arrays and tensors in the usual nestings; a malformed prompt is answered with the spelling
that was probably intended. x runs right, y down; pixel (row, column) covers [column, column + 1) x [row, row + 1).
"""

from __future__ import annotations

from masklet.prompts.parsing import parse_object_prompt, parse_prompts
from masklet.prompts.prompt_types import (
    Box,
    BoxesLike,
    LabelsLike,
    MaskPrompt,
    MasksLike,
    ObjectPrompt,
    Points,
    PointsLike,
)

__all__ = [
    "Box",
    "BoxesLike",
    "LabelsLike",
    "MaskPrompt",
    "MasksLike",
    "ObjectPrompt",
    "Points",
    "PointsLike",
    "parse_object_prompt",
    "parse_prompts",
]
