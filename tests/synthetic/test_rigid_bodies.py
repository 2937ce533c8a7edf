"""Rigid bodies: the same room for the same seed, exact masks, something that hides."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from masklet.errors import InputError, MissingExtraError
from masklet.synthetic import ProceduralSource
from masklet.synthetic.rigid_bodies import RigidBodies, _downsample_masks


def test_bodies_hide_and_are_the_same_every_time() -> None:
    pytest.importorskip("pybullet", reason="PyBullet is not installed (extra 'bodies')")
    first, again = (RigidBodies()(0, 1, (64, 112), 16, ProceduralSource()) for _ in range(2))
    assert first.frames_THW3.shape == (16, 64, 112, 3)
    assert (first.frames_THW3 == again.frames_THW3).all()
    assert (first.masks_TNHW == again.masks_TNHW).all()
    assert first.masks_TNHW.shape[1] >= 2
    assert first.masks_TNHW.sum(1).max() == 1
    area_TN = first.masks_TNHW.sum((2, 3))
    assert area_TN[0].all()
    assert (area_TN.min(0) < 0.45 * area_TN[0]).any()
    assert (first.frames_THW3[0] != RigidBodies()(1, 1, (64, 112), 16, ProceduralSource()).frames_THW3[0]).any()


def test_a_pixel_belongs_to_what_covers_half_of_it() -> None:
    labels = np.array([[5, 5, 5, 6], [5, 0, 5, 6]], np.int32)
    assert _downsample_masks(labels, [5, 6]).tolist() == [[[True, True]], [[False, False]]]
    assert _downsample_masks(labels, [6, 5]).tolist() == [[[False, True]], [[True, False]]]


def test_without_pybullet_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pybullet":
            raise ImportError(name)
        return found(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"masklet\[bodies\]"):
        RigidBodies()(0, 0, (64, 64), 8, ProceduralSource())


def test_no_room_is_named() -> None:
    with pytest.raises(InputError, match="frames=2 is too few"):
        RigidBodies()(0, 0, (64, 64), 2, ProceduralSource())
