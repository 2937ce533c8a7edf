"""Helpers of the evaluators that track objects: the models they take, and how they read a session's results.

Shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.image import ImagePredictor
from masklet.media import VideoSource
from masklet.media.image import format_size
from masklet.results import Results
from masklet.video import Session, TrackOptions
from masklet.writers.mask_images import label_map

__all__ = [
    "ModelWithOptions",
    "ScribbleModel",
    "ValidationModel",
    "VideoModel",
    "id_label_map",
    "masks_by_id",
    "require_frames",
    "validate_mask_size",
]

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]


class VideoModel(Protocol):
    """A model that tracks objects: `SAM`, or anything that opens a session on a video."""

    def session(self, source: VideoSource, *, options: TrackOptions | None = None) -> Session:
        """Open a video."""


class ValidationModel(VideoModel, Protocol):
    """A model that segments images and tracks objects: `SAM`, for one."""

    @property
    def predictor(self) -> ImagePredictor:
        """The predictor of images."""


@dataclass(frozen=True)
class ModelWithOptions:
    """A model that tracks with certain options wherever an evaluator opens a video."""

    model: ValidationModel
    options: TrackOptions

    @property
    def predictor(self) -> ImagePredictor:
        """The predictor of images."""
        return self.model.predictor

    def session(self, source: VideoSource, *, options: TrackOptions | None = None) -> Session:
        """Open a video; of the evaluator's options, `retain` counts."""
        retain = self.options.retain if options is None else options.retain
        return self.model.session(source, options=replace(self.options, retain=retain))


class ScribbleModel(VideoModel, Protocol):
    """A model that segments videos from scribbles, which reach it as points."""


def require_frames(
    frame_results: Iterable[Results], frames: Collection[int], describe: Callable[[int], object]
) -> Iterator[Results]:
    """Yield the results of a pass and check that it reached all of `frames`.

    A reader skips a damaged image and continues; figures without it would be those of another video.

    Args:
        describe: the name of a frame in the error.

    Raises:
        SourceError: if a frame is missing at the end of the pass.
    """
    missing = set(frames)
    for results in frame_results:
        assert results.frame_idx is not None
        missing.discard(results.frame_idx)
        yield results
    if missing:
        raise SourceError(
            f"{describe(min(missing))} is damaged or was not reached; all of these frames count: repair it, or "
            "exclude the video"
        )


def masks_by_id(results: Results) -> dict[int, Mask]:
    """Return the masks (H, W) of a frame by object id."""
    return {} if results.masks is None else dict(zip(results.ids.tolist(), results.masks.data, strict=True))


def id_label_map(results: Results) -> Labels:
    """Return a map (H, W) of object ids, 0 for background; where masks overlap, the smaller object is on top."""
    return np.asarray(np.concatenate([[0], results.ids]).astype(np.uint8)[label_map(results)])


def validate_mask_size(mask: Mask, size: tuple[int, ...], where: str) -> None:
    """Check that a mask has the size (H, W) of its image.

    Raises:
        SourceError: if it does not.
    """
    if mask.shape != size:
        raise SourceError(
            f"{where}: the mask is {format_size(mask.shape)} and the image is {format_size(size)}; they must have the "
            "same size: repair the mask, or exclude the video"
        )
