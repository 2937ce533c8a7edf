"""Films of a benchmark followed from what is given, and written in its layout, for its scorer or its server.

davis17  OUT/SEQ/00000.png: every picture of a sequence, label maps with the palette of DAVIS. Objects are those of the
         first annotation.
davis16  as davis17, of the films of DAVIS 2016: all that is annotated is one object, which is told and written as 1.
ytvos    OUT/Annotations/VIDEO/00000.png: label maps of the pictures that meta.json names, or of all where there is
         none. An object is told on the first annotated picture that shows it, as valid has it.
mose     OUT/VIDEO/00000.png: as davis17, of MOSE's valid, whose truth is with its server.
lvos     OUT/VIDEO/00000001.png: label maps of every picture. An object is told on the first annotated picture that
         shows it, as those that come later in LVOS v2 are.
sav      OUT/VIDEO/000/00000.png: a folder for each object, as in Annotations_6fps, black and white, of the annotated
         pictures. Objects may overlap.

An object is told by its mask, by its tight box or by one click, once, and followed forwards beside the others with the
options of `masklet track`. Files are of the size of the pictures. Where label maps overlap the smaller object is kept.
A film whose files are all there is not followed again; `predictions.json` says what they were made with, and a folder
that was made with something else is refused. `masklet.evaluate.parallel` follows several films at once.

Shapes: H height, W width.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.atomic_files import atomic_path, write_text
from masklet.datasets import Entry, open_dataset
from masklet.datasets.dataset import PictureFilm
from masklet.datasets.formats.davis import LabelledFilm
from masklet.datasets.formats.sav import ObjectFilm
from masklet.errors import InputError, OutputError, SourceError
from masklet.evaluate.prompts_from_masks import check_prompt, first_prompt
from masklet.evaluate.semi_supervised_vos import Follows
from masklet.masks.label_map import davis_palette
from masklet.media.image import said_size
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.writers.mask_images import label_map

__all__ = ["BENCHMARKS", "Film", "films_of", "follow", "predict", "record", "zipped"]

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
BENCHMARKS = ("davis17", "davis16", "ytvos", "sav", "mose", "lvos")
AT_ONCE = ("davis17", "davis16", "mose")
"""Their objects are all told on the first annotated picture, and their truth has every picture."""
NO_SERVER = ("sav", "davis16")
"""Their truth is given out, and nobody takes predictions."""
LISTS = {"davis17": ("2017/val",), "davis16": ("480p/val", "2016/val")}
"""The lists that are meant where no other is named, the first that is there."""
PART = {"ytvos": "valid", "mose": "valid", "lvos": "valid"}
"""The folder that is meant where no other is named."""
RECORD = "predictions.json"
NOTHING: Mapping[str, str | int] = MappingProxyType({})
WHITE = 255


@dataclass(frozen=True)
class Film:
    """A film of a benchmark: its entry, its objects' names in the layout, and the pictures that are written."""

    kind: str
    entry: PictureFilm
    written: tuple[int, ...]

    @property
    def name(self) -> str:
        """As its folder is called."""
        return self.entry.name

    @property
    def truth(self) -> Path:
        """The folder with what is annotated of each film of the set."""
        if isinstance(self.entry, ObjectFilm):
            return self.entry.objects[0].parents[1]
        assert isinstance(self.entry, LabelledFilm)
        return self.entry.labels.parent

    @property
    def has_truth(self) -> bool:
        """Whether more is annotated than what the film begins with: all of it, of davis17 and mose."""
        annotated = len(self.entry.frames)
        return annotated == len(self.entry.pictures) if self.kind in AT_ONCE else annotated > 1

    def is_there(self, out: Path) -> bool:
        """Whether all of it is written."""
        return all(file.is_file() for file in self.files(out))

    def files(self, out: Path) -> list[Path]:
        """Every file that is written, below `out`."""
        stems = [Path(self.entry.pictures[number]).stem for number in self.written]
        return [folder / f"{stem}.png" for folder in self._folders(out).values() for stem in stems]

    def _folders(self, out: Path) -> dict[int, Path]:
        """By object; 0 is all of them in one file."""
        top = (out / "Annotations" if self.kind == "ytvos" else out) / self.name
        if not isinstance(self.entry, ObjectFilm):
            return {0: top}
        return {number: top / folder.name for number, folder in enumerate(self.entry.objects, 1)}

    def write(self, out: Path, results: Results) -> None:
        """The file or files of one frame."""
        assert results.frame is not None
        stem = Path(self.entry.pictures[results.frame]).stem
        for number, folder in self._folders(out).items():
            if number:
                _save(folder / f"{stem}.png", _one(results, number), palette=False)
            else:
                _save(folder / f"{stem}.png", _labels(results), palette=True)


