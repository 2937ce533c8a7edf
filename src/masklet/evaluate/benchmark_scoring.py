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
         that rounded to four places. J, F and V are means over objects; where it is known which films are unseen, the
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

from masklet.datasets.files import any_file, files_in, folders_in
from masklet.datasets.formats.davis import listed_names
from masklet.datasets.label_maps import UNJUDGED, black_and_white, ids_in, read_labels
from masklet.errors import InputError, SourceError
from masklet.evaluate.benchmark_lists import Tell, frames_of_lvos, seen_categories, unseen_films
from masklet.evaluate.metrics import (
    Measured,
    ScoredObject,
    boundary_f,
    region_j,
    statistics,
    sum_davis,
    sum_lvos,
    sum_sav,
    sum_ytvos,
)
from masklet.media.image import said_size

__all__ = ["SCORES", "Measured", "Score", "ScoreOptions", "ScoredObject", "folders", "masks_on", "score"]

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]


MERGED = "all"
"""The id of the object that all others are merged into."""
Measures = Mapping[str, Sequence[Measured]]
"""By object, J and F of each measured frame."""


@dataclass(frozen=True)
class ScoreOptions:
    """What of a benchmark is scored.

    `subset` is a list of ImageSets (davis17, davis16). `seen` names the categories that were trained on (ytvos): the
    meta.json of the training set, or a text of names. `unseen` is a text with the names of unseen films (lvos), by
    default unseen_videos.txt beside the truth. `partial` scores those sequences that are predicted, where all are
    needed otherwise, and `names` only those named. `every_frame` measures the first and the last frame too (sav).
    `workers` are sequences at once.
    """

    subset: str | None = None
    seen: Path | None = None
    partial: bool = False
    every_frame: bool = False
    workers: int = 1
    names: tuple[str, ...] | None = None
    unseen: Path | None = None


@dataclass(frozen=True)
class Score:
    """The figures of a benchmark by their names, and what they are made of.

    Example:
        >>> score("davis17", "predictions", "DAVIS").figures["J&F"]
        0.889
    """

    kind: str
    figures: dict[str, float]
    objects: tuple[ScoredObject, ...]
    left_out: tuple[str, ...] = ()
    """Objects that the truth shows on no measured frame."""

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def score(
    kind: str,
    predictions: str | Path,
    truth: str | Path,
    options: ScoreOptions = ScoreOptions(),
    step: Callable[[], None] | None = None,
) -> Score:
    """Score a folder of predictions by the rules of "davis17", "davis16", "sav", "ytvos", "mose" or "lvos".

    `step` is called after every sequence.

    Example:
        >>> score("sav", "predictions", "sav_val").figures
        {'J&F': 0.777, 'J': 0.742, 'F': 0.812}

    Raises:
        InputError: an unknown kind, or options that it has no use for.
        SourceError: a prediction or a truth that is missing, damaged, of another size, or has ids it must not have.
    """
    found = _checked(kind, options)
    shown, true = folders(kind, predictions, truth)
    names = list(options.names or _names(Path(truth).expanduser(), true, options.subset))
    wanted = [name for name in names if (shown / name).is_dir()] if options.partial else names
    if not wanted:
        raise SourceError(f"{shown} has no folder of the {len(names)} sequences of {truth}; name each like its truth")

    def one(name: str) -> Measures:
        measures = found.measure(_folder(shown, name, len(wanted)), true / name, options)
        if step is not None:
            step()
        return measures

    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        every = list(pool.map(one, wanted))
    return _summed(kind, Path(truth).expanduser(), dict(zip(wanted, every, strict=True)), options)


def folders(kind: str, predictions: str | Path, truth: str | Path) -> tuple[Path, Path]:
    """Where the sequences are, of the predictions and of the truth.

    Example:
        >>> folders("davis17", "predictions", "DAVIS")
        (PosixPath('predictions'), PosixPath('DAVIS/Annotations/480p'))

    Raises:
        SourceError: there is no truth of this kind.
    """
    shown = Path(predictions).expanduser()
    below = shown / "Annotations"
    return below if below.is_dir() else shown, _truth(Path(truth).expanduser(), kind)


def masks_on(folder: Path, number: str, frame: str) -> Mask:
    """One object (H, W) on one frame, of the `folder` of a sequence of either layout; as `score` sees it.

    Example:
        >>> masks_on(Path("DAVIS/Annotations/480p/bear"), "1", "00004").sum()
        32154

    Raises:
        SourceError: there is no such file, or it is damaged.
    """
    if (folder / number).is_dir():
        return np.asarray(read_labels(folder / number / f"{frame}.png") > 0)
    labels = read_labels(folder / f"{frame}.png")
    if number == MERGED:
        return _any_object(labels, white=black_and_white(ids_in(labels)))
    if number == "1" and black_and_white(ids_in(labels)):  # DAVIS 2016
        return np.asarray(labels == UNJUDGED)
    return np.asarray(labels == int(number))


