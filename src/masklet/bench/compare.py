"""Two runs of `masklet bench` side by side: before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from masklet.bench.record import Case, Record
from masklet.errors import InputError

__all__ = ["Comparison", "compare", "differences"]


@dataclass(frozen=True)
class Comparison:
    """One case that both runs have."""

    before: Case
    after: Case

    @property
    def ratio(self) -> float:
        """The second median by the first: below 1 is faster, or less memory."""
        assert self.before.median
        assert self.after.median is not None
        return self.after.median / self.before.median

    @property
    def differs(self) -> bool:
        """Whether the medians lie further apart than either run spreads; single samples say nothing of that."""
        spreads = (self.before.spread, self.after.spread)
        if None in spreads or self.before.median is None or self.after.median is None:
            return False
        return abs(self.after.median - self.before.median) > max(value for value in spreads if value is not None)


def compare(before: Record, after: Record) -> list[Comparison]:
    """The cases that were measured in both runs, in the order of the first.

    Example:
        >>> [(row.before.name, row.ratio) for row in compare(read_record("a.json"), read_record("b.json"))]
        [('encode', 0.93)]

    Raises:
        InputError: they have none in common.
    """
    later = {_key(case): case for case in after.cases if case.median is not None}
    pairs = [Comparison(case, later[_key(case)]) for case in before.cases if case.median and _key(case) in later]
    if not pairs:
        raise InputError("the two records have no case in common; compare two runs of the same command and options")
    return pairs


def differences(before: Record, after: Record) -> list[str]:
    """What a comparison has to be read with: other machines, models, peers or options, a line each.

    Example:
        >>> differences(read_record("a.json"), read_record("b.json"))
        ['threads: 1 and 2']
    """
    ours, theirs = ({"model": r.model, **asdict(r.machine), **r.versions, **r.options} for r in (before, after))
    names = list(dict.fromkeys((*ours, *theirs)))
    return [f"{name}: {ours.get(name)} and {theirs.get(name)}" for name in names if ours.get(name) != theirs.get(name)]


def _key(case: Case) -> tuple[str, str, str, str]:
    return case.name, case.program, case.setting, case.unit
