"""What a `with` block closes."""

from __future__ import annotations

import pytest

from masklet.closing import Closeable


class Door(Closeable):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_block_closes_what_it_was_given() -> None:
    with Door() as door:
        assert type(door) is Door
        assert not door.closed
    assert door.closed == 1


def test_an_error_closes_too_and_goes_on() -> None:
    door = Door()
    with pytest.raises(KeyError), door:
        raise KeyError
    assert door.closed == 1


def test_what_cannot_be_closed_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="close"):
        type("Wall", (Closeable,), {})()
