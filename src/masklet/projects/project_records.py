"""The records of a project: sources, classes, objects, prompts, masks, actions and changes.

They are frozen copies of what the project holds at the moment of the call; the project changes, they do not.
Coordinates are pixels of the upright image, x right and y down; frames count from 0; sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from masklet.datasets.account import ObjectAccount
from masklet.datasets.dataset import DataIssue
from masklet.datasets.labeled_image import ConversionLoss
from masklet.errors import StateError
from masklet.masks import rle
from masklet.masks.rle import Rle

__all__ = [
    "ORIGINS",
    "PERSON_ORIGINS",
    "STATES",
    "ExportResult",
    "ImportResult",
    "ProjectAction",
    "ProjectChange",
    "ProjectClass",
    "ProjectMask",
    "ProjectObject",
    "ProjectPrompt",
    "ProjectSource",
]

ORIGINS = ("click", "track", "edit", "import")
"""What set a mask: a model that answered prompts, a model that tracked, a person, a dataset."""
PERSON_ORIGINS = frozenset(("edit", "import"))
"""Origins of masks that no model makes again: they are never dropped, and tracking does not replace them."""
STATES = ("visible", "occluded", "lost")
"""What an object is on a frame."""


@dataclass(frozen=True)
class ProjectSource:
    """An image or a video of a project.

    `name` is unique in the project. `num_frames` and `fps` are None where they are unknown. `files` are the names of
    the images of a video that is a folder. `split` and `video` come from a dataset: the split, and the video that an
    image is a frame of.
    """

    id: int
    name: str
    kind: Literal["image", "video"]
    size: tuple[int, int]
    num_frames: int | None
    fps: float | None
    sha256: str
    num_bytes: int
    files: tuple[str, ...] | None
    split: str | None
    video: str | None


@dataclass(frozen=True)
class ProjectClass:
    """A class of objects; `color` is "#rrggbb"."""

    id: int
    name: str
    color: str


@dataclass(frozen=True)
class ProjectObject:
    """An object of one source; `number` counts in the source from 1, `track_id` is that of an imported image.

    A locked object takes no prompts and no masks, and is not tracked; a hidden one is not drawn.
    """

    id: int
    source_id: int
    class_id: int | None
    number: int
    name: str
    hidden: bool
    locked: bool
    track_id: int | None


@dataclass(frozen=True)
class ProjectPrompt:
    """The prompts of an object on a frame, and who set them when (seconds since 1970, UTC)."""

    object_id: int
    frame: int
    points: tuple[tuple[float, float], ...] | None
    labels: tuple[int, ...] | None
    box: tuple[float, float, float, float] | None
    mask: Rle | None
    author: str
    at: float


@dataclass(frozen=True)
class ProjectMask:
    """The mask of an object on a frame, and who or what set it when (seconds since 1970, UTC).

    `rle` is None if it was left out of the query, or if `is_dropped`: the content of a mask that a model can make
    again was dropped to save space.
    """

    object_id: int
    frame: int
    state: str
    score: float | None
    origin: str
    author: str
    at: float
    is_verified: bool
    is_dropped: bool
    rle: Rle | None

    @property
    def is_of_person(self) -> bool:
        """Whether a person drew, imported or verified it, so that no model replaces it."""
        return self.is_verified or self.origin in PERSON_ORIGINS

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool, decoded at each access.

        Raises:
            StateError: if the content was dropped or left out.
        """
        if self.rle is None:
            raise StateError(
                f"the mask of object {self.object_id} on frame {self.frame} has no content here: track the object "
                "again if the mask was dropped, or read it with_rle=True"
            )
        return rle.decode({**self.rle})


@dataclass(frozen=True)
class ProjectAction:
    """An entry of the history.

    `id` is the revision of the project after it. `state` is "done"; "undone"; "dropped" (undone, and a later action of
    the same author took the place of redoing it); or "undo" and "redo" of actions that revert or repeat others.
    """

    id: int
    kind: str
    summary: str
    author: str
    at: float
    state: str


@dataclass(frozen=True)
class ProjectChange:
    """One row that an action changed, as it was before and is after (None: no row); `table` is one of the database."""

    revision: int
    author: str
    table: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True)
class ExportResult:
    """What was written of a project: images, objects, the loss of the format, and what is broken or missing."""

    folder: str
    num_images: int
    num_objects: int
    loss: ConversionLoss
    issues: tuple[DataIssue, ...]


@dataclass(frozen=True)
class ImportResult:
    """What came into a project; `num_skipped` counts the images and videos whose objects were in it already.

    `account` compares, by class, the masks that the files hold with those that came in.
    """

    num_sources: int
    num_objects: int
    num_masks: int
    num_skipped: int
    account: ObjectAccount
    issues: tuple[DataIssue, ...]
