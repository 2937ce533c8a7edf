"""Videos of a benchmark followed from what is given, and written in its layout, for its scorer or its server.

davis17  OUT/SEQ/00000.png: every image of a sequence, label maps with the palette of DAVIS. Objects are those of the
         first annotation.
davis16  as davis17, of the videos of DAVIS 2016: all that is annotated is one object, which is told and written as 1.
ytvos    OUT/Annotations/VIDEO/00000.png: label maps of the images that meta.json names, or of all where there is
         none. An object is told on the first annotated image that shows it, as valid has it.
mose     OUT/VIDEO/00000.png: as davis17, of MOSE's valid, whose truth is with its server.
lvos     OUT/VIDEO/00000001.png: label maps of every image. An object is told on the first annotated image that
         shows it, as those that come later in LVOS v2 are.
sav      OUT/VIDEO/000/00000.png: a folder for each object, as in Annotations_6fps, black and white, of the annotated
         images. Objects may overlap.

An object is told by its mask, by its tight box or by one click, once, and followed forwards beside the others with the
options of `masklet track`. Files are of the size of the images. Where label maps overlap the smaller object is kept.
A video whose files are all there is not followed again; `predictions.json` says what they were made with, and a folder
that was made with something else is refused. `masklet.evaluate.parallel` follows several videos at once.

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
from masklet.datasets import Sample, open_dataset
from masklet.datasets.dataset import FrameFolderVideo
from masklet.datasets.formats.davis import LabelMapVideo
from masklet.datasets.formats.sav import SavFrameFolderVideo
from masklet.errors import InputError, OutputError, SourceError
from masklet.evaluate.prompts_from_masks import prompt_from_mask, validate_prompt_type
from masklet.evaluate.semi_supervised_vos import VideoModel
from masklet.masks.label_map import davis_palette
from masklet.media.image import format_size
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.writers.mask_images import label_map

__all__ = [
    "BENCHMARKS",
    "BenchmarkVideo",
    "benchmark_videos",
    "predict",
    "predict_video",
    "write_manifest",
    "zip_predictions",
]

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
BENCHMARKS = ("davis17", "davis16", "ytvos", "sav", "mose", "lvos")
ALL_OBJECTS_ON_FIRST_FRAME = ("davis17", "davis16", "mose")
"""Their objects are all told on the first annotated image, and their truth has every image."""
WITHOUT_EVAL_SERVER = ("sav", "davis16")
"""Their truth is given out, and nobody takes predictions."""
DEFAULT_IMAGE_SETS = {"davis17": ("2017/val",), "davis16": ("480p/val", "2016/val")}
"""The lists that are meant where no other is named, the first that is there."""
DEFAULT_SPLITS = {"ytvos": "valid", "mose": "valid", "lvos": "valid"}
"""The folder that is meant where no other is named."""
MANIFEST_NAME = "predictions.json"
NO_OPTIONS: Mapping[str, str | int] = MappingProxyType({})
WHITE = 255


@dataclass(frozen=True)
class BenchmarkVideo:
    """A video of a benchmark: its entry, its objects' names in the layout, and the images that are written."""

    benchmark: str
    sample: FrameFolderVideo
    output_frames: tuple[int, ...]

    @property
    def name(self) -> str:
        """As its folder is called."""
        return self.sample.name

    @property
    def truth_dir(self) -> Path:
        """The folder with what is annotated of each video of the set."""
        if isinstance(self.sample, SavFrameFolderVideo):
            return self.sample.mask_folders[0].parents[1]
        assert isinstance(self.sample, LabelMapVideo)
        return self.sample.label_folder.parent

    @property
    def has_truth(self) -> bool:
        """Whether more is annotated than what the video begins with: all of it, of davis17 and mose."""
        annotated = len(self.sample.frame_indices)
        return (
            annotated == len(self.sample.image_names) if self.benchmark in ALL_OBJECTS_ON_FIRST_FRAME else annotated > 1
        )

    def is_complete(self, out: Path) -> bool:
        """Whether all of it is written."""
        return all(file.is_file() for file in self.output_files(out))

    def output_files(self, out: Path) -> list[Path]:
        """Every file that is written, below `out`."""
        stems = [Path(self.sample.image_names[number]).stem for number in self.output_frames]
        return [folder / f"{stem}.png" for folder in self._output_dirs(out).values() for stem in stems]

    def _output_dirs(self, out: Path) -> dict[int, Path]:
        """By object; 0 is all of them in one file."""
        top = (out / "Annotations" if self.benchmark == "ytvos" else out) / self.name
        if not isinstance(self.sample, SavFrameFolderVideo):
            return {0: top}
        return {number: top / folder.name for number, folder in enumerate(self.sample.mask_folders, 1)}

    def write(self, out: Path, results: Results) -> None:
        """The file or files of one frame."""
        assert results.frame_idx is not None
        stem = Path(self.sample.image_names[results.frame_idx]).stem
        for number, folder in self._output_dirs(out).items():
            if number:
                _save_png(folder / f"{stem}.png", _object_mask_image(results, number), palette=False)
            else:
                _save_png(folder / f"{stem}.png", _result_label_map(results), palette=True)


