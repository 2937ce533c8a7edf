"""Folders of predictions beside the truth, scored as the authors of each benchmark score them.

davis17  PREDICTIONS/SEQ/00000.png, label maps; the truth in the layout of DAVIS 2017, or SEQ/*.png alone. The objects
         of a sequence are 1 to the largest id of its first annotation; the first and the last frame are not measured;
         255 in the truth is background; an id above those of the objects is an error. J and F have mean, recall and
         decay, each a mean over objects (davis2017-evaluation, semi-supervised).
davis16  As davis17, but all that is annotated is one object, and all that is predicted: white, or ids of any number.
sav      PREDICTIONS/VIDEO/000/00000.png, black and white, a folder an object; or label maps as davis17. The first and
         the last annotated frame are not measured, and an object is measured from the first of the others on that
         shows it, in the truth or in the prediction. An object that the truth shows on none of them is left out. J and
         F are means over objects (sav_evaluator of facebookresearch/sam2).
ytvos    PREDICTIONS/VIDEO/00000.png, label maps; the truth Annotations/VIDEO/*.png with meta.json. An object is
         measured on every annotated frame after the first that shows it. J and F are means over the objects of
         categories that were seen in training and over those that were not, and the overall figure is the mean of the
         four (Xu et al. 2018). The code of the benchmark's server is not public: this is its definition as published.
mose     As davis17, whose definition MOSE took over.
lvos     The truth Annotations/VIDEO/*.png with valid_meta.json, which has a range of frames for each object. An object
         is measured on each of them but the first, on which it is told, and the last; without that list, on the frames
         behind the first that shows it, but the last. V is how far its J&F is from its mean over time, the square of
         that rounded to four places. J, F and V are means over objects; where it is known which videos are unseen, the
         mean of the figures of seen and of unseen ones (lvos-evaluation, semi-supervised).

Figures are 0 to 1. In none of them does masklet settle overlaps or leave out places that nobody judges: that is how
`masklet.evaluate.semi_supervised_vos` differs.

Shapes: T frames, H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.datasets.files import files_in, folders_in, has_matching_file
from masklet.datasets.formats.davis import read_split_list
from masklet.datasets.label_maps import IGNORE_LABEL, is_binary_mask, read_label_map, unique_ids
from masklet.errors import InputError, SourceError
from masklet.evaluate.benchmark_lists import SeenLookup, lvos_measured_frames, seen_categories, unseen_videos
from masklet.evaluate.metrics import (
    FrameScore,
    ObjectScore,
    boundary_f_score,
    davis_statistics,
    region_similarity,
    summarize_davis,
    summarize_lvos,
    summarize_sav,
    summarize_ytvos,
)
from masklet.media.image import format_size

__all__ = [
    "BENCHMARK_RULES",
    "BenchmarkOptions",
    "BenchmarkScore",
    "FrameScore",
    "ObjectScore",
    "read_object_mask",
    "score_predictions",
    "sequence_dirs",
]

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]


ALL_OBJECTS_ID = "all"
"""The id of the object that all others are merged into."""
FrameScores = Mapping[str, Sequence[FrameScore]]
"""By object, J and F of each measured frame."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What of a benchmark is scored.

    `subset` is a list of ImageSets (davis17, davis16). `seen` names the categories that were trained on (ytvos): the
    meta.json of the training set, or a text of names. `unseen` is a text with the names of unseen videos (lvos), by
    default unseen_videos.txt beside the truth. `partial` scores those sequences that are predicted, where all are
    needed otherwise, and `names` only those named. `every_frame` measures the first and the last frame too (sav).
    `workers` are sequences at once.
    """

    subset: str | None = None
    seen_list: Path | None = None
    allow_missing: bool = False
    include_first_last: bool = False
    workers: int = 1
    sequences: tuple[str, ...] | None = None
    unseen_list: Path | None = None


@dataclass(frozen=True)
class BenchmarkScore:
    """The figures of a benchmark by their names, and what they are made of.

    Example:
        >>> score("davis17", "predictions", "DAVIS").figures["J&F"]
        0.889
    """

    benchmark: str
    metrics: dict[str, float]
    objects: tuple[ObjectScore, ...]
    skipped_objects: tuple[str, ...] = ()
    """Objects that the truth shows on no measured frame."""

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def score_predictions(
    benchmark: str,
    predictions: str | Path,
    truth: str | Path,
    options: BenchmarkOptions = BenchmarkOptions(),
    on_progress: Callable[[], None] | None = None,
) -> BenchmarkScore:
    """Score a folder of predictions by the rules of "davis17", "davis16", "sav", "ytvos", "mose" or "lvos".

    `step` is called after every sequence.

    Example:
        >>> score("sav", "predictions", "sav_val").figures
        {'J&F': 0.777, 'J': 0.742, 'F': 0.812}

    Raises:
        InputError: an unknown kind, or options that it has no use for.
        SourceError: a prediction or a truth that is missing, damaged, of another size, or has ids it must not have.
    """
    found = _get_rules(benchmark, options)
    shown, true = sequence_dirs(benchmark, predictions, truth)
    names = list(options.sequences or _sequence_names(Path(truth).expanduser(), true, options.subset))
    wanted = [name for name in names if (shown / name).is_dir()] if options.allow_missing else names
    if not wanted:
        raise SourceError(f"{shown} has no folder of the {len(names)} sequences of {truth}; name each like its truth")

    def one(name: str) -> FrameScores:
        measures = found.score_sequence(_prediction_dir(shown, name, len(wanted)), true / name, options)
        if on_progress is not None:
            on_progress()
        return measures

    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        every = list(pool.map(one, wanted))
    return _summarize(benchmark, Path(truth).expanduser(), dict(zip(wanted, every, strict=True)), options)


def sequence_dirs(benchmark: str, predictions: str | Path, truth: str | Path) -> tuple[Path, Path]:
    """Where the sequences are, of the predictions and of the truth.

    Example:
        >>> folders("davis17", "predictions", "DAVIS")
        (PosixPath('predictions'), PosixPath('DAVIS/Annotations/480p'))

    Raises:
        SourceError: there is no truth of this kind.
    """
    shown = Path(predictions).expanduser()
    below = shown / "Annotations"
    return below if below.is_dir() else shown, _find_truth_dir(Path(truth).expanduser(), benchmark)


def read_object_mask(folder: Path, object_id: str, frame: str) -> Mask:
    """One object (H, W) on one frame, of the `folder` of a sequence of either layout; as `score` sees it.

    Example:
        >>> masks_on(Path("DAVIS/Annotations/480p/bear"), "1", "00004").sum()
        32154

    Raises:
        SourceError: there is no such file, or it is damaged.
    """
    if (folder / object_id).is_dir():
        return np.asarray(read_label_map(folder / object_id / f"{frame}.png") > 0)
    labels = read_label_map(folder / f"{frame}.png")
    if object_id == ALL_OBJECTS_ID:
        return _foreground(labels, white=is_binary_mask(unique_ids(labels)))
    if object_id == "1" and is_binary_mask(unique_ids(labels)):  # DAVIS 2016
        return np.asarray(labels == IGNORE_LABEL)
    return np.asarray(labels == int(object_id))


def _get_rules(benchmark: str, options: BenchmarkOptions) -> _BenchmarkRules:
    if benchmark not in BENCHMARK_RULES:
        raise InputError(f"kind={benchmark!r} is unknown; choose {', '.join(map(repr, BENCHMARK_RULES))}")
    given = [name for name in ("subset", "seen", "unseen") if getattr(options, name) is not None]
    given += ["every_frame"] if options.include_first_last else []
    wrong = [name for name in given if name not in BENCHMARK_RULES[benchmark].allowed_options]
    if wrong:
        allowed = ", ".join(BENCHMARK_RULES[benchmark].allowed_options)
        raise InputError(f"{wrong[0]} means nothing for {benchmark!r}, which takes {allowed}: leave it out")
    return BENCHMARK_RULES[benchmark]


def _find_truth_dir(root: Path, benchmark: str) -> Path:
    """The folder of the sequences."""
    tops = [
        root / BENCHMARK_RULES[benchmark].annotation_dir / "480p",
        root / BENCHMARK_RULES[benchmark].annotation_dir,
        root,
    ]
    found = next(
        (top for top in tops if top.is_dir() and any(has_matching_file(f, "**/*.png") for f in folders_in(top))), None
    )
    if found is None:
        raise SourceError(
            f"{root} holds no truth; allowed is {BENCHMARK_RULES[benchmark].annotation_dir}/ with a folder of *.png for each sequence, "  # noqa: E501
            "or those folders alone: check the path"
        )
    return found


def _sequence_names(root: Path, truth: Path, subset: str | None) -> list[str]:
    there = [folder.name for folder in folders_in(truth)]
    if subset is None:
        return there
    fitting = [root / "ImageSets" / f"{subset}.txt", root / "ImageSets" / "2017" / f"{subset}.txt"]
    file = next((file for file in fitting if file.is_file()), None)
    if file is None:
        raise SourceError(f"{root} has no list {subset!r} (looked for {fitting[1]}); name another, or none for all")
    listed = read_split_list(file)
    lacking = [name for name in listed if name not in there]
    if lacking:
        raise SourceError(f"{truth / lacking[0]} is missing; {file.name} names it: complete the truth")
    return listed


def _prediction_dir(predictions: Path, name: str, count: int) -> Path:
    if not (predictions / name).is_dir():
        raise SourceError(
            f"{predictions / name} is missing; each of the {count} sequences has a folder: predict it, or score those "
            "that are there (partial)"
        )
    return predictions / name


def _score_davis(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    files = _annotation_files(truth)
    first = read_label_map(files[0])
    if is_binary_mask(unique_ids(first)):  # DAVIS 2016
        return {"1": _score_single_object(predicted, files)}
    count = int(max((n for n in unique_ids(first) if n != IGNORE_LABEL), default=0))
    measures: dict[str, list[FrameScore]] = {str(n): [] for n in range(1, count + 1)}
    for file in files[1:-1]:
        shown, true = _read_pair(predicted / file.name, file)
        if shown.max() > count:
            raise SourceError(
                f"{predicted / file.name} has the id {shown.max()}; the objects of {truth.name} are 1 to {count}: "
                "write no other"
            )
        for n in range(1, count + 1):
            measures[str(n)].append(_score_frame(file, shown == n, true == n))
    return measures


def _score_davis_merged(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    return {ALL_OBJECTS_ID: _score_single_object(predicted, _annotation_files(truth))}


def _score_single_object(predicted: Path, files: Sequence[Path]) -> list[FrameScore]:
    white = is_binary_mask(unique_ids(read_label_map(files[0])))
    pairs = ((file, *_read_pair(predicted / file.name, file)) for file in files[1:-1])
    return [_score_frame(file, shown > 0, _foreground(true, white=white)) for file, shown, true in pairs]


def _foreground(labels: Labels, *, white: bool) -> Mask:
    """What is of an object: white, or any id but 255."""
    return np.asarray(labels > IGNORE_LABEL // 2 if white else (labels > 0) & (labels != IGNORE_LABEL))


def _score_sav(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    if not folders_in(truth):
        return _score_sav_label_maps(predicted, truth, options)
    measures: dict[str, Sequence[FrameScore]] = {}
    for folder in folders_in(truth):
        one = _score_sav_label_maps(predicted / folder.name, folder, options, single_object=True)
        measures[folder.name] = one.get("1", ())
    return measures


def _score_sav_label_maps(
    predicted: Path, truth: Path, options: BenchmarkOptions, *, single_object: bool = False
) -> FrameScores:
    files = _annotation_files(truth)
    measures: dict[int, list[FrameScore]] = {}
    in_truth: set[int] = set()
    for file in files if options.include_first_last else files[1:-1]:
        shown, true = _read_pair(predicted / file.name, file)
        if single_object:
            shown, true = _single_object_map(shown, predicted / file.name), _single_object_map(true, file)
        in_truth.update(unique_ids(true))
        for number in {*measures, *unique_ids(true), *unique_ids(shown)}:
            measures.setdefault(number, []).append(_score_frame(file, shown == number, true == number))
    return {str(number): measures[number] for number in sorted(in_truth)}


def _score_ytvos(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    measures: dict[str, list[FrameScore]] = {}
    for file in _annotation_files(truth):
        true = read_label_map(file)
        if measures:
            shown, true = _read_pair(predicted / file.name, file)
            for number, own in measures.items():
                own.append(_score_frame(file, shown == int(number), true == int(number)))
        for n in unique_ids(true):
            if n != IGNORE_LABEL:
                measures.setdefault(str(n), [])
    return measures


def _score_lvos(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    files = _annotation_files(truth)
    frames = lvos_measured_frames(truth, [file.stem for file in files]) or _frames_after_first(files)
    measures: dict[str, list[FrameScore]] = {number: [] for number in frames}
    for file in files:
        numbers = [number for number, own in frames.items() if file.stem in own]
        if numbers:
            shown, true = _read_pair(predicted / file.name, file)
        for number in numbers:
            measures[number].append(_score_frame(file, shown == int(number), true == int(number)))
    return measures


def _frames_after_first(files: Sequence[Path]) -> dict[str, list[str]]:
    """By object, the frames behind the first that shows it, but the last."""
    frames: dict[str, list[str]] = {}
    for place, file in enumerate(files):
        for number in unique_ids(read_label_map(file)):
            if number != IGNORE_LABEL:
                frames.setdefault(str(number), [behind.stem for behind in files[place + 1 : -1]])
    return dict(sorted(frames.items()))


def _annotation_files(truth: Path) -> list[Path]:
    files = files_in(truth, (".png",))
    if not files:
        raise SourceError(
            f"{truth} has no *.png; a sequence of the truth has one for each annotated frame: complete it"
        )
    return files


def _read_pair(predicted: Path, truth: Path) -> tuple[Labels, Labels]:
    if not predicted.is_file():
        raise SourceError(f"{predicted} is missing; {truth} is measured: every measured frame needs its prediction")
    shown, true = read_label_map(predicted), read_label_map(truth)
    if shown.shape != true.shape:
        raise SourceError(
            f"{predicted} is {format_size(shown.shape)} and {truth} is {format_size(true.shape)}; both are of the size of "  # noqa: E501
            "the image: predict at that size"
        )
    return shown, true


def _single_object_map(labels: Labels, file: Path) -> Labels:
    """A map of 0 and one value as 0 and 1."""
    if len(unique_ids(labels)) > 1:
        raise SourceError(
            f"{file} has ids {unique_ids(labels)}; a file of SA-V holds one object: write a folder for each"
        )
    return (labels > 0).astype(np.uint8)


def _score_frame(file: Path, predicted: Mask, truth: Mask) -> FrameScore:
    return FrameScore(file.stem, region_similarity(predicted, truth), boundary_f_score(predicted, truth))


def _summarize(
    benchmark: str, root: Path, measures_by_sequence: Mapping[str, FrameScores], options: BenchmarkOptions
) -> BenchmarkScore:
    seen = BENCHMARK_RULES[benchmark].seen_lookup(root, options)
    objects, left_out = [], []
    for name, measures in measures_by_sequence.items():
        for number, own in measures.items():
            if not own:
                left_out.append(f"{name}/{number}")
                continue
            j, f = davis_statistics([one.j for one in own]), davis_statistics([one.f for one in own])
            objects.append(ObjectScore(name, number, len(own), j, f, seen(name, number), tuple(own)))
    if not objects:
        raise SourceError(f"no object of {root} is seen on a measured frame, so there is nothing to score")
    return BenchmarkScore(benchmark, BENCHMARK_RULES[benchmark].summarize(objects), tuple(objects), tuple(left_out))


def _seen_unknown(root: Path, options: BenchmarkOptions) -> SeenLookup:
    return lambda sequence, number: None


@dataclass(frozen=True)
class _BenchmarkRules:
    """A benchmark: how a sequence is measured, objects become figures, and which options mean something."""

    annotation_dir: str
    score_sequence: Callable[[Path, Path, BenchmarkOptions], FrameScores]
    summarize: Callable[[Sequence[ObjectScore]], dict[str, float]]
    allowed_options: tuple[str, ...]
    seen_lookup: Callable[[Path, BenchmarkOptions], SeenLookup] = _seen_unknown


BENCHMARK_RULES = {
    "davis17": _BenchmarkRules("Annotations", _score_davis, summarize_davis, ("subset", "partial", "workers")),
    "davis16": _BenchmarkRules("Annotations", _score_davis_merged, summarize_davis, ("subset", "partial", "workers")),
    "sav": _BenchmarkRules("Annotations_6fps", _score_sav, summarize_sav, ("every_frame", "partial", "workers")),
    "ytvos": _BenchmarkRules(
        "Annotations",
        _score_ytvos,
        summarize_ytvos,
        ("seen", "partial", "workers"),
        lambda root, options: seen_categories(root, options.seen_list),
    ),
    "mose": _BenchmarkRules("Annotations", _score_davis, summarize_davis, ("partial", "workers")),
    "lvos": _BenchmarkRules(
        "Annotations",
        _score_lvos,
        summarize_lvos,
        ("unseen", "partial", "workers"),
        lambda root, options: unseen_videos(root, options.unseen_list),
    ),
}
"""Benchmarks, by name."""