def _checked(kind: str, options: ScoreOptions) -> _Kind:
    if kind not in SCORES:
        raise InputError(f"kind={kind!r} is unknown; choose {', '.join(map(repr, SCORES))}")
    given = [name for name in ("subset", "seen", "unseen") if getattr(options, name) is not None]
    given += ["every_frame"] if options.every_frame else []
    wrong = [name for name in given if name not in SCORES[kind].takes]
    if wrong:
        allowed = ", ".join(SCORES[kind].takes)
        raise InputError(f"{wrong[0]} means nothing for {kind!r}, which takes {allowed}: leave it out")
    return SCORES[kind]


def _truth(root: Path, kind: str) -> Path:
    """The folder of the sequences."""
    tops = [root / SCORES[kind].annotations / "480p", root / SCORES[kind].annotations, root]
    found = next((top for top in tops if top.is_dir() and any(any_file(f, "**/*.png") for f in folders_in(top))), None)
    if found is None:
        raise SourceError(
            f"{root} holds no truth; allowed is {SCORES[kind].annotations}/ with a folder of *.png for each sequence, "
            "or those folders alone: check the path"
        )
    return found


def _names(root: Path, truth: Path, subset: str | None) -> list[str]:
    there = [folder.name for folder in folders_in(truth)]
    if subset is None:
        return there
    fitting = [root / "ImageSets" / f"{subset}.txt", root / "ImageSets" / "2017" / f"{subset}.txt"]
    file = next((file for file in fitting if file.is_file()), None)
    if file is None:
        raise SourceError(f"{root} has no list {subset!r} (looked for {fitting[1]}); name another, or none for all")
    listed = listed_names(file)
    lacking = [name for name in listed if name not in there]
    if lacking:
        raise SourceError(f"{truth / lacking[0]} is missing; {file.name} names it: complete the truth")
    return listed


def _folder(predictions: Path, name: str, count: int) -> Path:
    if not (predictions / name).is_dir():
        raise SourceError(
            f"{predictions / name} is missing; each of the {count} sequences has a folder: predict it, or score those "
            "that are there (partial)"
        )
    return predictions / name


def _of_davis(predicted: Path, truth: Path, options: ScoreOptions) -> Measures:
    files = _annotations(truth)
    first = read_labels(files[0])
    if black_and_white(ids_in(first)):  # DAVIS 2016
        return {"1": _of_one(predicted, files)}
    count = int(max((n for n in ids_in(first) if n != UNJUDGED), default=0))
    measures: dict[str, list[Measured]] = {str(n): [] for n in range(1, count + 1)}
    for file in files[1:-1]:
        shown, true = _pair(predicted / file.name, file)
        if shown.max() > count:
            raise SourceError(
                f"{predicted / file.name} has the id {shown.max()}; the objects of {truth.name} are 1 to {count}: "
                "write no other"
            )
        for n in range(1, count + 1):
            measures[str(n)].append(_measured(file, shown == n, true == n))
    return measures


def _of_davis_merged(predicted: Path, truth: Path, options: ScoreOptions) -> Measures:
    return {MERGED: _of_one(predicted, _annotations(truth))}


def _of_one(predicted: Path, files: Sequence[Path]) -> list[Measured]:
    white = black_and_white(ids_in(read_labels(files[0])))
    pairs = ((file, *_pair(predicted / file.name, file)) for file in files[1:-1])
    return [_measured(file, shown > 0, _any_object(true, white=white)) for file, shown, true in pairs]