def films_of(kind: str, root: str | Path, *, split: str | None = None, limit: int | None = None) -> list[Film]:
    """The films of a benchmark that have a mask to begin with, the first `limit` of them by name.

    `split` is a list of ImageSets or a folder; without it that is val (davis17, davis16) or valid (ytvos, mose,
    lvos), where there is one.

    Example:
        >>> [film.name for film in films_of("davis17", "DAVIS", limit=2)]
        ['bike-packing', 'blackswan']

    Raises:
        InputError: an unknown kind.
        SourceError: no such films, or one of them is not whole.
    """
    if kind not in BENCHMARKS:
        raise InputError(f"kind={kind!r} is unknown; choose {', '.join(map(repr, BENCHMARKS))}")
    place = Path(root).expanduser()
    split = split or _usual(kind, place)
    found = open_dataset(place, kind="sav" if kind == "sav" else "davis", split=split)
    if found.problems:  # predictions of a part are no predictions of the benchmark
        raise SourceError(found.problems[0].reason)
    named = _named(place, split) if kind == "ytvos" else {}
    return [_film(kind, entry, named) for entry in found.entries][:limit]


def _usual(kind: str, root: Path) -> str | None:
    """The list or folder that figures are published on, where it is there."""
    lists = (name for name in LISTS.get(kind, ()) if (root / "ImageSets" / f"{name}.txt").is_file())
    part = PART.get(kind)
    return next(lists, part if part and (root / part).is_dir() else None)


def predict(
    model: Follows,
    films: Sequence[Film],
    out: str | Path,
    prompt: str = "mask",
    *,
    name: str = "",
    options: Mapping[str, str | int] = NOTHING,
    step: Callable[[], None] | None = None,
) -> Path:
    """Follow films from what is said of each object first, and write them below `out`, which is returned.

    `prompt` is "mask", "box" or "click"; `name` is that of the model and `options` are what else the predictions
    depend on, for the record. `step` is called after every film. What a stopped run left is gone on with.

    Example:
        >>> predict(SAM(), films_of("davis17", "DAVIS"), "predictions")
        PosixPath('predictions')

    Raises:
        InputError: an unknown prompt.
        OutputError: `out` holds what was made with something else, or cannot be written.
        SourceError: a picture or mask that cannot be read.
        ModelError: a model for pictures only.
    """
    folder = record(films, out, prompt, name, options)
    for film in films:
        if not film.is_there(folder):
            follow(model, film, folder, prompt)
        if step is not None:
            step()
    return folder


def zipped(films: Sequence[Film], out: str | Path) -> Path:
    """The predictions below `out` as OUT.zip, with the folders that servers ask for at its top.

    Example:
        >>> zipped(films, "predictions")
        PosixPath('predictions.zip')

    Raises:
        OutputError: a prediction is missing, or the file cannot be written.
    """
    folder = Path(out).expanduser()
    archive = folder.with_name(f"{folder.name}.zip")
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for path in (path for film in films for path in film.files(folder)):
            if not path.is_file():
                raise OutputError(f"{path} is missing, so {archive.name} would not be whole; predict it first")
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # without a time: the same files, the same zip
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            file.writestr(info, path.read_bytes())
    return archive


def _film(kind: str, entry: Entry, named: Mapping[str, set[str]]) -> Film:
    if not isinstance(entry, PictureFilm):
        raise SourceError(f"{entry.name} is a film file with its masks; {kind} has a folder of pictures for each film")
    if kind == "sav":
        return Film(kind, entry, entry.frames)
    stems = named.get(entry.name)
    written = range(len(entry.pictures))
    return Film(kind, entry, tuple(n for n in written if stems is None or Path(entry.pictures[n]).stem in stems))


