from __future__ import annotations

import numpy as np

from masklet.video.distractors import AnchorRule, distractor_agreement

RULE = AnchorRule()


def mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    grid = np.zeros((40, 80), bool)
    for x1, y1, x2, y2 in boxes:
        grid[y1:y2, x1:x2] = True
    return grid


OBJECT = mask((10, 10, 20, 20))
TWIN = mask((10, 10, 20, 20), (30, 10, 40, 20))
GROWN = mask((10, 10, 22, 20))


def test_agreement_is_the_iou_of_the_box_with_a_box_around_the_largest_part_beyond() -> None:
    assert distractor_agreement(OBJECT, np.stack([OBJECT, GROWN])) == 100 / 120
    assert distractor_agreement(OBJECT, np.stack([TWIN, GROWN])) == 100 / 300
    specks = mask((10, 10, 20, 20), (70, 30, 71, 31), (21, 10, 23, 20))
    assert distractor_agreement(OBJECT, specks[None]) == 100 / 130
    assert distractor_agreement(OBJECT, np.stack([OBJECT, mask((12, 12, 15, 15))])) == 1


def test_every_condition_of_an_anchor() -> None:
    beside = np.stack([OBJECT, TWIN, GROWN])
    assert RULE.is_anchor(OBJECT, 0.81, beside, [100, 0, 90, 110], 6)
    assert RULE.is_anchor(OBJECT, 0.81, beside, [100], None)
    assert not RULE.is_anchor(OBJECT, 0.80, beside, [100], 6)  # not sure
    assert not RULE.is_anchor(OBJECT, 0.81, beside, [100], 5)  # too soon
    assert not RULE.is_anchor(OBJECT, 0.81, np.stack([OBJECT, OBJECT, GROWN]), [100], 6)  # nothing beside it
    assert not RULE.is_anchor(OBJECT, 0.81, beside, [151], 6)  # an unusual size: the median is 125.5
    assert RULE.is_anchor(OBJECT, 0.81, beside, [150], 6)
    assert RULE.is_anchor(OBJECT, 0.81, beside, [*[100] * 5, *[500] * 30], 6)  # ten areas count
    assert not RULE.is_anchor(OBJECT, 0.81, beside, [*[100] * 3, *[500] * 6], 6)
    assert not RULE.is_anchor(OBJECT, 0.81, beside, [], None)  # the first frame that is tracked
    assert RULE.is_anchor(OBJECT, 0.81, beside, [0, 0], None)  # it was not visible before
    assert not RULE.is_anchor(mask(), 0.9, beside, [100], 6)