def _any_object(labels: Labels, *, white: bool) -> Mask:
    """What is of an object: white, or any id but 255."""
    return np.asarray(labels > UNJUDGED // 2 if white else (labels > 0) & (labels != UNJUDGED))


def _of_sav(predicted: Path, truth: Path, options: ScoreOptions) -> Measures:
    if not folders_in(truth):
        return _of_sav_maps(predicted, truth, options)
    measures: dict[str, Sequence[Measured]] = {}
    for folder in folders_in(truth):
        one = _of_sav_maps(predicted / folder.name, folder, options, sole=True)
        measures[folder.name] = one.get("1", ())
    return measures


def _of_sav_maps(predicted: Path, truth: Path, options: ScoreOptions, *, sole: bool = False) -> Measures:
    files = _annotations(truth)
    measures: dict[int, list[Measured]] = {}
    in_truth: set[int] = set()
    for file in files if options.every_frame else files[1:-1]:
        shown, true = _pair(predicted / file.name, file)
        if sole:
            shown, true = _alone(shown, predicted / file.name), _alone(true, file)
        in_truth.update(ids_in(true))
        for number in {*measures, *ids_in(true), *ids_in(shown)}:
            measures.setdefault(number, []).append(_measured(file, shown == number, true == number))
    return {str(number): measures[number] for number in sorted(in_truth)}


def _of_ytvos(predicted: Path, truth: Path, options: ScoreOptions) -> Measures:
    measures: dict[str, list[Measured]] = {}
    for file in _annotations(truth):
        true = read_labels(file)
        if measures:
            shown, true = _pair(predicted / file.name, file)
            for number, own in measures.items():
                own.append(_measured(file, shown == int(number), true == int(number)))
        for n in ids_in(true):
            if n != UNJUDGED:
                measures.setdefault(str(n), [])
    return measures


def _of_lvos(predicted: Path, truth: Path, options: ScoreOptions) -> Measures:
    files = _annotations(truth)
    frames = frames_of_lvos(truth, [file.stem for file in files]) or _from_the_first(files)
    measures: dict[str, list[Measured]] = {number: [] for number in frames}
    for file in files:
        numbers = [number for number, own in frames.items() if file.stem in own]
        if numbers:
            shown, true = _pair(predicted / file.name, file)
        for number in numbers:
            measures[number].append(_measured(file, shown == int(number), true == int(number)))
    return measures


def _from_the_first(files: Sequence[Path]) -> dict[str, list[str]]:
    """By object, the frames behind the first that shows it, but the last."""
    frames: dict[str, list[str]] = {}
    for place, file in enumerate(files):
        for number in ids_in(read_labels(file)):
            if number != UNJUDGED:
                frames.setdefault(str(number), [behind.stem for behind in files[place + 1 : -1]])
    return dict(sorted(frames.items()))


def _annotations(truth: Path) -> list[Path]:
    files = files_in(truth, (".png",))
    if not files:
        raise SourceError(
            f"{truth} has no *.png; a sequence of the truth has one for each annotated frame: complete it"
        )
    return files


def _pair(predicted: Path, truth: Path) -> tuple[Labels, Labels]:
    if not predicted.is_file():
        raise SourceError(f"{predicted} is missing; {truth} is measured: every measured frame needs its prediction")
    shown, true = read_labels(predicted), read_labels(truth)
    if shown.shape != true.shape:
        raise SourceError(
            f"{predicted} is {said_size(shown.shape)} and {truth} is {said_size(true.shape)}; both are of the size of "
            "the picture: predict at that size"
        )
    return shown, true


def _alone(labels: Labels, file: Path) -> Labels:
    """A map of 0 and one value as 0 and 1."""
    if len(ids_in(labels)) > 1:
        raise SourceError(f"{file} has ids {ids_in(labels)}; a file of SA-V holds one object: write a folder for each")
    return (labels > 0).astype(np.uint8)


def _measured(file: Path, shown: Mask, truth: Mask) -> Measured:
    return Measured(file.stem, region_j(shown, truth), boundary_f(shown, truth))


def _summed(kind: str, root: Path, every: Mapping[str, Measures], options: ScoreOptions) -> Score:
    seen = SCORES[kind].seen(root, options)
    objects, left_out = [], []
    for name, measures in every.items():
        for number, own in measures.items():
            if not own:
                left_out.append(f"{name}/{number}")
                continue
            j, f = statistics([one.j for one in own]), statistics([one.f for one in own])
            objects.append(ScoredObject(name, number, len(own), j, f, seen(name, number), tuple(own)))
    if not objects:
        raise SourceError(f"no object of {root} is seen on a measured frame, so there is nothing to score")
    return Score(kind, SCORES[kind].sum(objects), tuple(objects), tuple(left_out))


def _unasked(root: Path, options: ScoreOptions) -> Tell:
    return lambda sequence, number: None


@dataclass(frozen=True)
class _Kind:
    """A benchmark: how a sequence is measured, objects become figures, and which options mean something."""

    annotations: str
    measure: Callable[[Path, Path, ScoreOptions], Measures]
    sum: Callable[[Sequence[ScoredObject]], dict[str, float]]
    takes: tuple[str, ...]
    seen: Callable[[Path, ScoreOptions], Tell] = _unasked


SCORES = {
    "davis17": _Kind("Annotations", _of_davis, sum_davis, ("subset", "partial", "workers")),
    "davis16": _Kind("Annotations", _of_davis_merged, sum_davis, ("subset", "partial", "workers")),
    "sav": _Kind("Annotations_6fps", _of_sav, sum_sav, ("every_frame", "partial", "workers")),
    "ytvos": _Kind(
        "Annotations",
        _of_ytvos,
        sum_ytvos,
        ("seen", "partial", "workers"),
        lambda root, options: seen_categories(root, options.seen),
    ),
    "mose": _Kind("Annotations", _of_davis, sum_davis, ("partial", "workers")),
    "lvos": _Kind(
        "Annotations",
        _of_lvos,
        sum_lvos,
        ("unseen", "partial", "workers"),
        lambda root, options: unseen_films(root, options.unseen),
    ),
}
"""Benchmarks, by name."""