def _named(root: Path, split: str | None) -> dict[str, set[str]]:
    """By video, the pictures that meta.json names of any object."""
    places = [root / (split or "") / "meta.json", root / "meta.json", root / "valid" / "meta.json"]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return {}
    try:
        videos = json.loads(file.read_text())["videos"]
        found = {v: {f for o in own["objects"].values() for f in o["frames"]} for v, own in videos.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise SourceError(
            f"{file} is no meta.json of YouTube-VOS ({problem!r}); unpack it again, or remove it"
        ) from None
    return {video: stems for video, stems in found.items() if stems}


def record(films: Sequence[Film], out: str | Path, prompt: str, name: str, options: Mapping[str, str | int]) -> Path:
    """Write what the predictions below `out` are made with, and return that folder.

    Example:
        >>> record(films, "predictions", "mask", "builtin", {})
        PosixPath('predictions')

    Raises:
        InputError: an unknown prompt.
        OutputError: the folder holds what was made with something else, or cannot be written.
    """
    check_prompt(prompt)
    folder = Path(out).expanduser()
    _check_record(folder, {"model": name, "prompt": prompt, "kind": films[0].kind if films else "", **options})
    return folder


def _check_record(folder: Path, made: dict[str, str | int]) -> None:
    file = folder / RECORD
    if file.exists():
        before = file.read_text()
        if before != json.dumps(made, indent=2):
            raise OutputError(f"{folder} holds predictions made with {before!r}, not {made}; name another folder")
    elif folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} holds files, but no {RECORD} that says of what; name a new folder, or an empty one"
        )
    else:
        write_text(file, json.dumps(made, indent=2))


def follow(
    model: Follows, film: Film, out: Path, prompt: str, *, each_frame: Callable[[], None] = lambda: None
) -> None:
    """Follow one film and write it; `each_frame` is called as each frame is done, and may raise to stop.

    Example:
        >>> follow(SAM(), films_of("davis17", "DAVIS")[0], Path("predictions"), "mask")

    Raises:
        SourceError: a picture or mask that cannot be read.
        OutputError: a file that cannot be written.
    """
    told = _told(film, prompt)
    written, left = set(film.written), set(range(len(film.entry.pictures)))
    with model.session(list(film.entry.source)) as session:
        for number, (frame, size, said) in told.items():
            if size != session.video.size:
                raise SourceError(
                    f"{film.name}: the mask of object {number} is {said_size(size)} and the pictures are "
                    f"{said_size(session.video.size)}; both have one size: mend it, or take the film out"
                )
            session.say(number, frame, said)
        for results in session.propagate(start=min(frame for frame, _, _ in told.values())):
            assert results.frame is not None
            each_frame()
            if results.frame in written:
                film.write(out, results)
            left.discard(results.frame)
        for number in sorted(left):  # before the first object comes
            if number >= min(frame for frame, _, _ in told.values()):
                raise SourceError(f"{film.entry.source[number]} is damaged or was not reached; mend it: all are needed")
            if number in written:
                _write_nothing(film, out, number, session.video.size)


def _told(film: Film, prompt: str) -> dict[int, tuple[int, tuple[int, ...], ObjectPrompt]]:
    """By object: the frame on which it is told, the size of its mask, and what is said."""
    told: dict[int, tuple[int, tuple[int, ...], ObjectPrompt]] = {}
    frames = film.entry.frames[:1] if film.kind in AT_ONCE else film.entry.frames
    for number in frames:
        [frame] = film.entry.read([number])
        masks = _merged(frame.masks) if film.kind == "davis16" else frame.masks
        for n in [n for n in masks if n not in told]:
            mask = masks[n]
            if mask.any():
                told[n] = number, mask.shape, first_prompt(mask, prompt)
        if isinstance(film.entry, ObjectFilm) and len(told) == len(film.entry.objects):
            break
    if not told:
        raise SourceError(f"{film.name} has no object in what is annotated of it; take the film out")
    return told


def _merged(masks: Mapping[int, Mask]) -> Mapping[int, Mask]:
    """All objects as one."""
    return {1: np.any([masks[n] for n in masks], axis=0)} if masks else {}


def _write_nothing(film: Film, out: Path, number: int, size: tuple[int, int]) -> None:
    stem = Path(film.entry.pictures[number]).stem
    for file in [file for file in film.files(out) if file.stem == stem]:
        _save(file, np.zeros(size, np.uint8), palette=film.kind != "sav")


def _labels(results: Results) -> Labels:
    return np.asarray(np.concatenate([[0], results.ids]).astype(np.uint8)[label_map(results)])


def _one(results: Results, number: int) -> Labels:
    """The mask of one object, black where it is not there."""
    ids = results.ids.tolist()
    if results.masks is None or number not in ids:
        return np.zeros(results.orig_shape, np.uint8)
    return np.asarray(results.masks.data[ids.index(number)] * np.uint8(WHITE))


def _save(file: Path, labels: Labels, *, palette: bool) -> None:
    image = Image.fromarray(labels)
    if palette:
        image.putpalette(davis_palette().tobytes())
    with atomic_path(file) as temporary:
        image.save(temporary)
