"""Evaluators track with the options that a command names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from masklet.cli.eval.runner import memory_option, model_with_memory
from masklet.evaluate.tracking import ModelWithOptions
from masklet.video import TrackOptions


class Recording:
    """A model that records the options of its sessions."""

    def __init__(self, family: str = "builtin") -> None:
        self.predictor: Any = SimpleNamespace(model=SimpleNamespace(score_family=family))
        self.opened: list[TrackOptions | None] = []

    def session(self, source: object, *, options: TrackOptions | None = None) -> Any:
        self.opened.append(options)


def test_sessions_have_the_given_options_and_retain_what_the_evaluator_needs() -> None:
    model = Recording()
    tracker = ModelWithOptions(model, TrackOptions(memory="dam4sam", lost_after=3))
    tracker.session([])
    tracker.session([], options=TrackOptions(retain="all"))
    assert model.opened == [
        TrackOptions(memory="dam4sam", lost_after=3),
        TrackOptions(memory="dam4sam", lost_after=3, retain="all"),
    ]
    assert tracker.predictor is model.predictor


@pytest.mark.parametrize(("family", "non_overlapping"), [("builtin", None), ("sam2", False)])
def test_published_models_are_evaluated_as_published(family: str, non_overlapping: bool | None) -> None:
    model: Any = Recording(family)
    model_with_memory(model, TrackOptions(memory="samurai")).session([])
    expected = TrackOptions(memory="samurai", non_overlapping=non_overlapping, scene_cuts=family == "builtin")
    assert model.opened == [expected]


def test_results_files_name_every_policy_but_the_default() -> None:
    assert memory_option("sam2") == {}
    assert memory_option("sam2long") == {"memory": "sam2long"}
