"""Masks out of prototypes: known shapes, at every size, and against PyTorch's way of enlarging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from masklet.detect.letterbox import Letterbox
from masklet.detect.proto_masks import decode_proto_masks, paste_masks
from masklet.masks import rle

SIZES = [(480, 640), (640, 480), (333, 500), (97, 41), (1080, 1920)]


def whole(size: tuple[int, int]) -> np.ndarray:
    return np.array([[0, 0, size[1], size[0]]], np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_the_enlarged_sums_above_zero(size: tuple[int, int]) -> None:
    """Against the long way: to the input's resolution is not gone through; the image's part is enlarged at once."""
    box = Letterbox.from_size(size, 320)
    height, width = box.input_size[0] // 4, box.input_size[1] // 4
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 4, 5, 7, generator=generator)
    prototypes = interpolate(coarse, (height, width), mode="bicubic")[0].numpy()
    coefficients = torch.randn(2, 4, generator=generator).numpy()
    masks = paste_masks(decode_proto_masks(coefficients, prototypes, np.repeat(whole(size), 2, 0), box), size)
    sums = np.einsum("nm,mhw->nhw", coefficients, prototypes)
    fine = interpolate(torch.from_numpy(sums)[None], scale_factor=16, mode="bilinear")[0].numpy()
    y = ((np.arange(size[0]) + 0.5) * box.scale[1] + box.top) * 4 - 0.5
    x = ((np.arange(size[1]) + 0.5) * box.scale[0] + box.left) * 4 - 0.5
    wanted = fine[:, np.round(y).astype(int)][:, :, np.round(x).astype(int)] > 0
    overlap = (masks & wanted).sum((1, 2)) / (masks | wanted).sum((1, 2))
    assert (overlap > 0.985).all(), overlap


def test_edges_lie_where_they_are() -> None:
    """Prototype cells left of the middle are inside: in the image, everything left of the middle, to the pixel."""
    for size in SIZES:
        box = Letterbox.from_size(size, 640)
        prototypes = np.full((1, box.input_size[0] // 4, box.input_size[1] // 4), -1.0, np.float32)
        prototypes[:, :, : prototypes.shape[2] // 2] = 1.0
        (piece,) = decode_proto_masks(np.ones((1, 1), np.float32), prototypes, whole(size), box)
        middle = (box.input_size[1] / 2 - box.left) / box.scale[0]
        columns = piece.mask.all(0)
        assert abs(columns.sum() - middle) <= 1
        assert columns[: int(middle) - 1].all()
        assert not piece.mask[:, int(middle) + 1 :].any()


def test_a_pixel_belongs_to_the_box_that_holds_its_center() -> None:
    box = Letterbox.from_size((64, 64), 64)
    xyxy = np.array([[10.4, 20.6, 30.4, 40.6], [5, 5, 5.4, 9], [60, 60, 64, 64]], np.float32)
    pieces = decode_proto_masks(np.ones((3, 1), np.float32), np.ones((1, 16, 16), np.float32), xyxy, box)
    masks = paste_masks(pieces, (64, 64))
    assert masks.sum((1, 2)).tolist() == [400, 0, 16]
    assert masks[0, 21:41, 10:30].all()
    assert masks[2, 60:, 60:].all()


def test_codes_are_the_same_masks() -> None:
    box = Letterbox.from_size((50, 70), 64)
    generator = np.random.default_rng(0)
    prototypes = generator.normal(size=(3, box.input_size[0] // 4, box.input_size[1] // 4)).astype(np.float32)
    xyxy = np.array([[0, 0, 70, 50], [3.3, 4.9, 20.2, 44.0], [5, 5, 5, 5]], np.float32)
    pieces = decode_proto_masks(generator.normal(size=(3, 3)).astype(np.float32), prototypes, xyxy, box)
    masks = paste_masks(pieces, (50, 70))
    assert masks[:2].any((1, 2)).all()
    for piece, mask in zip(pieces, masks, strict=True):
        assert np.array_equal(rle.decode(rle.encode_crop(piece.mask, (piece.left, piece.top), (50, 70))), mask)


def test_no_object_has_no_mask() -> None:
    box = Letterbox.from_size((50, 70), 64)
    prototypes = np.zeros((3, 12, 16), np.float32)
    pieces = decode_proto_masks(np.zeros((0, 3), np.float32), prototypes, np.zeros((0, 4), np.float32), box)
    assert paste_masks(pieces, (50, 70)).shape == (0, 50, 70)