def benchmark_videos(
    benchmark: str, root: str | Path, *, split: str | None = None, limit: int | None = None
) -> list[BenchmarkVideo]:
    """The videos of a benchmark that have a mask to begin with, the first `limit` of them by name.

    `split` is a list of ImageSets or a folder; without it that is val (davis17, davis16) or valid (ytvos, mose,
    lvos), where there is one.

    Example:
        >>> [video.name for video in videos_of("davis17", "DAVIS", limit=2)]
        ['bike-packing', 'blackswan']

    Raises:
        InputError: an unknown kind.
        SourceError: no such videos, or one of them is not whole.
    """
    if benchmark not in BENCHMARKS:
        raise InputError(f"kind={benchmark!r} is unknown; choose {', '.join(map(repr, BENCHMARKS))}")
    place = Path(root).expanduser()
    split = split or _default_split(benchmark, place)
    found = open_dataset(place, data_format="sav" if benchmark == "sav" else "davis", split=split)
    if found.issues:  # predictions of a part are no predictions of the benchmark
        raise SourceError(found.issues[0].reason)
    named = _listed_frames(place, split) if benchmark == "ytvos" else {}
    return [_make_benchmark_video(benchmark, entry, named) for entry in found.samples][:limit]


def _default_split(benchmark: str, root: Path) -> str | None:
    """The list or folder that figures are published on, where it is there."""
    lists = (name for name in DEFAULT_IMAGE_SETS.get(benchmark, ()) if (root / "ImageSets" / f"{name}.txt").is_file())
    part = DEFAULT_SPLITS.get(benchmark)
    return next(lists, part if part and (root / part).is_dir() else None)


def predict(
    model: VideoModel,
    videos: Sequence[BenchmarkVideo],
    out: str | Path,
    prompt: str = "mask",
    *,
    model_name: str = "",
    options: Mapping[str, str | int] = NO_OPTIONS,
    on_progress: Callable[[], None] | None = None,
) -> Path:
    """Follow videos from what is said of each object first, and write them below `out`, which is returned.

    `prompt` is "mask", "box" or "click"; `name` is that of the model and `options` are what else the predictions
    depend on, for the record. `step` is called after every video. What a stopped run left is gone on with.

    Example:
        >>> predict(SAM(), videos_of("davis17", "DAVIS"), "predictions")
        PosixPath('predictions')

    Raises:
        InputError: an unknown prompt.
        OutputError: `out` holds what was made with something else, or cannot be written.
        SourceError: an image or mask that cannot be read.
        ModelError: a model for images only.
    """
    folder = write_manifest(videos, out, prompt, model_name, options)
    for video in videos:
        if not video.is_complete(folder):
            predict_video(model, video, folder, prompt)
        if on_progress is not None:
            on_progress()
    return folder


def zip_predictions(videos: Sequence[BenchmarkVideo], out: str | Path) -> Path:
    """The predictions below `out` as OUT.zip, with the folders that servers ask for at its top.

    Example:
        >>> zipped(videos, "predictions")
        PosixPath('predictions.zip')

    Raises:
        OutputError: a prediction is missing, or the file cannot be written.
    """
    folder = Path(out).expanduser()
    archive = folder.with_name(f"{folder.name}.zip")
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for path in (path for video in videos for path in video.output_files(folder)):
            if not path.is_file():
                raise OutputError(f"{path} is missing, so {archive.name} would not be whole; predict it first")
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # without a time: the same files, the same zip
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            file.writestr(info, path.read_bytes())
    return archive


def _make_benchmark_video(benchmark: str, sample: Sample, listed_frames: Mapping[str, set[str]]) -> BenchmarkVideo:
    if not isinstance(sample, FrameFolderVideo):
        raise SourceError(
            f"{sample.name} is a video file with its masks; {benchmark} has a folder of images for each video"
        )
    if benchmark == "sav":
        return BenchmarkVideo(benchmark, sample, sample.frame_indices)
    stems = listed_frames.get(sample.name)
    written = range(len(sample.image_names))
    return BenchmarkVideo(
        benchmark, sample, tuple(n for n in written if stems is None or Path(sample.image_names[n]).stem in stems)
    )


def _listed_frames(root: Path, split: str | None) -> dict[str, set[str]]:
    """By video, the images that meta.json names of any object."""
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


