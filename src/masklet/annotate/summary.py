"""The summary of a run: counts by class, failures, files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from masklet.annotate.annotation_records import UNEXPECTED, ImageAnnotation
from masklet.atomic_files import current_keys

__all__ = ["Failure", "Summary", "SummaryBuilder"]

MAX_LISTED_FAILURES = 10


@dataclass(frozen=True)
class Failure:
    """An image or video that could not be annotated, and why."""

    path: str
    reason: str

    @property
    def is_unexpected(self) -> bool:
        """Whether no list of errors knows the reason: a fault of masklet or of a library."""
        return f": {UNEXPECTED} " in self.reason


@dataclass(frozen=True)
class Summary:
    """The contents of the output folder, including those of earlier runs; `print` it.

    Args:
        images: Number of annotated images and frames.
        empty: Images without an object.
        objects: Number of labeled objects.
        by_class: Number of objects by class name, the most frequent first.
        splits: Number of images in "train" and "val"; empty without a split.
        without_mask: Detections with an empty mask, which have no label.
        losses: Sentences per format about what it could not represent.
        done_before: Number of images and videos that an earlier run had annotated.
        seconds: Duration of this run.
        files: Files to open: folders of labels, data.yaml, the review page.
        written: Number of objects in the labels by format, counted where they were written.

    Example:
        >>> summary = auto_annotate("photos", det_model="everything")  # doctest: +SKIP
        >>> summary.objects, summary.by_class  # doctest: +SKIP
        (412, {'object': 412})
    """

    out: Path
    images: int
    empty: int
    objects: int
    by_class: Mapping[str, int]
    splits: Mapping[str, int]
    failures: tuple[Failure, ...]
    without_mask: int
    losses: Mapping[str, Sequence[str]]
    done_before: int
    seconds: float
    files: tuple[Path, ...]
    written: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """A few lines to print."""
        lines = [f"{self.images} image(s), {self.objects} object(s), {self.empty} image(s) without any"]
        lines += [f"  {count:6d}  {name}" for name, count in self.by_class.items()]
        if self.splits:
            lines.append(", ".join(f"{count} for {split}" for split, count in self.splits.items()))
        if self.without_mask:
            lines.append(f"{self.without_mask} detection(s) without a mask, not labeled")
        lines += [f"{name}: {count} of {self.objects} object(s) written" for name, count in self.written.items()]
        lines += [f"{name}: {sentence}" for name, sentences in self.losses.items() for sentence in sentences]
        if self.failures:
            lines.append(f"{len(self.failures)} could not be read:")
            lines += [f"  {failure.reason}" for failure in self.failures[:MAX_LISTED_FAILURES]]
            if len(self.failures) > MAX_LISTED_FAILURES:
                lines.append(f"  and {len(self.failures) - MAX_LISTED_FAILURES} more")
        done_before = f", {self.done_before} done before" if self.done_before else ""
        lines.append(f"{self.seconds:.1f} s{done_before}")
        return "\n".join([*lines, *(f"-> {path}" for path in self.files)])

    def to_json(self) -> str:
        """Return the summary as JSON text, the content of summary.json."""
        doc = asdict(self)
        doc["out"], doc["files"] = str(self.out), [str(path) for path in self.files]
        return json.dumps(doc, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Read the content of a summary.json, of this or an earlier version."""
        doc: dict[str, Any] = json.loads(text)
        keyed_by_name = ("by_class", "losses", "written")  # their keys are names, not fields
        by_name = {key: doc.pop(key) for key in keyed_by_name if key in doc}
        doc = current_keys(doc, "annotation_summary") | by_name
        doc["failures"] = tuple(Failure(**failure) for failure in doc["failures"])
        doc["out"], doc["files"] = Path(doc["out"]), tuple(Path(path) for path in doc["files"])
        return cls(**doc)


class SummaryBuilder:
    """Count records one by one, without storing them.

    Example:
        >>> builder = SummaryBuilder()
        >>> builder.add(ImageAnnotation("cats/0001", "photos/cats/0001.jpg", (480, 640)))
        >>> builder.images, builder.empty
        (1, 1)
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
