"""Track objects through videos: the network, sessions, and the detector of tracking without prompts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.errors import ModelError, PromptError
from masklet.exported import ExportedModel, ExportedNetwork
from masklet.image import ImagePredictor
from masklet.image.amg_grid import point_grid
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks, preset
from masklet.image.predictor import PRECISIONS
from masklet.load_model import LoadedModel
from masklet.media import Video
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.runtime import standard_torch
from masklet.video import Detection, SavedSession, Session, TrackOptions
from masklet.video.association import RgbArray

if TYPE_CHECKING:
    from masklet.models.fast_cpu.sam2 import FastSAM2

__all__ = ["MaskGeneratorDetector", "make_video_network", "open_session", "track_prompts"]


class MaskGeneratorDetector:
    """Detect objects by automatic mask generation; `everything` is a preset or options.

    Example:
        >>> detector = MaskGeneratorDetector(model.predictor, "fast")  # doctest: +SKIP
        >>> [detection.score for detection in detector(rgb)]  # doctest: +SKIP

    Raises:
        InputError: if the preset is unknown.
    """

    def __init__(self, predictor: ImagePredictor, everything: MaskGeneratorOptions | str) -> None:
        self.predictor = copy.copy(predictor)  # several videos may be tracked at once
        self.options = preset(predictor.model, everything) if isinstance(everything, str) else everything

    def __call__(self, rgb: RgbArray) -> list[Detection]:
        """Detect the objects of a frame."""
        return self._detect(rgb, self.options)

    def detect_outside(self, rgb: RgbArray, covered: npt.NDArray[np.bool_]) -> list[Detection]:
        """Detect with the grid points outside `covered` alone; with crops or custom points, with all of them."""
        side = self.options.points_per_side
        if side is None or self.options.crop_n_layers:
            return self(rgb)
        points = point_grid(side)
        height, width = covered.shape
        x, y = (points * [width, height]).astype(int).T
        uncovered = points[~covered[y, x]]
        if not len(uncovered):
            return []
        options = replace(self.options, points_per_side=None, point_grids=[uncovered], adaptive=False)
        return self._detect(rgb, options)

    def _detect(self, rgb: RgbArray, options: MaskGeneratorOptions) -> list[Detection]:
        masks = generate_masks(self.predictor, rgb, options)
        return [Detection(float(score), mask=rle) for score, rle in zip(masks.predicted_ious, masks.rles, strict=True)]


@standard_torch()
def make_video_network(
    loaded: LoadedModel | ExportedModel, predictor: ImagePredictor, precision: str
) -> FastSAM2 | ExportedNetwork:
    """Return the network in the form that tracks, with memory attention in `precision`.

    The encoder is that of `predictor`; the built-in model has another one where the precision is another.

    Raises:
        ModelError: if the model is for images only.
    """
    if isinstance(loaded, ExportedModel):
        return loaded.require_video().in_precision(precision)
    network = loaded.require_sam2("follow objects through videos")
    if network.config.memory is None:
        raise ModelError(
            f"{loaded.name} ({loaded.path}) is for images only: its file has no memory; "
            "choose another model, such as sam2.1_t.pt, to follow objects through videos"
        )
    from masklet.models.fast_cpu.sam2 import FastSAM2

    has_own = network.config.matching is not None and precision != predictor.precision
    shared = None if has_own else predictor.encode
    return FastSAM2(network, PRECISIONS[precision], shared)


def open_session(
    network: FastSAM2 | ExportedNetwork, video: Video, options: TrackOptions, saved: SavedSession | None
) -> Session:
    """Open a session on a video, in the state of a saved one if there is one.

    Raises:
        CheckpointError, InputError: if `saved` is damaged, or of another model or source.
    """
    session = Session(network, video, options)
    try:
        if saved is not None:
            session.restore_saved(saved)
    except BaseException:
        session.close()
        raise
    return session


def track_prompts(
    session: Session,
    parse: Callable[[tuple[int, int]], tuple[ObjectPrompt, ...]],
    frame_idx: int,
    object_ids: Sequence[int] | None,
    bidirectional: bool,
) -> Iterator[Results]:
    """Track prompted objects through the session's video, which is closed at the end.

    `parse` reads the prompts for a frame of (height, width); ids are `object_ids`, else 1, 2, ...

    Raises:
        PromptError, SourceError: if the prompts, their ids or the frame are invalid, before the first result.
    """
    try:
        prompts = parse(session.frame(frame_idx).size)
        ids, count = object_ids, len(prompts)
        if ids is None:
            ids = range(1, count + 1)
        elif len(set(ids)) != count or len(ids) != count:
            raise PromptError(f"object_ids {list(ids)!r} must be {count} different number(s), one for each object")
        for object_id, prompt in zip(ids, prompts, strict=True):
            session.add_object_prompt(object_id, frame_idx, prompt)
    except BaseException:
        session.close()
        raise

    def results() -> Iterator[Results]:
        with session:
            yield from session.propagate(bidirectional=bidirectional)

    return results()