def write_manifest(
    videos: Sequence[BenchmarkVideo], out: str | Path, prompt: str, model_name: str, options: Mapping[str, str | int]
) -> Path:
    """Write what the predictions below `out` are made with, and return that folder.

    Example:
        >>> record(videos, "predictions", "mask", "builtin", {})
        PosixPath('predictions')

    Raises:
        InputError: an unknown prompt.
        OutputError: the folder holds what was made with something else, or cannot be written.
    """
    validate_prompt_type(prompt)
    folder = Path(out).expanduser()
    _check_manifest(
        folder, {"model": model_name, "prompt": prompt, "kind": videos[0].benchmark if videos else "", **options}
    )
    return folder


def _check_manifest(folder: Path, manifest: dict[str, str | int]) -> None:
    file = folder / MANIFEST_NAME
    if file.exists():
        before = file.read_text()
        if before != json.dumps(manifest, indent=2):
            raise OutputError(f"{folder} holds predictions made with {before!r}, not {manifest}; name another folder")
    elif folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} holds files, but no {MANIFEST_NAME} that says of what; name a new folder, or an empty one"
        )
    else:
        write_text(file, json.dumps(manifest, indent=2))


def predict_video(
    model: VideoModel, video: BenchmarkVideo, out: Path, prompt: str, *, on_frame: Callable[[], None] = lambda: None
) -> None:
    """Follow one video and write it; `each_frame` is called as each frame is done, and may raise to stop.

    Example:
        >>> follow(SAM(), videos_of("davis17", "DAVIS")[0], Path("predictions"), "mask")

    Raises:
        SourceError: an image or mask that cannot be read.
        OutputError: a file that cannot be written.
    """
    told = _object_prompts(video, prompt)
    written, left = set(video.output_frames), set(range(len(video.sample.image_names)))
    with model.session(list(video.sample.source)) as session:
        for number, (frame, size, said) in told.items():
            if size != session.video.size:
                raise SourceError(
                    f"{video.name}: the mask of object {number} is {format_size(size)} and the images are "
                    f"{format_size(session.video.size)}; both have one size: mend it, or take the video out"
                )
            session._add_object_prompt(number, frame, said)
        for results in session.propagate(start=min(frame for frame, _, _ in told.values())):
            assert results.frame_idx is not None
            on_frame()
            if results.frame_idx in written:
                video.write(out, results)
            left.discard(results.frame_idx)
        for number in sorted(left):  # before the first object comes
            if number >= min(frame for frame, _, _ in told.values()):
                raise SourceError(
                    f"{video.sample.source[number]} is damaged or was not reached; mend it: all are needed"
                )
            if number in written:
                _write_empty_frame(video, out, number, session.video.size)


def _object_prompts(video: BenchmarkVideo, prompt: str) -> dict[int, tuple[int, tuple[int, ...], ObjectPrompt]]:
    """By object: the frame on which it is told, the size of its mask, and what is said."""
    told: dict[int, tuple[int, tuple[int, ...], ObjectPrompt]] = {}
    frames = (
        video.sample.frame_indices[:1] if video.benchmark in ALL_OBJECTS_ON_FIRST_FRAME else video.sample.frame_indices
    )
    for number in frames:
        [frame] = video.sample.read([number])
        masks = _merge_objects(frame.masks) if video.benchmark == "davis16" else frame.masks
        for n in [n for n in masks if n not in told]:
            mask = masks[n]
            if mask.any():
                told[n] = number, mask.shape, prompt_from_mask(mask, prompt)
        if isinstance(video.sample, SavFrameFolderVideo) and len(told) == len(video.sample.mask_folders):
            break
    if not told:
        raise SourceError(f"{video.name} has no object in what is annotated of it; take the video out")
    return told


def _merge_objects(masks: Mapping[int, Mask]) -> Mapping[int, Mask]:
    """All objects as one."""
    return {1: np.any([masks[n] for n in masks], axis=0)} if masks else {}


def _write_empty_frame(video: BenchmarkVideo, out: Path, frame_idx: int, size: tuple[int, int]) -> None:
    stem = Path(video.sample.image_names[frame_idx]).stem
    for file in [file for file in video.output_files(out) if file.stem == stem]:
        _save_png(file, np.zeros(size, np.uint8), palette=video.benchmark != "sav")


def _result_label_map(results: Results) -> Labels:
    return np.asarray(np.concatenate([[0], results.ids]).astype(np.uint8)[label_map(results)])


def _object_mask_image(results: Results, object_id: int) -> Labels:
    """The mask of one object, black where it is not there."""
    ids = results.ids.tolist()
    if results.masks is None or object_id not in ids:
        return np.zeros(results.orig_shape, np.uint8)
    return np.asarray(results.masks.data[ids.index(object_id)] * np.uint8(WHITE))


def _save_png(file: Path, labels: Labels, *, palette: bool) -> None:
    image = Image.fromarray(labels)
    if palette:
        image.putpalette(davis_palette().tobytes())
    with atomic_path(file) as temporary:
        image.save(temporary)
