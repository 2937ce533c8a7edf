"""Score folders of predictions against the ground truth, by the rules of each benchmark's authors.

davis17  PREDICTIONS/SEQ/00000.png, label maps; the truth is a DAVIS 2017 folder, or SEQ/*.png alone. The objects of a
         sequence are 1 to the largest id of its first annotation; the first and the last frame are not measured; 255 in
         the truth is background; a larger id is an error. J and F have mean, recall and decay, each a mean over objects
         (davis2017-evaluation, semi-supervised).
davis16  As davis17, but everything annotated is one object, and everything predicted: white, or ids of any number.
sav      PREDICTIONS/VIDEO/000/00000.png, black and white, a folder for each object; or label maps as davis17. The first
         and the last annotated frame are not measured, and an object is measured from the first of the others that
         shows it, in the truth or in the prediction. An object that the truth shows on none of them is skipped. J and F
         are means over objects (sav_evaluator of facebookresearch/sam2).
ytvos    PREDICTIONS/VIDEO/00000.png, label maps; the truth is Annotations/VIDEO/*.png with meta.json. An object is
         measured on every annotated frame after the first that shows it. J and F are means over the objects of
         categories seen in training and over those of unseen ones; the overall figure is the mean of the four (Xu et
         al. 2018). The code of the benchmark's server is not public: this is the definition as published.
mose     As davis17, whose definition MOSE uses.
lvos     The truth is Annotations/VIDEO/*.png with valid_meta.json, which has a range of frames for each object. An
         object is measured on each of them except the first, which has its prompt, and the last; without that list, on
         the frames after the first that shows it, except the last. V is how far its J&F is from its mean over time; its
         square is rounded to four digits. J, F and V are means over objects; if it is known which videos are unseen,
         the mean of the figures of seen and of unseen ones (lvos-evaluation, semi-supervised).

Figures are 0 to 1. No rule resolves overlaps or skips pixels that are not evaluated: in this
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
    """Which part of a benchmark is scored, and by which lists.

    Args:
        subset: a list of ImageSets (davis17, davis16).
        seen_list: the categories seen in training (ytvos): the meta.json of the training set, or a text file of names.
        allow_missing: score only the predicted sequences; otherwise all are required.
        include_first_last: measure the first and the last frame, too (sav).
        workers: sequences at once.
        sequences: score only these.
        unseen_list: a text file with the names of unseen videos (lvos); default: unseen_videos.txt beside the truth.
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
    """The metrics of a benchmark by name, and the scores of its objects.

    Example:
        >>> score_predictions("davis17", "predictions", "DAVIS").metrics["J&F"]
        0.889
    """

    benchmark: str
    metrics: dict[str, float]
    objects: tuple[ObjectScore, ...]
    skipped_objects: tuple[str, ...] = ()
    """Objects that the truth shows on no measured frame."""

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def score_predictions(
    benchmark: str,
    predictions: str | Path,
    truth: str | Path,
    options: BenchmarkOptions = BenchmarkOptions(),
    on_progress: Callable[[], None] | None = None,
) -> BenchmarkScore:
    """Score a folder of predictions by the rules of "davis17", "davis16", "sav", "ytvos", "mose" or "lvos".

    `on_progress` is called after every sequence.

    Example:
        >>> score_predictions("sav", "predictions", "sav_val").metrics
        {'J&F': 0.777, 'J': 0.742, 'F': 0.812}

    Raises:
        InputError: if the benchmark is unknown, or does not use one of the options.
        SourceError: if a prediction or annotation is missing, damaged, of another size, or has an invalid id.
    """
    rules, root = _get_rules(benchmark, options), Path(truth).expanduser()
    predicted_dir, truth_dir = sequence_dirs(benchmark, predictions, truth)
    names = list(options.sequences or _sequence_names(root, truth_dir, options.subset))
    scored = [name for name in names if (predicted_dir / name).is_dir()] if options.allow_missing else names
    if not scored:
        raise SourceError(
            f"{predicted_dir} has no folder of the {len(names)} sequences of {truth}; name each like its truth"
        )

    def score_sequence(name: str) -> FrameScores:
        if not (predicted_dir / name).is_dir():
            raise SourceError(
                f"{predicted_dir / name} is missing; each of the {len(scored)} sequences has a folder: predict it, or "
                "score only those that exist (partial)"
            )
        scores = rules.score_sequence(predicted_dir / name, truth_dir / name, options)
        if on_progress is not None:
            on_progress()
        return scores

    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        scores_by_sequence = dict(zip(scored, pool.map(score_sequence, scored), strict=True))
    seen = rules.seen_lookup(root, options)
    objects, skipped = [], []
    for name, scores in scores_by_sequence.items():
        for number, frames in scores.items():
            if frames:
                j, f = davis_statistics([frame.j for frame in frames]), davis_statistics([frame.f for frame in frames])
                objects.append(ObjectScore(name, number, len(frames), j, f, seen(name, number), tuple(frames)))
            else:
                skipped.append(f"{name}/{number}")
    if not objects:
        raise SourceError(f"{root} shows no object on a measured frame, so there is nothing to score")
    return BenchmarkScore(benchmark, rules.summarize(objects), tuple(objects), tuple(skipped))


