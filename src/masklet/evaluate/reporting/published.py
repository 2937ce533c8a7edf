"""Published figures, as docs/published.md has them, with their sources; none was measured by masklet.

The figures of SAM 2 are of two families that do not mix: the released weights, which masklet opens, and the models of
the paper's main tables, which were never released.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["BENCHMARKS", "FAMILIES", "PUBLISHED", "Published", "fits", "same"]

Family = Literal["released", "paper", "other"]
FAMILIES: dict[Family, str] = {
    "released": "Released weights of SAM 2",
    "paper": "The paper's models of SAM 2, never released",
    "other": "Other models",
}
BENCHMARKS = {
    "davis17": ("DAVIS 2017 val",),
    "davis16": (),
    "sav": ("SA-V val", "SA-V test"),
    "ytvos": ("YouTube-VOS 2019 val",),
    "mose": ("MOSE val",),
    "lvos": ("LVOS v2",),
}
"""By kind of score, the sets that figures are published on."""


@dataclass(frozen=True)
class Published:
    """One figure of one model: J&F, of YouTube-VOS the overall one, in hundredths.

    `read` is whether it was read in its source, or is second-hand.

    Example:
        >>> xmem = Published("XMem", "MOSE val", 59.6, "https://github.com/facebookresearch/EdgeTAM", True, "other")
    """

    model: str
    benchmark: str
    figure: float
    source: str
    read: bool
    family: Family


_SAM2 = "https://github.com/facebookresearch/sam2#model-description"
_PAPER = "https://arxiv.org/abs/2408.00714"
_EDGETAM = "https://github.com/facebookresearch/EdgeTAM#video-object-segmentation-vos"
_EFFICIENT = "https://arxiv.org/abs/2411.18933"
_LONG = "https://github.com/Mark12Ding/SAM2Long#-main-results"


def _rows(
    source: str, read: bool, family: Family, columns: tuple[str, ...], rows: dict[str, tuple[float, ...]]
) -> list[Published]:
    return [
        Published(model, benchmark, figure, source, read, family)
        for model, figures in rows.items()
        for benchmark, figure in zip(columns, figures, strict=True)
    ]


_EDGETAM_COLUMNS = ("MOSE val", "DAVIS 2017 val", "SA-V val", "SA-V test", "YouTube-VOS 2019 val")

PUBLISHED: tuple[Published, ...] = (
    *_rows(_SAM2, True, "released", ("SA-V test", "MOSE val", "LVOS v2"), {
        "sam2.1_t.pt": (76.5, 71.8, 77.3),
        "sam2.1_s.pt": (76.6, 73.5, 78.3),
        "sam2.1_b.pt": (78.2, 73.7, 78.2),
        "sam2.1_l.pt": (79.5, 74.6, 80.6),
        "sam2_t.pt": (75.0, 70.9, 75.3),
        "sam2_s.pt": (74.9, 71.5, 76.4),
        "sam2_b.pt": (74.7, 72.8, 75.8),
        "sam2_l.pt": (76.0, 74.6, 79.8),
    }),
    *_rows(_PAPER, False, "released", ("DAVIS 2017 val", "YouTube-VOS 2019 val"), {"sam2_b.pt": (88.9, 87.9)}),
    *_rows(_EDGETAM, True, "paper", _EDGETAM_COLUMNS, {
        "SAM 2 base+": (75.8, 90.9, 73.6, 74.1, 88.4),
        "SAM 2.1 base+": (76.6, 90.2, 76.8, 77.0, 88.6),
    }),
    *_rows(_EDGETAM, False, "paper", _EDGETAM_COLUMNS, {
        "SAM 2 large": (77.2, 91.6, 75.6, 77.6, 89.1),
        "SAM 2.1 large": (77.9, 90.7, 77.9, 78.4, 89.3),
    }),
    *_rows(_EDGETAM, True, "other", _EDGETAM_COLUMNS, {
        "XMem": (59.6, 86.0, 60.1, 62.3, 85.6),
        "DEVA": (66.0, 87.0, 55.4, 56.2, 85.4),
        "Cutie-base": (69.9, 87.9, 60.7, 62.7, 87.0),
        "Cutie-base+": (71.7, 88.1, 61.3, 62.8, 87.5),
        "EdgeTAM": (70.0, 87.7, 72.3, 71.7, 86.2),
    }),
    *_rows(_EFFICIENT, False, "other", ("MOSE val", "DAVIS 2017 val", "SA-V test", "YouTube-VOS 2019 val"), {
        "EfficientTAM Ti/2": (68.4, 88.4, 70.8, 87.1),
        "EfficientTAM Ti": (69.3, 89.1, 70.7, 86.7),
        "EfficientTAM S/2": (70.8, 88.6, 74.0, 87.2),
        "EfficientTAM S": (71.4, 89.2, 74.5, 87.2),
    }),
    *_rows(_LONG, True, "other", ("SA-V val", "SA-V test", "LVOS v2"), {
        "SAM2Long on 2.1 tiny": (78.9, 79.0, 82.4),
        "SAM2Long on 2.1 small": (79.6, 80.4, 84.3),
        "SAM2Long on 2.1 base+": (80.5, 80.8, 85.2),
        "SAM2Long on 2.1 large": (81.1, 81.2, 85.3),
        "SAM2Long on 2 large": (80.8, 80.8, 85.2),
    }),
)  # fmt: skip
"""Every figure, by family."""


def fits(kind: str) -> list[Published]:
    """The figures that stand beside a score of this kind.

    Example:
        >>> fits("davis17")[0].model
        'sam2_b.pt'
    """
    return [one for one in PUBLISHED if one.benchmark in BENCHMARKS.get(kind, ())]


def same(model: str, published: Published) -> bool:
    """Whether a figure is of this very model: published models are named by their files, or as in their papers.

    Example:
        >>> same("weights/sam2_b.pt", fits("davis17")[0])
        True
    """
    return Path(model).name == published.model
