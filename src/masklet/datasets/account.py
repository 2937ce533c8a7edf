"""The account of a dataset: what the source holds, by class, against what came through.

The source is counted where a reader lists its objects, before any is decoded, and compared with the records that it
read (`LazyMasks.num_records`): one that is in no list is of the class "(not listed)". What came through is counted
where it arrives. No number is computed from the others, so that a difference shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from masklet.datasets.dataset import DataIssue, Dataset, LazyMasks, ObjectAttributes

__all__ = ["DEFAULT_CLASS_NAME", "UNLISTED_CLASS_NAME", "ObjectAccount", "object_class_name"]

DEFAULT_CLASS_NAME = "object"
"""The class of objects without one."""
UNLISTED_CLASS_NAME = "(not listed)"
"""The class of records of the source that a reader neither lists nor leaves out by a rule: nothing else is known."""
MAX_CLASSES_LISTED = 20


def object_class_name(names: Mapping[int, str], attributes: ObjectAttributes) -> str:
    """Return the class name of an object; `names` are those of the dataset.

    A class that has no name there is called by its label, or else by its number.

    Example:
        >>> object_class_name({18: "dog"}, ObjectAttributes(class_id=18))
        'dog'
    """
    if attributes.class_id is not None and attributes.class_id in names:
        return names[attributes.class_id]
    if attributes.label is not None:
        return attributes.label
    return DEFAULT_CLASS_NAME if attributes.class_id is None else str(attributes.class_id)


@dataclass
class ObjectAccount:
    """Numbers of objects by class name: in the source, written (or read), left out by rule, and broken.

    Example:
        >>> account = ObjectAccount(source=Counter(cat=3), written=Counter(cat=2))
        >>> account.is_balanced, account.lost
        (False, Counter({'cat': 1}))
    """

    source: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    """By the rule that left them out, such as "iscrowd"."""
    broken: Counter[str] = field(default_factory=Counter)

    @classmethod
    def for_masks(cls, masks: Mapping[int, Any], names: Mapping[int, str]) -> ObjectAccount:
        """Count what a reader lists of one image, and what it leaves out; nothing is decoded."""
        account = cls()
        attributes = masks.attributes if isinstance(masks, LazyMasks) else {}
        for object_id in masks:
            account.source[object_class_name(names, attributes.get(object_id, ObjectAttributes()))] += 1
        for item in masks.left_out if isinstance(masks, LazyMasks) else ():
            name = object_class_name(names, item.attributes)
            account.source[name] += 1
            account.left_out.setdefault(item.rule, Counter())[name] += 1
        if isinstance(masks, LazyMasks) and masks.num_records is not None:
            num_unlisted = masks.num_records - masks.num_merged - len(masks) - len(masks.left_out)
            # where more is listed than there are records, that is an error of the reader too
            account.source += Counter({UNLISTED_CLASS_NAME: abs(num_unlisted)})
        return account

    @classmethod
    def for_dataset(cls, data: Dataset) -> ObjectAccount:
        """Count what the issues of opening a dataset cost, and the objects of images that are no samples."""
        account = cls()
        for issue in data.issues:
            account.merge(cls.for_issue(issue))
        for rule, counts in (data.count_elsewhere() if data.count_elsewhere else {}).items():
            account.merge(cls(source=Counter(counts), left_out={rule: Counter(counts)}))
        return account

    @classmethod
    def for_issue(cls, issue: DataIssue) -> ObjectAccount:
        """Count the objects that an issue costs."""
        return cls(source=Counter(issue.objects), broken=Counter(issue.objects))

    @classmethod
    def for_unread_sample(cls, sample: object, names: Mapping[int, str]) -> ObjectAccount:
        """Count the objects of an image that cannot be used, all of them as broken.

        Labels are listed without their image where the format allows it; otherwise the account is empty.
        """
        account = cls()
        list_masks = getattr(sample, "masks", None)
        if list_masks is not None and hasattr(sample, "image_path"):
            try:
                account = cls.for_masks(list_masks(getattr(sample, "declared_size", None) or (1, 1)), names)
            except Exception:  # the labels are what is broken: nobody knows their number
                return cls()
        left_out = sum(account.left_out.values(), Counter())
        account.broken = account.source - left_out
        return account

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ObjectAccount:
        """Build the account of a document of `to_json`."""
        left_out = {rule: Counter(counts) for rule, counts in content.get("left_out", {}).items()}
        return cls(
            Counter(content.get("source", {})),
            Counter(content.get("written", {})),
            left_out,
            Counter(content.get("broken", {})),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the account as a JSON document, without what is empty."""
        content = {
            "source": dict(self.source),
            "written": dict(self.written),
            "left_out": {rule: dict(counts) for rule, counts in self.left_out.items()},
            "broken": dict(self.broken),
        }
        return {key: counts for key, counts in content.items() if counts}

    def merge(self, other: ObjectAccount) -> None:
        """Add the numbers of another account."""
        self.source.update(other.source)
        self.written.update(other.written)
        self.broken.update(other.broken)
        for rule, counts in other.left_out.items():
            self.left_out.setdefault(rule, Counter()).update(counts)

    @property
    def is_balanced(self) -> bool:
        """Whether everything in the source came through, by class."""
        return all(self.source[name] == self.written[name] for name in {*self.source, *self.written})

    @property
    def lost(self) -> Counter[str]:
        """What neither came through, nor was left out by a rule, nor is broken: the target cannot store it."""
        lost = Counter(self.source)
        for counts in (self.written, self.broken, *self.left_out.values()):
            lost.subtract(counts)
        return Counter({name: count for name, count in lost.items() if count})

    def summary_line(self) -> str:
        """Describe in one line what did not come through; empty if nothing is missing.

        Example:
            >>> ObjectAccount(Counter(cat=3), Counter(cat=2), {"iscrowd": Counter(cat=1)}).summary_line()
            '2 of 3 objects came through; left out: 1 (iscrowd)'
        """
        if self.is_balanced:
            return ""
        parts = []
        if self.left_out:
            rules = (f"{sum(counts.values())} ({rule})" for rule, counts in sorted(self.left_out.items()))
            parts.append("left out: " + ", ".join(rules))
        if self.broken:
            parts.append(f"broken: {sum(self.broken.values())}")
        if self.lost:
            parts.append(f"lost: {sum(self.lost.values())}")
        came = f"{sum(self.written.values())} of {sum(self.source.values())} objects came through"
        return "; ".join([came, *parts])

    def table_lines(self, written: str = "written") -> list[str]:
        """Return the account of the classes where something differs as lines of a table; empty if nothing does.

        `written` is the title of the column of what came through. The columns of a kind that nothing has are missing.

        Example:
            >>> account = ObjectAccount(Counter(cat=3, dog=1), Counter(cat=2, dog=1), broken=Counter(cat=1))
            >>> print("\\n".join(account.table_lines()))
            class  source  written  broken
            cat         3        2       1
        """
        names = sorted(name for name in {*self.source, *self.written} if self.source[name] != self.written[name])
        if not names:
            return []
        columns = {"source": self.source, written: self.written}
        columns |= {f"left out ({rule})": counts for rule, counts in sorted(self.left_out.items())}
        columns |= {"broken": self.broken} if self.broken else {}
        columns |= {"lost": self.lost} if self.lost else {}
        shown = names[:MAX_CLASSES_LISTED]
        width = max(len("class"), *map(len, shown))
        lines = ["  ".join(["class".ljust(width), *columns])]
        for name in shown:
            numbers = [str(counts[name]).rjust(len(title)) for title, counts in columns.items()]
            lines.append("  ".join([name.ljust(width), *numbers]))
        if len(names) > len(shown):
            lines.append(f"... and {len(names) - len(shown)} more classes")
        return lines
