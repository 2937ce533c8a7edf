"""The data sets of a run, opened and weighed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets import DataPaths, Dataset, Mixture, open_dataset, open_mixture
from masklet.errors import InputError
from masklet.synth import Collected, Synthesiser
from masklet.train.config import SourceConfig, Stage, TrainConfig
from masklet.train.data import Pool, Samples, pools_of

__all__ = ["Material", "open_material"]


@dataclass(frozen=True)
class Material:
    """What a run learns from."""

    pools: tuple[Pool, ...]
    collected: Collected | None
    """What films are made out of; None: none are."""

    @property
    def entries(self) -> int:
        """Stills and films, all of them: an epoch."""
        return sum(len(pool.entries) for pool in self.pools)

    def samples(self, config: TrainConfig, stage: Stage, step: int, rank: int, world: int) -> Samples:
        """The batches of process number `rank` of `world`, from `step` on."""
        maker = None
        if self.collected is not None and stage.frames > 1:
            maker = Synthesiser(self.collected, size=stage.size, frames=stage.frames, objects=stage.prompts.objects)
        first = step * config.accumulate * world + rank
        return Samples(self.pools, config, stage, maker=maker, first=first, stride=world)


def open_material(data: DataPaths, config: TrainConfig) -> Material:
    """Open the sources of a run; `data` is the folder they are in, or, where the run names none, what to open.

    Raises:
        SourceError: a data set is missing or holds nothing.
        InputError: a weight that is no positive number.
    """
    mixture = _opened(data, config.sources)
    if not config.made:
        return Material(pools_of(mixture), None)
    stills = tuple((dataset, weight) for dataset, weight in mixture if _has_stills(dataset))
    cutouts = _opened(data, config.cutouts) if config.cutouts else ()
    return Material(pools_of(mixture), Collected(stills, cutouts) if stills else None)


def _opened(data: DataPaths, sources: Sequence[SourceConfig]) -> Mixture:
    if [source.path for source in sources] == [""] and sources[0].kind is None and sources[0].split is None:
        return tuple(open_mixture(data))
    if not isinstance(data, str | os.PathLike):
        raise InputError(f"data={data!r} must be the folder in which {', '.join(s.path for s in sources)} are")
    root = Path(data)
    return tuple(
        (open_dataset(root / source.path, kind=source.kind, split=source.split), source.weight) for source in sources
    )


def _has_stills(dataset: Dataset) -> bool:
    return any(len(entry.frames) == 1 for entry in dataset.entries)
