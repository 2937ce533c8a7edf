"""Leases: one owner at a time, and a new one when the owner is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from masklet.errors import InputError
from masklet.scale.leases import LeaseOwner, Leases
from masklet.scale.storage import LocalStorage, Storage, storage_of


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, str]:
    if request.param == "local":
        return LocalStorage(), str(tmp_path)
    pytest.importorskip("fsspec")
    return storage_of("memory://leases"), f"memory://leases{tmp_path}"


def test_one_of_many_gets_a_lease_and_gives_it_back(place: tuple[Storage, str]) -> None:
    several = [Leases(*place) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for name in ("a", "b", "c"):
            got = list(pool.map(lambda leases, name=name: leases.take(name), several))
            assert sum(got) == 1
    owner = next(leases for leases in several if "a" in leases._held)
    owner.release("a")
    assert several[0].take("a")


def test_the_lease_of_a_process_that_stands_still_ends(place: tuple[Storage, str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    first, second, third = (Leases(*place, seconds=10) for _ in range(3))
    assert first.take("a")
    assert not second.take("a")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 11)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda leases: leases.take("a"), (second, third))) == [False, True]
    assert not first.is_lost("a")  # by its own clock it had no reason to look
    monotonic = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: monotonic + 11)
    assert first.is_lost("a")


@pytest.mark.slow
def test_a_lease_is_renewed_while_its_owner_works(place: tuple[Storage, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.scale.leases.MIN_LEASE_S", 0.1)
    with Leases(*place, seconds=1.0) as first, Leases(*place, seconds=1.0) as second:
        assert first.take("a")
        time.sleep(1.3)
        assert not second.take("a")
    assert second.take("a")  # given back at the end


def test_a_process_that_ended_on_this_machine_loses_its_leases_at_once(tmp_path: Path) -> None:
    script = (
        "import os, sys; from masklet.scale.leases import Leases; from masklet.scale.storage import LocalStorage\n"
        "assert Leases(LocalStorage(), sys.argv[1], 1000).take('a'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert any(tmp_path.rglob("*.0"))
    assert Leases(LocalStorage(), str(tmp_path), 1000).take("a")


def test_a_process_elsewhere_is_not_judged_by_its_number(tmp_path: Path) -> None:
    elsewhere = LeaseOwner("k", "another machine", 2**22 - 1)
    assert not elsewhere.has_ended()
    assert Leases(LocalStorage(), str(tmp_path), owner=elsewhere).take("a")
    assert not Leases(LocalStorage(), str(tmp_path)).take("a")


def test_a_lease_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="120 is usual"):
        Leases(LocalStorage(), str(tmp_path), seconds=0.5)
