"""`SAM`, `YOLO` and `FastSAM` with the calls of ultralytics; `native` is the model of masklet behind each."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from torch import nn

from masklet import sam, yolo
from masklet.atomic_files import write_image
from masklet.checkpoints import cache_dir
from masklet.compat.ultralytics.arguments import PredictArgs, PromptValue, parse_predict_args, plain_prompt
from masklet.compat.ultralytics.engine.results import Results
from masklet.compat.ultralytics.outputs import PredictOutputs
from masklet.compat.ultralytics.sources import InputImage, Source, open_source
from masklet.compat.ultralytics.tracking import ObjectTracks, open_tracker
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, preset
from masklet.media import SourceImage
from masklet.results import Results as NativeResults
from masklet.runtime import DeviceLike, resolve_device

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SAM", "YOLO", "FastSAM", "sample_images"]

GENERATOR_NAMES: Mapping[str, str] = {
    "conf_thres": "pred_iou_thresh",
    "crop_downscale_factor": "crop_n_points_downscale_factor",
    "crop_n_layers": "crop_n_layers",
    "crop_nms_thresh": "crop_nms_thresh",
    "crop_overlap_ratio": "crop_overlap_ratio",
    "point_grids": "point_grids",
    "points_batch_size": "points_per_batch",
    "points_stride": "points_per_side",
    "stability_score_offset": "stability_score_offset",
    "stability_score_thresh": "stability_score_thresh",
}
"""Options of segmenting everything, and their names in `MaskGeneratorOptions`."""
SAM_WAYS: Mapping[str, str] = {
    "add_callback": "loop over model.predict(source, stream=True) instead",
    "benchmark": "the commands are masklet bench image and masklet bench models",
    "export": "write model.native.export(folder), of masklet.SAM",
    "track": "write model.native.track(video, bboxes=...), of masklet.SAM",
    "train": "write model.native.train(data, epochs=20), of masklet.SAM",
    "tune": "write model.native.train(data, epochs=20), of masklet.SAM, for each value",
    "val": "write model.native.val(data), of masklet.SAM",
}
DETECTOR_WAYS: Mapping[str, str] = {
    **{name: way for name, way in SAM_WAYS.items() if name != "track"},
    "export": "detectors run in PyTorch; masklet.SAM(...).export(folder) writes a SAM",
    "train": "masklet trains no detectors; masklet.SAM(...).train(data, epochs=20) trains a SAM",
    "tune": "masklet trains no detectors; masklet.SAM(...).train(data, epochs=20) trains a SAM",
    "val": "masklet measures no detectors; masklet.SAM(...).val(data) measures a SAM",
}
"""For each method of ultralytics that is not here, what masklet has instead."""

ImageFunction = Callable[[SourceImage], NativeResults]


class _Model(ABC):
    """What the models share: sources, `stream`, `conf` and `max_det`, files and printed lines."""

    native: Any
    ways: Mapping[str, str] = DETECTOR_WAYS
    task = "segment"
    allowed: tuple[str, ...] = ()
    """Keywords that this model takes although SAM refuses them."""

    def __init__(self, model: str | PathLike[str]) -> None:
        self.model_name = model
        self.overrides: dict[str, Any] = {}
        """Keywords of later predictions, below those of the call."""
        self.native = self._open(PredictArgs())
        self._opened_for = self._opening(PredictArgs())

    @abstractmethod
    def _open(self, args: PredictArgs) -> Any:
        """Open the model of masklet as the arguments say."""

    def _opening(self, args: PredictArgs) -> tuple[object, ...]:
        """Return the part of the arguments that the model is opened again for."""
        return (resolve_device(args.device),)

    def _native(self, args: PredictArgs) -> Any:
        """Return the model of masklet, opened again if the arguments are not those that it was opened for."""
        opening = self._opening(args)
        if opening != self._opened_for:
            self.native, self._opened_for = self._open(args), opening
        return self.native

    @abstractmethod
    def _image_function(self, args: PredictArgs, request: dict[str, Any]) -> ImageFunction:
        """Return what segments one image; `request` are prompts, and keywords of this model alone."""

    def _convert(self, native: NativeResults) -> Results:
        return Results.from_native(native)

    def _run(self, source: Source | None, stream: bool, request: dict[str, Any], keywords: dict[str, Any]) -> Any:
        if source is None:
            raise InputError("there is no source; give source=..., such as source='dog.jpg'")
        args = parse_predict_args({**self.overrides, **keywords}, allowed=self.allowed)
        given = {name: plain_prompt(value) for name, value in request.items() if value is not None}
        segment = self._image_function(args, given)
        results = self._results(open_source(source, args.vid_stride), segment, args)
        return results if stream else list(results)

    def _results(self, images: Iterator[InputImage], segment: ImageFunction, args: PredictArgs) -> Iterator[Results]:
        with PredictOutputs(args, self.task) as outputs:
            for image in images:
                found = segment(image.image)
                results = self._convert(found[np.flatnonzero(found.scores > args.conf)[: args.max_det]])
                outputs.add(results, image)
                yield results

    @property
    @abstractmethod
    def _network(self) -> object:
        """The network, a `nn.Module` unless it runs elsewhere."""

    def info(self, detailed: bool = False, verbose: bool = True) -> tuple[int, int, int, float]:
        """Print name, size, file and licenses, with `detailed` the layers too.

        Returns modules, parameters, those that require gradients, and 0.0 for the operations, which are not counted.
        """
        network, summary = self._network, self.native.info()
        if verbose:
            print(summary)
        if detailed:
            print(network)
        modules = list(network.modules()) if isinstance(network, nn.Module) else []
        trainable = sum(one.numel() for one in network.parameters() if one.requires_grad) if modules else 0  # type: ignore[attr-defined]
        return len(modules), summary.parameters or 0, trainable, 0.0

    def to(self, device: DeviceLike) -> Self:
        """Run later predictions on a device."""
        self.overrides["device"] = device
        self._native(parse_predict_args(self.overrides, allowed=self.allowed))
        return self

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name not in self.ways:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; model.native is masklet's model")

        def refuse(*_: object, **__: object) -> NoReturn:
            raise InputError(f"{name}() is not in masklet.compat.ultralytics; {self.ways[name]}")

        return refuse


class SAM(_Model):
    """A SAM, SAM 2 or MobileSAM: segments what prompts show, or everything. "" is the model inside masklet.

    Example:
        >>> model = SAM("sam2.1_b.pt")  # doctest: +SKIP
        >>> results = model("dog.jpg", bboxes=[100, 100, 200, 200])  # doctest: +SKIP
        >>> results[0].masks.data.shape  # doctest: +SKIP
        torch.Size([1, 480, 640])

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
    """

    native: sam.SAM
    ways = SAM_WAYS

    def __init__(self, model: str | PathLike[str] = "sam_b.pt") -> None:
        super().__init__(model)
        info = self.native.info()
        one_size = info.image_size == info.still_image_size and info.video_pixels is None
        self._usual_size = info.image_size if one_size else None

    def predict(
        self,
        source: Source | None = None,
        stream: bool = False,
        bboxes: PromptValue = None,
        points: PromptValue = None,
        labels: PromptValue = None,
        masks: PromptValue = None,
        **kwargs: Any,
    ) -> Any:
        """Segment each image or frame of `source`: a list of one `Results` for each, with `stream` an iterator.

        Prompts are in original pixels, nested as for `masklet.SAM`. The class of an object is the number of its prompt.
        Other keywords are those of `PredictArgs` and, without prompts, of the mask generator.

        Raises:
            SourceError: if the source cannot be read.
            PromptError: if a prompt is malformed or outside the image.
            InputError: if there is no source, or a keyword is unknown or impossible here.
        """
        options = {name: kwargs.pop(name) for name in GENERATOR_NAMES if name in kwargs}
        request = {"bboxes": bboxes, "points": points, "labels": labels, "masks": masks, **options}
        return self._run(source, stream, request, kwargs)

    __call__ = predict

    def _open(self, args: PredictArgs) -> sam.SAM:
        precision = "fp16" if args.half else "auto"
        return sam.SAM(self.model_name or None, device=args.device, precision=precision, image_size=args.imgsz)

    def _opening(self, args: PredictArgs) -> tuple[object, ...]:
        resized = args.imgsz is not None and args.imgsz != self._usual_size
        return (*super()._opening(args), args.imgsz if resized else None, args.half)

    def _image_function(self, args: PredictArgs, request: dict[str, Any]) -> ImageFunction:
        options = {name: request.pop(name) for name in GENERATOR_NAMES if name in request}
        native = self._native(args)
        if request and options:
            name, value = next(iter(options.items()))
            raise InputError(
                f"{name}={value!r:.40} is for segmenting everything, without prompts: leave one of them out"
            )
        if not request:
            request = {"everything": self._generator_options(args, options)}
        return lambda image: native(image, **request)[0]

    def _generator_options(self, args: PredictArgs, options: dict[str, Any]) -> MaskGeneratorOptions:
        changes = {GENERATOR_NAMES[name]: value for name, value in options.items()}
        if "point_grids" in changes:
            changes.setdefault("points_per_side", None)
        if args.iou is not None:
            changes["box_nms_thresh"] = args.iou
        return replace(preset(self.native.predictor.model), **changes)

    def _convert(self, native: NativeResults) -> Results:
        return Results.from_native(native, classes=native.ids)

    @property
    def _network(self) -> object:
        return self.native.predictor.model


class _Detector(_Model):
    """What the detectors share."""

    _tracks: ObjectTracks | None = None
    _tracks_for: tuple[str, str] | None = None

    @property
    def names(self) -> dict[int, str]:
        """Class number to name."""
        names: dict[int, str] = self.native.names
        return names

    @property
    def _network(self) -> object:
        return self.native.detector.network

    def track(
        self,
        source: Source | None = None,
        stream: bool = False,
        persist: bool = False,
        tracker: str | PathLike[str] = "botsort.yaml",
        **kwargs: Any,
    ) -> Any:
        """Detect and follow the objects of a video: a list of one `Results` per frame, with `stream` an iterator.

        `results.boxes.id` are the ids of the visible objects. With `persist` the frames of a call come after those of
        the call before. Objects are followed by the memory of a SAM 2: by the model inside masklet for
        `tracker="botsort.yaml"` and "bytetrack.yaml", or by another one, such as "sam2.1_t.pt".

        Example:
            >>> results = model.track("street.mp4", stream=True)  # doctest: +SKIP
            >>> for r in results:  # doctest: +SKIP
            ...     r.boxes.id.int().tolist()

        Raises:
            SourceError: if the source cannot be read.
            InputError: if there is no source, a keyword is unknown or impossible here, or the tracker is another one.
            ModelError: if the tracker is for images only.
        """
        if source is None:
            raise InputError("there is no source; give source=..., such as source='street.mp4'")
        args = parse_predict_args({**self.overrides, **kwargs}, allowed=self.allowed)
        wanted = (os.fspath(tracker), resolve_device(args.device))
        if not persist or self._tracks is None or self._tracks_for != wanted:
            self._tracks, self._tracks_for = ObjectTracks(open_tracker(tracker, args.device)), wanted
        results = self._follow(open_source(source, args.vid_stride), self._tracks, args)
        return results if stream else list(results)

    def _follow(self, images: Iterator[InputImage], tracks: ObjectTracks, args: PredictArgs) -> Iterator[Results]:
        detect = self._image_function(args, {})
        with PredictOutputs(args, self.task) as outputs:
            for image in images:
                results = Results.from_native(tracks.step(image, detect)[: args.max_det], tracked=True)
                outputs.add(results, image)
                yield results


class YOLO(_Detector):
    """A YOLOv8 detector or segmenter.

    Example:
        >>> model = YOLO("yolov8n-seg.pt")  # doctest: +SKIP
        >>> results = model("street.jpg", conf=0.4, classes=[0])  # doctest: +SKIP

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
        InputError: if `task` is not what the model can.
    """

    native: yolo.YOLO
    allowed = ("agnostic_nms", "classes")

    def __init__(
        self, model: str | PathLike[str] = "yolov8n.pt", task: str | None = None, verbose: bool = False
    ) -> None:
        super().__init__(model)
        self.task = "segment" if self.native.detector.with_masks else "detect"
        if task not in (None, self.task):
            raise InputError(f"task={task!r:.40} is not what {model} is for: it can {self.task}; leave task out")
        if verbose:
            self.info()

    def predict(self, source: Source | None = None, stream: bool = False, **kwargs: Any) -> Any:
        """Detect the objects of each image or frame of `source`: a list of `Results`, with `stream` an iterator.

        Raises:
            SourceError: if the source cannot be read.
            InputError: if there is no source, or a keyword is unknown or impossible here.
        """
        return self._run(source, stream, {}, kwargs)

    __call__ = predict

    def _open(self, args: PredictArgs) -> yolo.YOLO:
        return yolo.YOLO(self.model_name, device=args.device)

    def _image_function(self, args: PredictArgs, request: dict[str, Any]) -> ImageFunction:
        native, options = self._native(args), _detector_options(args)
        classes, agnostic = plain_prompt(args.classes), args.agnostic_nms
        return lambda image: native(image, classes=classes, agnostic_nms=agnostic, **options)[0]


class FastSAM(_Detector):
    """FastSAM: segments everything in one pass, or what boxes, points or texts select.

    Example:
        >>> model = FastSAM("FastSAM-s.pt")  # doctest: +SKIP
        >>> results = model("dog.jpg", points=[[200, 200]], labels=[1])  # doctest: +SKIP

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
        InputError: if the model has no masks.
    """

    native: yolo.FastSAM

    def __init__(self, model: str | PathLike[str] = "FastSAM-x.pt") -> None:
        super().__init__(model)

    def predict(
        self,
        source: Source | None = None,
        stream: bool = False,
        bboxes: PromptValue = None,
        points: PromptValue = None,
        labels: PromptValue = None,
        texts: str | list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Segment each image or frame of `source`: a list of one `Results` for each, with `stream` an iterator.

        Raises:
            SourceError: if the source cannot be read.
            PromptError: if a prompt is malformed, or texts are combined with other prompts.
            InputError: if there is no source, or a keyword is unknown or impossible here.
        """
        return self._run(source, stream, {"bboxes": bboxes, "points": points, "labels": labels, "texts": texts}, kwargs)

    __call__ = predict

    def _open(self, args: PredictArgs) -> yolo.FastSAM:
        return yolo.FastSAM(self.model_name, device=args.device)

    def _image_function(self, args: PredictArgs, request: dict[str, Any]) -> ImageFunction:
        native, options = self._native(args), _detector_options(args)
        return lambda image: native(image, **request, **options)[0]


def _detector_options(args: PredictArgs) -> dict[str, Any]:
    """Return the arguments that masklet's detectors have, leaving out what has masklet's default.

    Raises:
        InputError: if half precision is wanted.
    """
    if args.half:
        raise InputError("half=True is not possible here; detectors run in fp32: leave it out, or take masklet.SAM")
    size = {} if args.imgsz is None else {"imgsz": args.imgsz}
    return {"conf": args.conf, "iou": 0.7 if args.iou is None else args.iou, "max_det": args.max_det, **size}


def sample_images() -> Path:
    """Return a folder of two procedural photographs, which are drawn into masklet's cache when they are missing.

    Raises:
        OutputError: if the cache cannot be written.
    """
    from masklet.export import export_model

    folder = cache_dir() / "sample_images"
    files = [folder / f"sample{number}.jpg" for number in (1, 2)]
    if not all(file.is_file() for file in files):
        for file, rgb in zip(files, export_model.sample_images(len(files)), strict=True):
            write_image(file, rgb)
    return folder
