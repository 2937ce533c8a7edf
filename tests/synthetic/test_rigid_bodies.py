"""Rigid bodies: reproducible, with exact masks and an occlusion."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from masklet.errors import InputError, MissingExtraError
from masklet.synthetic import ProceduralSource
from masklet.synthetic.rigid_bodies import RigidBodies, _downsample_masks


def test_bodies_are_reproducible_and_occlude_each_other() -> None:
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


def test_pixel_belongs_to_the_body_that_covers_half_of_it() -> None:
    labels = np.array([[5, 5, 5, 6], [5, 0, 5, 6]], np.int32)
    assert _downsample_masks(labels, [5, 6]).tolist() == [[[True, True]], [[False, False]]]
    assert _downsample_masks(labels, [6, 5]).tolist() == [[[False, True]], [[True, False]]]


def test_missing_pybullet_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def import_without_pybullet(name: str, *args: Any, **options: Any) -> Any:
        if name == "pybullet":
            raise ImportError(name)
        return original(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", import_without_pybullet)
    with pytest.raises(MissingExtraError, match=r"masklet\[bodies\]"):
        RigidBodies()(0, 0, (64, 64), 8, ProceduralSource())


def test_too_few_frames_are_reported() -> None:
    with pytest.raises(InputError, match="frames=2 is too few"):
        RigidBodies()(0, 0, (64, 64), 2, ProceduralSource())
