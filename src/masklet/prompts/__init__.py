"""What the caller points at: points, boxes and masks, in original-image pixels, checked when they are made.

    Points        clicks on (label 1) and off (label 0) an object
    Box           the corners of a box around it
    MaskPrompt    a rough mask of it
    ObjectPrompt  everything said about one object

`parse_prompts` reads the spellings people use and answers what cannot be meant with the spelling that
probably was. x runs to the right, y down; pixel (row, column) covers [column, column + 1) x [row, row + 1).

cues      points, boxes, masks, and what is said of one object
parsing   the spellings that callers use
values    numbers out of lists, arrays and tensors, and how they are shown in messages
"""

from __future__ import annotations

from masklet.prompts.parsing import parse_prompts
from masklet.prompts.prompt_types import Box, MaskPrompt, ObjectPrompt, Points

__all__ = ["Box", "MaskPrompt", "ObjectPrompt", "Points", "parse_prompts"]
