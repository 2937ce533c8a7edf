"""Whether a score is of what published figures are of: the same films, groups and prompt."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from masklet.errors import SourceError
from masklet.evaluate.reporting.published import BENCHMARKS
from masklet.evaluate.scoring import Score
from masklet.evaluate.sets import SETS, Listed, Part

__all__ = ["Compared", "compare"]

SET_OF = {
    "DAVIS 2017 val": "davis17",
    "SA-V val": "sav_val",
    "SA-V test": "sav_test",
    "YouTube-VOS 2019 val": "ytvos19",
    "MOSE val": "mose",
    "LVOS v2": "lvos",
}
"""The data set of each benchmark, by its name in `SETS`."""
GROUPED = {"ytvos": "--seen", "lvos": "--unseen"}
"""Kinds whose figures are means of seen and unseen, and the option that tells these apart."""
SHOWN = 5
"""Names of films that are missing, at most."""


@dataclass(frozen=True)
class Compared:
    """A benchmark, and why a score does not compare with its figures; nothing: it does."""

    benchmark: str
    films: int
    against: tuple[str, ...]

    def __str__(self) -> str:
        if self.against:
            return f"{self.benchmark}: figures do not compare. " + " ".join(f"{why}." for why in self.against)
        return f"{self.benchmark}: figures compare; all {self.films} films of it were scored."


def compare(found: Score, truth: Path, prompt: str = "") -> list[Compared]:
    """For each benchmark that has published figures of this kind, whether the score compares with them.

    Its films are those of its list, where that lies at `truth` or above it, else as many as it has. `prompt` is what
    objects were told by, if that is known.

    Example:
        >>> print(compare(score("davis17", "predictions", "DAVIS"), Path("DAVIS"))[0])
        DAVIS 2017 val: figures compare; all 30 films of it were scored.
    """
    against = [] if prompt in ("", "mask") else [f"Objects were told by {prompt}, in published figures by their mask"]
    if found.kind in GROUPED and any(one.seen is None for one in found.objects):
        against.append(
            f"It is not known what was seen in training, so that all is one group: name {GROUPED[found.kind]}"
        )
    films = {one.sequence for one in found.objects} | {name.rsplit("/", 1)[0] for name in found.left_out}
    return [_compared(name, films, truth, against) for name in BENCHMARKS.get(found.kind, ())]


def _compared(benchmark: str, films: Collection[str], truth: Path, against: list[str]) -> Compared:
    parts = SETS[SET_OF[benchmark]].parts
    listed = next((part for part in parts if isinstance(part, Listed) and part.places), None)
    count = listed.count if listed else next(part.count for part in parts if isinstance(part, Part))
    names = _names(listed, truth) if listed else None
    whole = names is not None and len(names) == count
    return Compared(benchmark, count, (*(_other(set(names or ()), films) if whole else _fewer(count, films)), *against))


def _names(listed: Listed, truth: Path) -> Collection[str] | None:
    """What the list says, if it lies at the truth or above it."""
    places = [place / file for place in (truth, *list(truth.resolve().parents)[:3]) for file in listed.files]
    file = next((place for place in places if place.is_file()), None)
    try:
        return None if file is None else listed.names(file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SourceError):
        return None


def _other(names: set[str], films: Collection[str]) -> list[str]:
    said = []
    if missing := sorted(names - set(films)):
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        said.append(f"Of its {len(names)} films {len(missing)} were not scored ({shown})")
    if more := set(films) - names:
        said.append(f"{len(more)} of the films that were scored are not of it")
    return said


def _fewer(count: int, films: Collection[str]) -> list[str]:
    return [] if len(films) == count else [f"It has {count} films, and {len(films)} were scored"]
