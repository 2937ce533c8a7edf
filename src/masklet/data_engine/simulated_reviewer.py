"""A person that knows the truth: verifies masks that are right, corrects others by clicks, deletes what is no object.

For experiments with `run_loop` on videos whose true masks are known, such as those of `masklet synth`. Each decision
costs a click: to verify, to delete, and each one that corrects a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.data_engine.loop_state import QueueEntry
from masklet.evaluate.prompts_from_masks import Click, clicks_prompt, next_correction_click
from masklet.masks.ops import iou
from masklet.projects import Project

if TYPE_CHECKING:
    from masklet.sam import SAM

__all__ = ["SimulatedReviewer"]

SAME_OBJECT_IOU = 0.3
"""An object whose mask overlaps no true one by this much is deleted."""
GOOD_IOU = 0.9
MAX_CLICKS = 6


@dataclass
class SimulatedReviewer:
    """Reviews the entries of a queue; `truth` has the masks (T, N, H, W) of each video by its name in the project."""

    model: SAM
    """Answers the clicks, as the app does."""
    truth: Mapping[str, npt.NDArray[np.bool_]]
    clicks: int = 0
    """Spent until now."""

    def review(self, project: Project, queue: Sequence[QueueEntry]) -> None:
        """Look at the entries of a queue one after another."""
        for entry in queue:
            if any(one.id == entry.object_id for one in project.objects()):
                self._review_mask(project, entry)

    def _review_mask(self, project: Project, entry: QueueEntry) -> None:
        stored = project.mask(entry.object_id, entry.frame)
        true_NHW = self.truth[entry.source][entry.frame]
        shown = np.zeros(true_NHW.shape[1:], bool) if stored is None or stored.rle is None else stored.mask
        number = self._true_object(project, entry)
        self.clicks += 1
        if number is None:
            project.delete_object(entry.object_id, author="simulated")
            return
        true = true_NHW[number]
        if iou(shown, true) < GOOD_IOU:
            self._correct(project, entry, shown, true)
        project.verify(entry.object_id, entry.frame, author="simulated")

    def _true_object(self, project: Project, entry: QueueEntry) -> int | None:
        """Return which true object the object of an entry is: the one it overlaps most over the frames it has."""
        overlaps = np.zeros(self.truth[entry.source].shape[1])
        count = 0
        for one in project.masks(next(s for s in project.sources if s.name == entry.source)):
            if one.object_id == entry.object_id and one.rle is not None and one.state == "visible":
                mask = one.mask
                overlaps += [iou(mask, true) for true in self.truth[entry.source][one.frame]]
                count += 1
        best = int(overlaps.argmax())
        return best if count and overlaps[best] / count >= SAME_OBJECT_IOU else None

    def _correct(
        self, project: Project, entry: QueueEntry, shown: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]
    ) -> None:
        """Click until the mask is good, else draw it."""
        if not true.any():
            project.set_mask(entry.object_id, entry.frame, true, state="occluded", author="simulated")
            return
        source = next(one for one in project.sources if one.name == entry.source)
        with project.open_source(source) as video:
            rgb = video[entry.frame].rgb
        self.model.predictor.set_image(rgb)
        clicks: list[Click] = []
        mask = np.zeros_like(true)
        while len(clicks) < MAX_CLICKS and iou(mask, true) < GOOD_IOU:
            click = next_correction_click(mask, true, clicks)
            if click is None:
                break
            clicks.append(click)
            mask = self.model.predictor.predict_prompts([clicks_prompt(clicks)], multimask_output=False).masks[0, 0]
        self.clicks += len(clicks)
        final = mask if iou(mask, true) >= GOOD_IOU else true
        project.set_mask(entry.object_id, entry.frame, final, author="simulated")
