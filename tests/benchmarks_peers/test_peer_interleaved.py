"""The order of requests, and comparisons of known masks and logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from benchmarks import interleaved
from benchmarks.interleaved import (
    mask_agreement,
    max_logits_error,
    min_iou,
    peer_versions,
    run_interleaved,
    time_ratio,
)
from benchmarks.process import PeerProcess, Timing


class Stub:
    """A program that takes one second more each time."""

    version, torch = "1", "2.13"

    def __init__(self, name: str, requests: list[str], verbs: tuple[str, ...] = ("encode",)) -> None:
        self.name, self.requests, self.verbs = name, requests, verbs
        self.seconds: Iterator[int] = iter(range(1, 100))

    def supports(self, verb: str) -> bool:
        return verb in self.verbs

    def run(self, verb: str) -> Timing:
        self.requests.append(self.name)
        return Timing(float(next(self.seconds)), 0.5, None, None)


def stubs(*made: Stub) -> list[PeerProcess]:
    return cast(list[PeerProcess], list(made))


def packed(*masks: str) -> np.ndarray:
    return np.packbits([[pixel == "#" for pixel in mask] for mask in masks], axis=1)


def test_every_second_round_is_reversed() -> None:
    requests: list[str] = []
    found = run_interleaved(stubs(Stub("a", requests), Stub("b", requests), Stub("c", requests, ())), "encode", 2)
    assert requests == ["a", "b", "b", "a", "a", "b"]
    assert {name: [each.seconds for each in taken] for name, taken in found.items()} == {"a": [2, 3], "b": [2, 3]}


def test_another_pytorch_is_part_of_the_version() -> None:
    found = stubs(Stub("masklet", []), Stub("sam2", []), Stub("transformers", []))
    found[2].torch = "2.12"
    assert peer_versions(found) == {"sam2": "1", "transformers": "1 with torch 2.12"}


def test_the_ratio_is_the_median_over_rounds() -> None:
    ours, theirs = ([Timing(s, s * s, None, None) for s in seconds] for seconds in ((1.0, 2.0, 9.0), (2.0, 2.0, 3.0)))
    found = {"masklet": ours, "sam2": theirs}
    assert time_ratio(found, "sam2") == 1
    assert time_ratio({"masklet": ours[:1], "sam2": theirs[:1]}, "sam2", cpu_time=True) == 0.25
    assert time_ratio(found, "transformers") is None


def test_the_minimum_iou_is_of_the_worst_pair() -> None:
    assert min_iou(packed("####----", "##------"), packed("####----", "#-------")) == 0.5
    assert min_iou(packed("--------"), packed("--------")) == 1
    assert min_iou(packed("--------"), packed("-------#")) == 0
    assert min_iou(packed("####----"), packed("####----", "####----")) is None


def test_the_error_of_logits_is_in_standard_deviations() -> None:
    reference = np.array([-2.0, 2.0], np.float32)
    assert max_logits_error(reference + np.float32([0, 1]), reference) == 0.5
    assert max_logits_error(reference, reference) == 0
    assert max_logits_error(reference[:1], reference) is None


@pytest.mark.parametrize("chunk", [1, 8192])
def test_sets_of_masks_are_matched_by_their_best_iou(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaved, "CHUNK_BYTES", chunk)
    theirs = packed("####------------", "--------########")
    found = mask_agreement(theirs[::-1], theirs)
    assert found is not None
    assert (found.matched_ours, found.matched_theirs, found.mean_iou, found.min_iou) == (1, 1, 1, 1)
    found = mask_agreement(packed("####------------", "------------####", "---#------------"), theirs)
    assert found is not None
    assert (found.matched_ours, found.matched_theirs, found.mean_iou, found.min_iou) == (
        pytest.approx(1 / 3),
        0.5,
        0.75,
        0.5,
    )
    assert mask_agreement(theirs[:0], theirs) is None
