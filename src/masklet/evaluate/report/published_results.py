"""Published figures with their sources, as in docs/published.md, and whether a score compares with them.

None was measured by masklet. The figures of SAM 2 belong to two families that must not be mixed: the released weights,
which masklet opens, and the models of the paper's main tables, which were never released. A score compares with
published figures if it has the same videos, groups and prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from masklet.errors import SourceError
from masklet.evaluate.benchmark_datasets import BENCHMARK_DATASETS, FolderRequirement, ListRequirement
from masklet.evaluate.benchmark_scoring import BenchmarkScore

__all__ = [
    "MODEL_FAMILIES",
    "PUBLISHED_BENCHMARKS",
    "PUBLISHED_RESULTS",
    "Comparability",
    "PublishedResult",
    "check_comparability",
]

Family = Literal["released", "paper", "other"]
MODEL_FAMILIES: dict[Family, str] = {
    "released": "Released weights of SAM 2",
    "paper": "The paper's models of SAM 2, never released",
    "other": "Other models",
}
PUBLISHED_BENCHMARKS = {
    "davis17": ("DAVIS 2017 val",),
    "davis16": (),
    "sav": ("SA-V val", "SA-V test"),
    "ytvos": ("YouTube-VOS 2019 val",),
    "mose": ("MOSE val",),
    "lvos": ("LVOS v2",),
}
"""By benchmark, the data sets with published figures."""


@dataclass(frozen=True)
class PublishedResult:
    """One figure of one model: J&F in percent, of YouTube-VOS the overall figure.

    `is_first_hand` is whether it was read in its source; otherwise it is second-hand.

    Example:
        >>> xmem = PublishedResult("XMem", "MOSE val", 59.6, "https://github.com/org/paper", True, "other")
    """

    model: str
    benchmark: str
    value: float
    source: str
    is_first_hand: bool
    family: Family


_SAM2_URL = "https://github.com/facebookresearch/sam2#model-description"
_PAPER_URL = "https://arxiv.org/abs/2408.00714"
_EDGETAM_URL = "https://github.com/facebookresearch/EdgeTAM#video-object-segmentation-vos"
_EFFICIENTTAM_URL = "https://arxiv.org/abs/2411.18933"
_SAM2LONG_URL = "https://github.com/Mark12Ding/SAM2Long#-main-results"


def _make_results(
    source: str, is_first_hand: bool, family: Family, columns: tuple[str, ...], rows: dict[str, tuple[float, ...]]
) -> list[PublishedResult]:
    return [
        PublishedResult(model, benchmark, figure, source, is_first_hand, family)
        for model, figures in rows.items()
        for benchmark, figure in zip(columns, figures, strict=True)
    ]


_EDGETAM_COLUMNS = ("MOSE val", "DAVIS 2017 val", "SA-V val", "SA-V test", "YouTube-VOS 2019 val")
_EFFICIENTTAM_COLUMNS = ("MOSE val", "DAVIS 2017 val", "SA-V test", "YouTube-VOS 2019 val")

PUBLISHED_RESULTS: tuple[PublishedResult, ...] = (
    *_make_results(_SAM2_URL, True, "released", ("SA-V test", "MOSE val", "LVOS v2"), {
        "sam2.1_t.pt": (76.5, 71.8, 77.3),
        "sam2.1_s.pt": (76.6, 73.5, 78.3),
        "sam2.1_b.pt": (78.2, 73.7, 78.2),
        "sam2.1_l.pt": (79.5, 74.6, 80.6),
        "sam2_t.pt": (75.0, 70.9, 75.3),
        "sam2_s.pt": (74.9, 71.5, 76.4),
        "sam2_b.pt": (74.7, 72.8, 75.8),
        "sam2_l.pt": (76.0, 74.6, 79.8),
    }),
    *_make_results(_PAPER_URL, False, "released", ("DAVIS 2017 val", "YouTube-VOS 2019 val"), {
        "sam2_b.pt": (88.9, 87.9),
    }),
    *_make_results(_EDGETAM_URL, True, "paper", _EDGETAM_COLUMNS, {
        "SAM 2 base+": (75.8, 90.9, 73.6, 74.1, 88.4),
        "SAM 2.1 base+": (76.6, 90.2, 76.8, 77.0, 88.6),
    }),
    *_make_results(_EDGETAM_URL, False, "paper", _EDGETAM_COLUMNS, {
        "SAM 2 large": (77.2, 91.6, 75.6, 77.6, 89.1),
        "SAM 2.1 large": (77.9, 90.7, 77.9, 78.4, 89.3),
    }),
    *_make_results(_EDGETAM_URL, True, "other", _EDGETAM_COLUMNS, {
        "XMem": (59.6, 86.0, 60.1, 62.3, 85.6),
        "DEVA": (66.0, 87.0, 55.4, 56.2, 85.4),
        "Cutie-base": (69.9, 87.9, 60.7, 62.7, 87.0),
        "Cutie-base+": (71.7, 88.1, 61.3, 62.8, 87.5),
        "EdgeTAM": (70.0, 87.7, 72.3, 71.7, 86.2),
    }),
    *_make_results(_EFFICIENTTAM_URL, False, "other", _EFFICIENTTAM_COLUMNS, {
        "EfficientTAM Ti/2": (68.4, 88.4, 70.8, 87.1),
        "EfficientTAM Ti": (69.3, 89.1, 70.7, 86.7),
        "EfficientTAM S/2": (70.8, 88.6, 74.0, 87.2),
        "EfficientTAM S": (71.4, 89.2, 74.5, 87.2),
    }),
    *_make_results(_SAM2LONG_URL, True, "other", ("SA-V val", "SA-V test", "LVOS v2"), {
        "SAM2Long on 2.1 tiny": (78.9, 79.0, 82.4),
        "SAM2Long on 2.1 small": (79.6, 80.4, 84.3),
        "SAM2Long on 2.1 base+": (80.5, 80.8, 85.2),
        "SAM2Long on 2.1 large": (81.1, 81.2, 85.3),
        "SAM2Long on 2 large": (80.8, 80.8, 85.2),
    }),
)  # fmt: skip
"""Every figure, by family."""


DATASET_OF_BENCHMARK = {
    "DAVIS 2017 val": "davis17",
    "SA-V val": "sav_val",
    "SA-V test": "sav_test",
    "YouTube-VOS 2019 val": "ytvos19",
    "MOSE val": "mose",
    "LVOS v2": "lvos",
}
"""The keys of `BENCHMARK_DATASETS`."""
SEEN_OPTIONS = {"ytvos": "--seen", "lvos": "--unseen"}
"""Benchmarks whose figures are means of seen and unseen groups, and the option that defines these."""
MAX_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Comparability:
    """A data set with published figures, and why a score does not compare with them; no reasons: it does."""

    benchmark: str
    num_videos: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        if self.reasons:
            return f"{self.benchmark}: figures do not compare. " + " ".join(f"{reason}." for reason in self.reasons)
        return f"{self.benchmark}: figures compare; all {self.num_videos} videos of it were scored."


def check_comparability(score: BenchmarkScore, truth: Path, prompt: str = "") -> list[Comparability]:
    """Check for each data set with published figures whether a score compares with them.

    Its videos are those of its list, if that is at `truth` or above it; otherwise only their number is compared.
    `prompt` is the prompt of the objects, if it is known.

    Example:
        >>> print(check_comparability(score_predictions("davis17", "predictions", "DAVIS"), Path("DAVIS"))[0])
        DAVIS 2017 val: figures compare; all 30 videos of it were scored.
    """
    reasons = (
        [] if prompt in ("", "mask") else [f"Objects were prompted by {prompt}, in published figures by their mask"]
    )
    if score.benchmark in SEEN_OPTIONS and any(one.seen is None for one in score.objects):
        option = SEEN_OPTIONS[score.benchmark]
        reasons.append(f"It is unknown what was seen in training, so everything is one group: name {option}")
    videos = {one.sequence for one in score.objects} | {name.rsplit("/", 1)[0] for name in score.skipped_objects}
    return [_check_videos(name, videos, truth, reasons) for name in PUBLISHED_BENCHMARKS.get(score.benchmark, ())]


def _check_videos(benchmark: str, videos: set[str], truth: Path, reasons: Sequence[str]) -> Comparability:
    parts = BENCHMARK_DATASETS[DATASET_OF_BENCHMARK[benchmark]].requirements
    listed = next((part for part in parts if isinstance(part, ListRequirement) and part.path_templates), None)
    count = listed.count if listed else next(part.count for part in parts if isinstance(part, FolderRequirement))
    names: Collection[str] | None = None
    if listed:  # its list may be at the truth or above it
        folders = (truth, *list(truth.resolve().parents)[:3])
        file = next((folder / name for folder in folders for name in listed.files if (folder / name).is_file()), None)
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, SourceError):
            names = None if file is None else listed.read_names(file)
    mismatches = []
    if names is None or len(names) != count:
        if len(videos) != count:
            mismatches.append(f"It has {count} videos, and {len(videos)} were scored")
    else:
        if missing := sorted(set(names) - videos):
            shown = ", ".join(missing[:MAX_NAMES_SHOWN]) + (", ..." if len(missing) > MAX_NAMES_SHOWN else "")
            mismatches.append(f"Of its {len(set(names))} videos {len(missing)} were not scored ({shown})")
        if others := videos - set(names):
            mismatches.append(f"{len(others)} of the videos that were scored are not of it")
    return Comparability(benchmark, count, (*mismatches, *reasons))