def sequence_dirs(benchmark: str, predictions: str | Path, truth: str | Path) -> tuple[Path, Path]:
    """Find the folders with the sequences, of the predictions and of the truth.

    Example:
        >>> sequence_dirs("davis17", "predictions", "DAVIS")
        (PosixPath('predictions'), PosixPath('DAVIS/Annotations/480p'))

    Raises:
        SourceError: if the truth of this benchmark is not there.
    """
    predicted, root = Path(predictions).expanduser(), Path(truth).expanduser()
    if (predicted / "Annotations").is_dir():
        predicted = predicted / "Annotations"
    name = BENCHMARK_RULES[benchmark].annotation_dir
    for folder in (root / name / "480p", root / name, root):
        if folder.is_dir() and any(has_matching_file(sequence, "**/*.png") for sequence in folders_in(folder)):
            return predicted, folder
    raise SourceError(
        f"{root} has no ground truth; allowed is {name}/ with a folder of *.png for each sequence, or those folders "
        "alone: check the path"
    )


def read_object_mask(folder: Path, object_id: str, frame: str) -> Mask:
    """Read the mask (H, W) of one object on one frame from the folder of a sequence, as `score_predictions` does.

    Example:
        >>> read_object_mask(Path("DAVIS/Annotations/480p/bear"), "1", "00004").sum()
        32154

    Raises:
        SourceError: if the file is missing or damaged.
    """
    if (folder / object_id).is_dir():
        return np.asarray(read_label_map(folder / object_id / f"{frame}.png") > 0)
    labels = read_label_map(folder / f"{frame}.png")
    binary = is_binary_mask(unique_ids(labels))
    if object_id == ALL_OBJECTS_ID:
        return _foreground(labels, binary=binary)
    if object_id == "1" and binary:  # DAVIS 2016
        return np.asarray(labels == IGNORE_LABEL)
    return np.asarray(labels == int(object_id))


def _get_rules(benchmark: str, options: BenchmarkOptions) -> _BenchmarkRules:
    if benchmark not in BENCHMARK_RULES:
        raise InputError(f"benchmark={benchmark!r} is unknown; choose {', '.join(map(repr, BENCHMARK_RULES))}")
    allowed = BENCHMARK_RULES[benchmark].allowed_options
    given = [name for name in ("subset", "seen_list", "unseen_list") if getattr(options, name) is not None]
    given += ["include_first_last"] if options.include_first_last else []
    unused = [name for name in given if name not in allowed]
    if unused:
        raise InputError(f"{unused[0]} has no meaning for {benchmark!r}, which takes {', '.join(allowed)}: remove it")
    return BENCHMARK_RULES[benchmark]


def _sequence_names(root: Path, truth_dir: Path, subset: str | None) -> list[str]:
    available = [folder.name for folder in folders_in(truth_dir)]
    if subset is None:
        return available
    candidates = [root / "ImageSets" / f"{subset}.txt", root / "ImageSets" / "2017" / f"{subset}.txt"]
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        raise SourceError(f"{root} has no list {subset!r} ({candidates[1]} is missing); name another, or none for all")
    listed = read_split_list(file)
    missing = [name for name in listed if name not in available]
    if missing:
        raise SourceError(f"{truth_dir / missing[0]} is missing; {file.name} lists it: complete the truth")
    return listed


