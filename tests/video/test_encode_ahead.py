"""Encoding the next frame on a thread: the same masks, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from helpers.networks import small_network
from helpers.reference import small_builtin
from masklet.errors import SourceError
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.types import ImageFeatures
from masklet.results import Results
from masklet.video import Session

Open = Callable[..., Session]


@pytest.fixture
def network() -> FastSAM2:
    """One that encodes a frame each time it is tracked, which is what the tests of this file are about."""
    return small_builtin()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def encoders(network: FastSAM2, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The thread of each encoded frame, and the threads that PyTorch has there."""
    seen, encode = [], network.encode_image

    def recorded(pixels_B3HW: torch.Tensor) -> ImageFeatures:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return encode(pixels_B3HW)

    monkeypatch.setattr(network, "encode_image", recorded)
    return seen


def track(session: Session) -> Iterator[Results]:
    session.add_prompt(1, frame_idx=0, points=[45, 65])
    return session.propagate()


def test_several_objects_have_all_threads(
    session: Open, video: np.ndarray, encoders: list[tuple[str, int]], two_threads: None
) -> None:
    with session(video[:4]) as s:
        s.add_prompt(2, frame_idx=0, points=[20, 20])
        assert len(list(track(s))) == 4
    assert set(encoders) == {(threading.current_thread().name, 2)}


def test_a_published_network_is_not_encoded_ahead() -> None:
    assert not FastSAM2(small_network()).encodes_ahead


@pytest.mark.parametrize("streamed", [False, True])
def test_a_pass_encodes_on_a_thread_and_gives_the_same_masks(
    session: Open, video: np.ndarray, encoders: list[tuple[str, int]], two_threads: None, streamed: bool
) -> None:
    clip = video[:6]
    with session(iter(clip) if streamed else clip) as s:
        ahead = list(track(s))
    assert [thread for thread, _ in encoders[:1]] == [threading.current_thread().name]  # for the prompt
    assert encoders[1:] == [("masklet read-ahead", 1)] * 5
    torch.set_num_threads(1)
    encoders.clear()
    with session(iter(clip) if streamed else clip) as s:
        alone = list(track(s))
    assert {thread for thread, _ in encoders} == {threading.current_thread().name}
    assert [results.frame_idx for results in ahead] == list(range(6))
    for one, other in zip(ahead, alone, strict=True):
        np.testing.assert_array_equal(one.masks.data, other.masks.data)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        assert one.speed["encode"] >= 0


def test_the_caller_has_all_threads_between_frames_and_the_tracker_half(
    session: Open, video: np.ndarray, network: FastSAM2, monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    counts, encode_memory = [], network.encode_memory

    def counted(*args: object, **options: object) -> object:
        counts.append(torch.get_num_threads())
        return encode_memory(*args, **options)

    monkeypatch.setattr(network, "encode_memory", counted)
    others = set(threading.enumerate())
    with session(video[:8]) as s:
        frames = track(s)
        for _ in range(3):
            next(frames)
            assert torch.get_num_threads() == 2
        assert any(thread.name == "masklet read-ahead" for thread in set(threading.enumerate()) - others)
        del frames  # nobody goes on
        assert set(threading.enumerate()) == others
    assert set(counts) == {1}
    assert torch.get_num_threads() == 2


def test_an_error_comes_after_the_frames_before_it(session: Open, video: np.ndarray, two_threads: None) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from video[:3]
        yield video[0, :50]

    with session(broken()) as s:
        frames = track(s)
        assert [next(frames).frame_idx for _ in range(3)] == [0, 1, 2]
        with pytest.raises(SourceError, match="frame 3"):
            next(frames)


def test_a_live_source_is_not_encoded_ahead(
    session: Open, video: np.ndarray, encoders: list[tuple[str, int]], two_threads: None
) -> None:
    with session(iter(video[:4])) as s:
        s.video.live = True
        assert len(list(track(s))) == 4
    assert {thread for thread, _ in encoders} == {threading.current_thread().name}


def test_an_object_may_join_while_frames_are_encoded_ahead(session: Open, video: np.ndarray, two_threads: None) -> None:
    with session(video[:6]) as s:
        frames = track(s)
        next(frames)
        s.add_prompt(2, frame_idx=2, box=[75, 30, 125, 75])
        assert [results.ids.tolist() for results in frames] == [[1], [1, 2], [1, 2], [1, 2], [1, 2]]
