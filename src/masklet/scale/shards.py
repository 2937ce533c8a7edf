"""Divide the items of a source between processes: by a hash of the name, the same on every machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from masklet.errors import InputError

__all__ = ["Shard", "name_hash"]

_AUTO = "SLURM_ARRAY_TASK_ID (with SLURM_ARRAY_TASK_COUNT), SLURM_PROCID (with SLURM_NTASKS) or RANK (with WORLD_SIZE)"


def name_hash(name: str) -> int:
    """Return the first 64 bits of the SHA-256 of a name.

    Example:
        >>> name_hash("cats/1.jpg") % 4
        0
    """
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big")


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of the items, from 0 on.

    Example:
        >>> [sum(Shard(index, 2).has(name) for name in "abcdef") for index in (0, 1)]
        [5, 1]

    Raises:
        InputError: if the index is not below the count.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"shard {self.index}/{self.count} does not exist; shards of {self.count} are numbered from 0 to "
                f"{self.count - 1}: use one of them"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, name: str) -> bool:
        """Whether the item, or the archive, of this name belongs to the shard."""
        return self.count == 1 or name_hash(name) % self.count == self.index

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Shard:
        """Read `i/n`, or `auto`: the place of this process among those of SLURM and torchrun.

        In a job array whose jobs have several processes, each process of each job has a shard.

        Example:
            >>> str(Shard.parse("auto", {"RANK": "3", "WORLD_SIZE": "8"}))
            '3/8'

        Raises:
            InputError: if the text is malformed, or no variable says where this process is.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if match:
            return cls(int(match[1]), int(match[2]))
        if text.strip() != "auto":
            raise InputError(f"--shard {text!r:.40} must be INDEX/COUNT, such as 0/8 to 7/8, or auto")
        places = [
            place
            for place in (_array_place(environment), _process_place(environment))
            if place is not None  # a process may be in both
        ]
        if not places:
            raise InputError(f"--shard auto finds none of {_AUTO}: give INDEX/COUNT, such as 0/8")
        index, count = 0, 1
        for inner_index, inner_count in places:
            index, count = index * inner_count + inner_index, count * inner_count
        return cls(index, count)


def _array_place(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return index and number of the job in a SLURM array, whose ids need not begin at 0 nor be dense."""
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    if task is None:
        return None
    first = _number(environment, "SLURM_ARRAY_TASK_MIN") or 0
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") or 1
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    if count is None:
        raise InputError("SLURM_ARRAY_TASK_ID is set and SLURM_ARRAY_TASK_COUNT is not: give --shard INDEX/COUNT")
    if (task - first) % step or (task - first) // step >= count:
        raise InputError(
            f"the ids of this SLURM array are not evenly spaced (task {task} of {count}, from {first} in steps of "
            f"{step}): use an array such as 0-{count - 1}, or give --shard INDEX/COUNT"
        )
    return (task - first) // step, count


def _process_place(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return rank and number of this process, by torchrun, which starts processes within those of SLURM, or SLURM."""
    for index_name, count_name in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        index, count = _number(environment, index_name), _number(environment, count_name)
        if index is not None and count is not None:
            return index, count
    return None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if text and not text.isdecimal():
        raise InputError(f"{name}={text!r:.40} must be a whole number from 0: unset it, or give --shard INDEX/COUNT")
    return int(text) if text else None
