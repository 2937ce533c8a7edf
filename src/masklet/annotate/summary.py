"""What came of a run, in numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from masklet.annotate.annotation_records import ImageAnnotation

__all__ = ["Failure", "Summary", "SummaryBuilder"]

MAX_LISTED_FAILURES = 10


@dataclass(frozen=True)
class Failure:
    """An image or video that could not be annotated, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """Everything that is in the output folder, also from earlier runs into it; `print` it.

    `images` were annotated (frames of videos among them), `empty` of them hold no object, `earlier` images and videos
    had been done by a run before; `seconds` is the time of this run.

    Example:
        >>> summary = auto_annotate("photos", det_model="everything")
        >>> summary.objects, summary.by_class
        (412, {'object': 412})
    """

    out: Path
    images: int
    empty: int
    objects: int
    by_class: Mapping[str, int]
    splits: Mapping[str, int]
    """Images by train and val; empty where nothing was split."""
    failures: tuple[Failure, ...]
    without_mask: int
    """Detections for which no mask was found, so that no label could be written."""
    losses: Mapping[str, Sequence[str]]
    """By format: what it could not hold, in sentences."""
    done_before: int
    seconds: float
    files: tuple[Path, ...]
    """What to open: folders of labels, data.yaml, the review sheet."""

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [f"{self.images} image(s), {self.objects} object(s), {self.empty} image(s) without any"]
        lines += [f"  {count:6d}  {name}" for name, count in self.by_class.items()]
        if self.splits:
            lines.append(", ".join(f"{count} for {part}" for part, count in self.splits.items()))
        if self.without_mask:
            lines.append(f"{self.without_mask} detection(s) without a mask, not labeled")
        lines += [f"{name}: {sentence}" for name, sentences in self.losses.items() for sentence in sentences]
        if self.failures:
            lines.append(f"{len(self.failures)} could not be read:")
            lines += [f"  {failure.reason}" for failure in self.failures[:MAX_LISTED_FAILURES]]
            lines += (
                [f"  and {len(self.failures) - MAX_LISTED_FAILURES} more"]
                if len(self.failures) > MAX_LISTED_FAILURES
                else []
            )
        done_before = f", {self.done_before} done before" if self.done_before else ""
        lines.append(f"{self.seconds:.1f} s{done_before}")
        return "\n".join([*lines, *(f"-> {path}" for path in self.files)])

    def to_json(self) -> str:
        """All of it as JSON text."""
        doc = asdict(self)
        doc["out"], doc["files"] = str(self.out), [str(path) for path in self.files]
        return json.dumps(doc, indent=2, ensure_ascii=False) + "\n"


class SummaryBuilder:
    """Counts over records, which are not kept.

    Example:
        >>> tally = Tally()
        >>> tally.add(record)
        >>> tally.images
        1
    """

    def __init__(self) -> None:
        self.images = self.empty = self.objects = self.without_mask = 0
        self.class_counts: Counter[int] = Counter()
        self.splits: Counter[str] = Counter()
        self.failures: list[Failure] = []

    def add(self, record: ImageAnnotation) -> None:
        """Count one image."""
        if record.failure:
            self.failures.append(Failure(record.path, record.failure))
            return
        labeled = [one for one in record.objects if one.area]
        self.images += 1
        self.empty += not labeled
        self.objects += len(labeled)
        self.without_mask += len(record.objects) - len(labeled)
        self.class_counts.update(one.class_id for one in labeled)
        if record.split:
            self.splits[record.split] += 1

    def by_class(self, names: Mapping[int, str]) -> dict[str, int]:
        """Objects by the name of their class, the most frequent first."""
        return {names.get(number, str(number)): count for number, count in self.class_counts.most_common()}
