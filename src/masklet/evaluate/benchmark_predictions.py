"""Predict the videos of a benchmark and write them in its format, for its scorer or its server.

davis17  OUT/SEQ/00000.png: every image of a sequence, label maps with the palette of DAVIS. The objects are those of
         the first annotation.
davis16  As davis17, for the videos of DAVIS 2016: everything annotated is one object, with the id 1.
ytvos    OUT/Annotations/VIDEO/00000.png: label maps of the images that meta.json lists, or of all without that file. An
         object is prompted on the first annotated image that shows it.
mose     OUT/VIDEO/00000.png: as davis17, for the valid set of MOSE, whose ground truth its server has.
lvos     OUT/VIDEO/00000001.png: label maps of every image. An object is prompted on the first annotated image that
         shows it, since some appear late in LVOS v2.
sav      OUT/VIDEO/000/00000.png: a folder for each object, as in Annotations_6fps, black and white, of the annotated
         images. Objects may overlap.

The prompt of an object is its mask, its tight box or one click, given once; it is tracked forward with the others, with
the default options of `masklet track`. Files have the size of the images. Where label maps overlap, the smaller object
is on top. A video whose files all exist is not predicted again; `predictions.json` records what the predictions were
made with, and a folder that was made with something else is refused. `masklet.evaluate.parallel` predicts several
videos at once.

Shapes: H height, W width.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import atomic_path, write_text
from masklet.damaged_files import decoder_errors
from masklet.datasets import open_dataset
from masklet.datasets.dataset import FrameFolderVideo
from masklet.datasets.formats.davis import LabelMapVideo
from masklet.datasets.formats.sav import SavFrameFolderVideo
from masklet.errors import InputError, OutputError, SourceError
from masklet.evaluate.prompts_from_masks import prompt_from_mask, validate_prompt_type
from masklet.evaluate.tracking import VideoModel, id_label_map, masks_by_id, require_frames
from masklet.masks.label_map import davis_palette, save_label_map
from masklet.media.image import format_size
from masklet.prompts import ObjectPrompt
from masklet.results import Results

__all__ = [
    "BENCHMARKS",
    "BenchmarkVideo",
    "benchmark_videos",
    "predict",
    "predict_video",
    "write_manifest",
    "zip_predictions",
]

Mask = npt.NDArray[np.bool_]
BENCHMARKS = ("davis17", "davis16", "ytvos", "sav", "mose", "lvos")
ALL_OBJECTS_ON_FIRST_FRAME = ("davis17", "davis16", "mose")
"""All their objects are on the first annotated image, and their ground truth has every image."""
WITHOUT_EVAL_SERVER = ("sav", "davis16")
"""Their ground truth is public, and no server takes predictions."""
DEFAULT_IMAGE_SETS = {"davis17": ("2017/val",), "davis16": ("480p/val", "2016/val")}
"""The default lists; the first that exists is used."""
DEFAULT_SPLITS = {"ytvos": "valid", "mose": "valid", "lvos": "valid"}
"""The default folders."""
MANIFEST_NAME = "predictions.json"
NO_OPTIONS: Mapping[str, str | int] = MappingProxyType({})


@dataclass(frozen=True)
class BenchmarkVideo:
    """A video of a benchmark, and the numbers of the images that are written."""

    benchmark: str
    sample: FrameFolderVideo
    output_frames: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.sample.name

    @property
    def truth_dir(self) -> Path:
        """The folder with the annotations of all videos."""
        if isinstance(self.sample, SavFrameFolderVideo):
            return self.sample.mask_folders[0].parents[1]
        assert isinstance(self.sample, LabelMapVideo)
        return self.sample.label_folder.parent

    @property
    def has_truth(self) -> bool:
        """Whether it can be scored: more than the first masks is annotated, of davis17, davis16 and mose everything."""
        annotated = len(self.sample.frame_indices)
        if self.benchmark in ALL_OBJECTS_ON_FIRST_FRAME:
            return annotated == len(self.sample.image_names)
        return annotated > 1

    def is_complete(self, out: Path) -> bool:
        """Whether all its files exist below `out`."""
        return all(file.is_file() for _, file in self.output_files(out))

    def output_files(self, out: Path, frames: Sequence[int] | None = None) -> Iterator[tuple[int, Path]]:
        """Yield every file below `out` with its object, 0 for all of them in one file; of some frames, or of all."""
        top = (out / "Annotations" if self.benchmark == "ytvos" else out) / self.name
        folders = {0: top}
        if isinstance(self.sample, SavFrameFolderVideo):
            folders = {number: top / folder.name for number, folder in enumerate(self.sample.mask_folders, 1)}
        for number, folder in folders.items():
            for frame_idx in self.output_frames if frames is None else frames:
                yield number, folder / f"{Path(self.sample.image_names[frame_idx]).stem}.png"

    def write(self, out: Path, frame_idx: int, size: tuple[int, int], results: Results | None = None) -> None:
        """Write the file or files of one frame (H, W); without results it has no objects."""
        masks = {} if results is None else masks_by_id(results)
        for number, path in self.output_files(out, [frame_idx]):
            if number:
                save_label_map(path, masks.get(number, np.zeros(size, bool)) * np.uint8(255), None)
            else:
                labels = np.zeros(size, np.uint8) if results is None else id_label_map(results)
                save_label_map(path, labels, davis_palette())


def benchmark_videos(
    benchmark: str, root: str | Path, *, split: str | None = None, limit: int | None = None
) -> list[BenchmarkVideo]:
    """Find the videos of a benchmark that have a first mask, the first `limit` of them by name.

    `split` is a list of ImageSets or a folder; by default val (davis17, davis16) or valid (ytvos, mose, lvos), if it
    exists.

    Example:
        >>> [video.name for video in benchmark_videos("davis17", "DAVIS", limit=2)]
        ['bike-packing', 'blackswan']

    Raises:
        InputError: if the benchmark is unknown.
        SourceError: if there are no such videos, or one of them is incomplete.
    """
    if benchmark not in BENCHMARKS:
        raise InputError(f"benchmark={benchmark!r} is unknown; choose {', '.join(map(repr, BENCHMARKS))}")
    root = Path(root).expanduser()
    if not split:
        lists = DEFAULT_IMAGE_SETS.get(benchmark, ())
        split = next((name for name in lists if (root / "ImageSets" / f"{name}.txt").is_file()), None)
        default = DEFAULT_SPLITS.get(benchmark)
        split = default if not split and default and (root / default).is_dir() else split
    dataset = open_dataset(root, data_format="sav" if benchmark == "sav" else "davis", split=split)
    if dataset.issues:  # predictions of a part are not predictions of the benchmark
        raise SourceError(dataset.issues[0].reason)
    listed_frames = _read_listed_frames(root, split) if benchmark == "ytvos" else {}
    videos = []
    for sample in dataset.samples:
        if not isinstance(sample, FrameFolderVideo):
            raise SourceError(
                f"{sample.name} is a video file with its masks; {benchmark} has a folder of images for each video"
            )
        frames, stems = tuple(range(len(sample.image_names))), listed_frames.get(sample.name)
        if benchmark == "sav":
            frames = sample.frame_indices
        elif stems is not None:
            frames = tuple(n for n in frames if Path(sample.image_names[n]).stem in stems)
        videos.append(BenchmarkVideo(benchmark, sample, frames))
    return videos[:limit]


def _read_listed_frames(root: Path, split: str | None) -> dict[str, set[str]]:
    """Return, by video, the stems of the images that meta.json lists for any object."""
    candidates = [root / (split or "") / "meta.json", root / "meta.json", root / "valid" / "meta.json"]
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        return {}
    try:
        videos = json.loads(file.read_text())["videos"]
        listed = {name: {f for o in video["objects"].values() for f in o["frames"]} for name, video in videos.items()}
    except decoder_errors() as problem:
        raise SourceError(
            f"{file} is no meta.json of YouTube-VOS ({problem!r}); unpack it again, or remove it"
        ) from None
    return {name: stems for name, stems in listed.items() if stems}


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
    """Track the objects of videos and write the predictions below `out`, which is returned. Resumes a stopped run.

    Args:
        prompt: the first prompt of each object: "mask", "box" or "click".
        model_name: for the record, as `options`: what else the predictions depend on.
        on_progress: called after every video.

    Example:
        >>> predict(SAM(), benchmark_videos("davis17", "DAVIS"), "predictions")
        PosixPath('predictions')

    Raises:
        InputError: if the prompt is unknown.
        OutputError: if `out` has predictions made with something else, or cannot be written.
        SourceError: if an image or mask is unreadable.
        ModelError: if the model does not track.
    """
    folder = write_manifest(videos, out, prompt, model_name, options)
    for video in videos:
        if not video.is_complete(folder):
            predict_video(model, video, folder, prompt)
        if on_progress is not None:
            on_progress()
    return folder


def write_manifest(
    videos: Sequence[BenchmarkVideo], out: str | Path, prompt: str, model_name: str, options: Mapping[str, str | int]
) -> Path:
    """Record what the predictions below `out` are made with, and return that folder.

    Example:
        >>> write_manifest(videos, "predictions", "mask", "builtin", {})
        PosixPath('predictions')

    Raises:
        InputError: if the prompt is unknown.
        OutputError: if the folder has predictions made with something else, or cannot be written.
    """
    validate_prompt_type(prompt)
    folder = Path(out).expanduser()
    file = folder / MANIFEST_NAME
    benchmark = videos[0].benchmark if videos else ""
    manifest = json.dumps({"model": model_name, "prompt": prompt, "kind": benchmark, **options}, indent=2)
    if file.exists():
        stored = file.read_text()
        if stored != manifest:
            raise OutputError(f"{folder} has predictions made with {stored}, not {manifest}; name another folder")
    elif folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} has files, but no {MANIFEST_NAME} that describes them; name a new or an empty folder"
        )
    else:
        write_text(file, manifest)
    return folder


def predict_video(
    model: VideoModel,
    video: BenchmarkVideo,
    out: Path,
    prompt: str,
    *,
    on_progress: Callable[[], None] = lambda: None,
) -> None:
    """Track the objects of one video and write it; `on_progress` is called for each frame, and may raise to stop.

    Example:
        >>> predict_video(SAM(), benchmark_videos("davis17", "DAVIS")[0], Path("predictions"), "mask")

    Raises:
        SourceError: if an image or mask is unreadable.
        OutputError: if a file cannot be written.
    """
    prompts = _object_prompts(video, prompt)
    paths, output_frames = video.sample.source, set(video.output_frames)
    first = min(frame for frame, _, _ in prompts.values())
    with model.session(list(paths)) as session:
        size = session.video.size
        for number, (frame, mask_size, object_prompt) in prompts.items():
            if mask_size != size:
                raise SourceError(
                    f"{video.name}: the mask of object {number} is {format_size(mask_size)} and the images are "
                    f"{format_size(size)}; they must have the same size: repair it, or exclude the video"
                )
            session.add_object_prompt(number, frame, object_prompt)
        required = range(first, len(video.sample.image_names))
        for results in require_frames(session.propagate(start=first), required, paths.__getitem__):
            on_progress()
            if results.frame_idx in output_frames:
                video.write(out, results.frame_idx, results.orig_shape, results)
        for frame in video.output_frames:
            if frame < first:
                video.write(out, frame, size)


def _object_prompts(video: BenchmarkVideo, prompt: str) -> dict[int, tuple[int, tuple[int, ...], ObjectPrompt]]:
    """Return, by object, the frame of its prompt, the size (H, W) of its mask, and the prompt."""
    prompts: dict[int, tuple[int, tuple[int, ...], ObjectPrompt]] = {}
    frames = video.sample.frame_indices
    for frame_idx in frames[:1] if video.benchmark in ALL_OBJECTS_ON_FIRST_FRAME else frames:
        [frame] = video.sample.read([frame_idx])
        masks: Mapping[int, Mask] = frame.masks
        if video.benchmark == "davis16" and masks:
            masks = {1: np.any([masks[number] for number in masks], axis=0)}
        for number in [number for number in masks if number not in prompts]:
            mask = masks[number]
            if mask.any():
                prompts[number] = frame_idx, mask.shape, prompt_from_mask(mask, prompt)
        if isinstance(video.sample, SavFrameFolderVideo) and len(prompts) == len(video.sample.mask_folders):
            break
    if not prompts:
        raise SourceError(f"{video.name} has no object in its annotations; exclude the video")
    return prompts


def zip_predictions(videos: Sequence[BenchmarkVideo], out: str | Path) -> Path:
    """Pack the predictions below `out` into OUT.zip, with the folders that servers expect at its top.

    Example:
        >>> zip_predictions(videos, "predictions")
        PosixPath('predictions.zip')

    Raises:
        OutputError: if a prediction is missing, or the file cannot be written.
    """
    folder = Path(out).expanduser()
    archive = folder.with_name(f"{folder.name}.zip")
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for _, path in (path for video in videos for path in video.output_files(folder)):
            if not path.is_file():
                raise OutputError(f"{path} is missing, so {archive.name} would be incomplete; predict it first")
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # without a time: the same files, the same zip
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            file.writestr(info, path.read_bytes())
    return archive
