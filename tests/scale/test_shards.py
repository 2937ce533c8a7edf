"""Which process has which items."""

from __future__ import annotations

import pytest

from masklet.errors import InputError
from masklet.scale.items import shard_key
from masklet.scale.shards import Shard


def test_every_item_is_in_one_shard_and_shards_are_even() -> None:
    names = [f"folder/{number}.jpg" for number in range(4000)]
    shards = [Shard(index, 8) for index in range(8)]
    assert all(sum(shard.has(name) for shard in shards) == 1 for name in names)
    sizes = [sum(map(shard.has, names)) for shard in shards]
    assert min(sizes) > 430
    assert max(sizes) < 570


def test_shards_are_those_of_other_machines() -> None:
    assert [name for name in ("a.jpg", "b.jpg", "ü.jpg", "\udcff.jpg", "cats/1.jpg") if Shard(0, 2).has(name)] == [
        "a.jpg",
        "b.jpg",
        "\udcff.jpg",
        "cats/1.jpg",
    ]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "10", "SLURM_ARRAY_TASK_MIN": "0"}, "3/10"),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1",
          "SLURM_ARRAY_TASK_STEP": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, "9/12"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, "1/4"),
        ({"RANK": "9", "WORLD_SIZE": "16", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, "9/16"),
    ],
)  # fmt: skip
def test_auto_reads_slurm_and_torchrun(environment: dict[str, str], expected: str) -> None:
    assert str(Shard.parse("auto", environment)) == expected


def test_processes_of_an_array_have_all_shards() -> None:
    def place(task: int, process: int) -> str:
        variables = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": 3, "SLURM_PROCID": process}
        return str(Shard.parse("auto", {**{key: str(one) for key, one in variables.items()}, "SLURM_NTASKS": "2"}))

    assert sorted(place(task, process) for task in range(3) for process in range(2)) == [f"{n}/6" for n in range(6)]


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("8/8", {}, "numbered from 0 to 7"),
        ("one", {}, "INDEX/COUNT"),
        ("auto", {}, "SLURM_ARRAY_TASK_ID"),
        ("auto", {"RANK": "x", "WORLD_SIZE": "2"}, "RANK='x'"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3"}, "not evenly spaced"),
    ],
)
def test_what_names_no_shard_is_refused(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Shard.parse(text, environment)


def test_what_is_in_an_archive_is_in_its_shard() -> None:
    assert shard_key("train/07.tar/cats/1.jpg") == shard_key("train/07.tar/2.jpg") == "train/07.tar"
    assert shard_key("07.tar") == "07.tar"
    assert shard_key("tar/1.jpg") == "tar/1.jpg"
