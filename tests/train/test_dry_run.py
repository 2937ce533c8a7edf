"""The estimate of a run, which leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from helpers.networks import small_network
from helpers.train_data import TINY, tiny
from masklet.errors import InputError
from masklet.train import dry_run
from masklet.train.dry_run import RunEstimate, StageEstimate, estimate_run
from masklet.train.loop import RuntimeConfig

CPU = RuntimeConfig("cpu", workers=0)


def test_steps_memory_and_time_are_reported_and_nothing_is_written(
    tiny_network: None, stills: Path, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "TemporaryDirectory", partial(TemporaryDirectory, dir=tmp_path))
    config = replace(
        TINY, stages=(replace(TINY.stages[0], image_size=96, clip_length=1, steps=30), *TINY.stages), save_every=1
    )
    found = estimate_run(config, [stills, squares], CPU)
    assert found.num_samples == 8
    assert found.num_parameters == sum(p.numel() for p in small_network().parameters()) == found.num_trainable
    assert [(stage.image_size, stage.steps) for stage in found.stages] == [(96, 30), (64, 4)]
    assert all(stage.seconds > 0 for stage in found.stages)
    assert found.seconds == pytest.approx(30 * found.stages[0].seconds + 4 * found.stages[1].seconds)
    assert list(tmp_path.iterdir()) == []
    lines = str(found).splitlines()
    assert lines[0].startswith("8 images and videos; ")
    assert lines[1].startswith("30 steps at 96 x 96: ")
    assert "memory" in lines[1]
    assert lines[3].startswith("in all 34 steps, ")


def test_trainable_parameters_are_counted(tiny_network: None, stills: Path) -> None:
    found = estimate_run(tiny(lora=2), stills, CPU)
    assert 0 < found.num_trainable < 0.5 * found.num_parameters


def test_errors_of_the_run_are_raised(tiny_network: None, stills: Path) -> None:
    with pytest.raises(InputError, match=r"cached_views=2 .*--freeze encoder"):
        estimate_run(tiny(cached_views=2), stills, CPU)


@pytest.mark.parametrize(("seconds", "expected"), [(12.4, "12 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_readable(seconds: float, expected: str) -> None:
    found = RunEstimate(3, 10, 5, (StageEstimate(64, 64, 10, seconds / 10, None),))
    assert str(found).endswith(f"in all 10 steps, {expected}")
    assert "memory unknown" in str(found)
