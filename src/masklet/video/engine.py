"""Objects, their memories, and one frame at a time; `Session` and `Live` put verbs on it.

Shapes: a leading 1 is one object.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from masklet.errors import PromptError, StateError
from masklet.media import Frame
from masklet.models.base import ImageFeatures, ObjectMasks
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.video.features import FeatureCache, Frames
from masklet.video.objects import Kept, TrackedObject, checked_id, merged
from masklet.video.options import TrackOptions
from masklet.video.recall import Recall
from masklet.video.show import shown
from masklet.video.step import Stepper, exclusive

__all__ = ["Clock", "Engine", "Row"]

Row = tuple[TrackedObject, Kept]


class Engine:
    """What a session and a live view have in common."""

    def __init__(self, stepper: Stepper, frames: Frames, options: TrackOptions) -> None:
        self.stepper, self.frames, self.options = stepper, frames, options
        self.objects: dict[int, TrackedObject] = {}
        self.cache = FeatureCache()
        self.anchor = 0
        """Where the present pass began: a pass the other way may begin there too."""
        self.speed: dict[str, float] = {}

    def features(self, frame: Frame) -> ImageFeatures:
        """Of one frame, encoded once."""
        features = self.cache.get(frame.index)
        if features is None:
            features = self.stepper.features(frame)
            self.cache.put(frame.index, features)
        return features

    # prompts ---------------------------------------------------------------------------------------------------

    def prompt(self, one: TrackedObject, frame: Frame, new: ObjectPrompt) -> Kept:
        """Take in what was said about an object on a frame, and answer at once."""
        asked = merged(one.prompts.get(frame.index), new)
        before = one.bank.get(frame.index)
        features = self.features(frame)
        if asked.mask is not None and asked.points is None and asked.box is None:
            masks = self.stepper.adopt(features, asked)
        else:
            earlier = None if before is None or new.mask is not None else before.logits_11HW
            base = self._base(one, frame.index, before, features)
            masks = self.stepper.prompt(base, asked, frame.size, earlier)
        kept = Kept.of(masks)
        tracked = before is not None and before.reverse is not None
        if tracked and before is not None:
            kept = replace(kept, reverse=before.reverse)
            one.stale.add(frame.index)
        if tracked and self.options.corrections == "published" and frame.index in one.bank.tracked:
            one.bank.tracked[frame.index] = self._written(features, [(one, kept)])[0]
        else:
            one.bank.tracked.pop(frame.index, None)
            one.bank.prompted[frame.index] = kept
        one.prompts[frame.index] = asked
        one.hidden = 0
        return kept

    def _base(self, one: TrackedObject, index: int, before: Kept | None, features: ImageFeatures) -> ImageFeatures:
        """Features that a prompt is read on: with memory on a frame that was tracked, as it was then."""
        if before is None or before.reverse is None:
            return self.stepper.alone(features)
        self.write_prompted([one])
        recall = self._recall(one, index, before.reverse)
        if not recall.spatial:
            return self.stepper.alone(features)
        return self.stepper.condition(features, [(one.bank, recall)])

    def _recall(self, one: TrackedObject, index: int, reverse: bool) -> Recall:
        length = self.frames.length
        return self.options.recall.look(index, one.bank.history, reverse=reverse, length=length)

    def write_prompted(self, objects: Sequence[TrackedObject]) -> None:
        """Remember prompted frames whose prompts have been said since."""
        missing: dict[int, list[TrackedObject]] = {}
        for one in objects:
            for index, kept in one.bank.prompted.items():
                if kept.spatial_1MHW is None:
                    missing.setdefault(index, []).append(one)
        for index, some in missing.items():
            features = self.cache.get(index) or self.features(self.frames.frame(index))
            rows = [(one, one.bank.prompted[index]) for one in some]
            for one, kept in zip(some, self._written(features, rows), strict=True):
                one.bank.prompted[index] = kept

    def _written(self, features: ImageFeatures, rows: Sequence[Row]) -> list[Kept]:
        memories = self.stepper.remember(features, [kept.masks() for _, kept in rows], prompted=True)
        return [kept.with_memory(memory) for (_, kept), memory in zip(rows, memories, strict=True)]

    # frames ----------------------------------------------------------------------------------------------------

    def advance(self, frame: Frame, objects: Sequence[TrackedObject], reverse: bool) -> list[Row]:
        """Follow `objects` onto `frame`; those prompted there are taken as they were prompted."""
        clock = Clock()
        self.write_prompted(objects)
        features = self.features(frame)
        clock.tick("encode")
        fresh = [one for one in objects if frame.index not in one.bank.prompted]
        for one in objects:
            one.bank.tracked.pop(frame.index, None)
        looks = [(one.bank, self._recall(one, frame.index, reverse)) for one in fresh]
        found = dict(zip((one.id for one in fresh), self.stepper.track(features, looks), strict=True))
        clock.tick("track")
        if self.options.exclusive:
            found = self._apart(frame.index, objects, found)
        memories = self.stepper.remember(features, [found[one.id] for one in fresh], prompted=False)
        for one, memory in zip(fresh, memories, strict=True):
            kept = Kept.of(found[one.id]).with_memory(memory)
            one.bank.tracked[frame.index] = replace(kept, reverse=reverse)
        clock.tick("remember")
        self.speed = clock.speed
        return [(one, self._passed(one, frame.index, reverse)) for one in objects]

    def _apart(
        self, index: int, objects: Sequence[TrackedObject], found: dict[int, ObjectMasks]
    ) -> dict[int, ObjectMasks]:
        every = [found[one.id] if one.id in found else one.bank.prompted[index].masks() for one in objects]
        return {one.id: masks for one, masks in zip(objects, exclusive(every), strict=True) if one.id in found}

    def _passed(self, one: TrackedObject, index: int, reverse: bool) -> Kept:
        """What is known of an object on a frame, now that it was passed; old frames are let go of."""
        if index in one.bank.prompted:
            one.bank.prompted[index] = replace(one.bank.prompted[index], reverse=reverse)
        kept = one.bank[index]
        one.hidden = 0 if kept.score > 0 else one.hidden + 1
        if self.options.keep == "recent":
            one.bank.forget(self.options.recall, (index, self.anchor))
        return kept

    def show(self, frame: Frame, rows: Sequence[Row], speed: dict[str, float] | None = None) -> Results:
        """Rows as people see them."""
        clock = Clock()
        results = shown(
            frame, rows, clean=self.options.clean, lost_after=self.options.lost_after, speed=speed or dict(clock.speed)
        )
        results.speed["postprocess"] = clock.since()
        return results

    def known_at(self, frame: Frame) -> Results:
        """All that is known of a frame that was passed.

        Raises:
            StateError: nothing.
        """
        rows = [(one, kept) for one in self.objects.values() if (kept := one.bank.get(frame.index)) is not None]
        rows = [(one, kept) for one, kept in rows if kept.logits_11HW is not None]
        if not rows:
            raise StateError(f'nothing is known of frame {frame.index} (any more): propagate, or open with keep="all"')
        return self.show(frame, rows)

    def known(self, value: object) -> TrackedObject:
        """The object of an id.

        Raises:
            PromptError: there is none.
        """
        number = checked_id(value)
        if number not in self.objects:
            ids = ", ".join(map(str, self.objects)) or "none yet"
            raise PromptError(f"there is no object {number}; objects are {ids}: add it first with add({number}, ...)")
        return self.objects[number]


class Clock:
    """Milliseconds between ticks, by name."""

    def __init__(self) -> None:
        self.speed = {"encode": 0.0, "track": 0.0, "remember": 0.0, "postprocess": 0.0}
        self._last = time.perf_counter()

    def since(self) -> float:
        """Since the last tick."""
        return 1e3 * (time.perf_counter() - self._last)

    def tick(self, name: str) -> None:
        """The time since the last tick belongs to `name`."""
        self.speed[name] += self.since()
        self._last = time.perf_counter()