def _score_davis(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    files = _annotation_files(truth)
    first = read_label_map(files[0])
    if is_binary_mask(unique_ids(first)):  # DAVIS 2016
        return {"1": _score_davis_merged(predicted, truth, options)[ALL_OBJECTS_ID]}
    count = int(max((number for number in unique_ids(first) if number != IGNORE_LABEL), default=0))
    scores: dict[str, list[FrameScore]] = {str(number): [] for number in range(1, count + 1)}
    for file in files[1:-1]:
        found, true = _read_pair(predicted / file.name, file)
        if found.max() > count:
            raise SourceError(
                f"{predicted / file.name} has the id {found.max()}; the objects of {truth.name} are 1 to {count}: "
                "write no other"
            )
        for number in range(1, count + 1):
            scores[str(number)].append(_score_frame(file, found == number, true == number))
    return scores


def _score_davis_merged(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    files = _annotation_files(truth)
    binary = is_binary_mask(unique_ids(read_label_map(files[0])))
    pairs = ((file, *_read_pair(predicted / file.name, file)) for file in files[1:-1])
    scores = [_score_frame(file, found > 0, _foreground(true, binary=binary)) for file, found, true in pairs]
    return {ALL_OBJECTS_ID: scores}


def _foreground(labels: Labels, *, binary: bool) -> Mask:
    """Return where an object is: white, or any id but 255."""
    return np.asarray(labels > IGNORE_LABEL // 2 if binary else (labels > 0) & (labels != IGNORE_LABEL))


def _score_sav(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    folders = folders_in(truth)
    if not folders:
        return _score_sav_label_maps(predicted, truth, options)
    return {
        folder.name: _score_sav_label_maps(predicted / folder.name, folder, options, single_object=True).get("1", ())
        for folder in folders
    }


def _score_sav_label_maps(
    predicted: Path, truth: Path, options: BenchmarkOptions, *, single_object: bool = False
) -> FrameScores:
    files = _annotation_files(truth)
    scores: dict[int, list[FrameScore]] = {}
    in_truth: set[int] = set()
    for file in files if options.include_first_last else files[1:-1]:
        found, true = _read_pair(predicted / file.name, file)
        if single_object:
            found, true = _single_object_map(found, predicted / file.name), _single_object_map(true, file)
        in_truth.update(unique_ids(true))
        for number in {*scores, *unique_ids(true), *unique_ids(found)}:
            scores.setdefault(number, []).append(_score_frame(file, found == number, true == number))
    return {str(number): scores[number] for number in sorted(in_truth)}


def _single_object_map(labels: Labels, file: Path) -> Labels:
    """Return a map of 0 and one value as a map of 0 and 1."""
    ids = unique_ids(labels)
    if len(ids) > 1:
        raise SourceError(f"{file} has ids {ids}; a file of SA-V has one object: write a folder for each")
    return (labels > 0).astype(np.uint8)


def _score_ytvos(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    scores: dict[str, list[FrameScore]] = {}
    for file in _annotation_files(truth):
        true = read_label_map(file)
        if scores:
            found, true = _read_pair(predicted / file.name, file)
            for number, frames in scores.items():
                frames.append(_score_frame(file, found == int(number), true == int(number)))
        for new in unique_ids(true):
            if new != IGNORE_LABEL:
                scores.setdefault(str(new), [])
    return scores


def _score_lvos(predicted: Path, truth: Path, options: BenchmarkOptions) -> FrameScores:
    files = _annotation_files(truth)
    measured = lvos_measured_frames(truth, [file.stem for file in files]) or {}
    if not measured:  # the frames after the first that shows an object, without the last
        for index, file in enumerate(files):
            for new in unique_ids(read_label_map(file)):
                if new != IGNORE_LABEL:
                    measured.setdefault(str(new), [later.stem for later in files[index + 1 : -1]])
        measured = dict(sorted(measured.items()))
    scores: dict[str, list[FrameScore]] = {number: [] for number in measured}
    for file in files:
        numbers = [number for number, frames in measured.items() if file.stem in frames]
        if numbers:
            found, true = _read_pair(predicted / file.name, file)
        for number in numbers:
            scores[number].append(_score_frame(file, found == int(number), true == int(number)))
    return scores


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
    found, true = read_label_map(predicted), read_label_map(truth)
    if found.shape != true.shape:
        raise SourceError(
            f"{predicted} is {format_size(found.shape)} and {truth} is {format_size(true.shape)}; both must have the "
            "size of the image: predict at that size"
        )
    return found, true


def _score_frame(file: Path, predicted: Mask, truth: Mask) -> FrameScore:
    return FrameScore(file.stem, region_similarity(predicted, truth), boundary_f_score(predicted, truth))


@dataclass(frozen=True)
class _BenchmarkRules:
    """How a benchmark scores a sequence and summarizes objects, and which options it uses."""

    annotation_dir: str
    score_sequence: Callable[[Path, Path, BenchmarkOptions], FrameScores]
    summarize: Callable[[Sequence[ObjectScore]], dict[str, float]]
    allowed_options: tuple[str, ...]
    seen_lookup: Callable[[Path, BenchmarkOptions], SeenLookup] = lambda root, options: lambda sequence, number: None


_ANY = ("allow_missing", "workers")
BENCHMARK_RULES = {
    "davis17": _BenchmarkRules("Annotations", _score_davis, summarize_davis, ("subset", *_ANY)),
    "davis16": _BenchmarkRules("Annotations", _score_davis_merged, summarize_davis, ("subset", *_ANY)),
    "sav": _BenchmarkRules("Annotations_6fps", _score_sav, summarize_sav, ("include_first_last", *_ANY)),
    "ytvos": _BenchmarkRules(
        "Annotations",
        _score_ytvos,
        summarize_ytvos,
        ("seen_list", *_ANY),
        lambda root, options: seen_categories(root, options.seen_list),
    ),
    "mose": _BenchmarkRules("Annotations", _score_davis, summarize_davis, _ANY),
    "lvos": _BenchmarkRules(
        "Annotations",
        _score_lvos,
        summarize_lvos,
        ("unseen_list", *_ANY),
        lambda root, options: unseen_videos(root, options.unseen_list),
    ),
}
"""The rules of each benchmark by its name."""
