"""`SAM`: one object per model, called with images or videos and prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from masklet.checkpoints import Progress
from masklet.cpu_threads import fix_threads
from masklet.errors import InputError
from masklet.exported import ExportedModel, RuntimeOptions, is_exported_folder, open_exported
from masklet.foreign_keywords import explain_keywords
from masklet.image import ImagePredictor
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
from masklet.load_model import LoadedModel, load
from masklet.media import SourceLike, Video, VideoSource, open_images, open_video
from masklet.media.image import Channels
from masklet.prompts import BoxesLike, LabelsLike, MasksLike, PointsLike, parse_prompts
from masklet.results import Results
from masklet.runtime import DeviceLike, resolve_device
from masklet.sam.arguments import (
    AutoTrackKeywords,
    AutoTrackRequest,
    FinetuneKeywords,
    PredictKeywords,
    PromptedTrackRequest,
    TrackKeywords,
    check_exported_use,
    check_prompt_use,
    check_runtime_use,
    merge_options,
    parse_view,
    validate_image_size,
    validate_memory_pooling,
)
from masklet.sam.choose_precision import choose_precision
from masklet.sam.model_info import ModelInfo
from masklet.sam.prediction import CachedEncoder, SpeedTimer, crop_image, segment_everything, segment_prompts
from masklet.sam.video import (
    MaskGeneratorDetector,
    make_video_network,
    open_session,
    track_prompts,
)
from masklet.tensors import require_torch
from masklet.video import (
    AutoTrackOptions,
    AutoTrackStream,
    FrameDetector,
    LiveSession,
    SavedSession,
    Session,
    TrackOptions,
    auto_track,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from masklet.datasets import DataPaths
    from masklet.evaluate.validate import AnyData
    from masklet.evaluate.validation_result import ValidationResult
    from masklet.export.export_model import ModelExportOptions
    from masklet.train.loop import TrainProgress

__all__ = ["SAM"]


class SAM:
    """Segment anything in images, track anything in videos.

    Args:
        model: None (the small model inside the package), a known name (`sam2.1_b.pt`, `sam2.1_hiera_base_plus.pt`,
            `facebook/sam2.1-hiera-base-plus`, `edgetam.pt`, `efficienttam_ti.pt`, `sam_b.pt`, `mobile_sam.pt`) or a
            .pt or .safetensors file. SAM and MobileSAM are for images only. A folder that `masklet export` wrote runs
            without PyTorch.
        device: "cpu", "cuda", "cuda:1", "mps", or the number of a GPU; None: the best this machine has.
        precision: fp32, bf16 or fp16, of the image encoder and of memory attention. "auto" is fp32, and bf16 on
            processors that have instructions for it: for videos of the built-in model, and where a trial, once for a
            model and a machine, finds it faster with the same masks (docs/models.md). `info()` says which it is.
        image_size: side of the square that images are resized to, a multiple of 32; None: what the model was trained
            for. Smaller is faster and coarser. Frames that keep their shape have as many pixels as this square.
            EdgeTAM takes multiples of 256.
        variant: base, 1, 2 or 512x512: which EfficientTAM a file holds, if neither its name nor its header says so.
        memory_pooling: 2 averages memories two by two before frames of a video attend to them: faster for published
            models on a CPU, with other masks (docs/video.md); 1: as the model was trained.
        threads: of the processor. PyTorch then takes so many in this process from now on, whatever the load is; the
            runtime of an exported folder for this model. None: chosen by load and quota.
        providers, cache_dir: of the runtime of an exported folder: execution providers of ONNX Runtime or devices of
            OpenVINO, and a folder for prepared graphs (docs/runtime.md).

    Example:
        >>> model = SAM()  # doctest: +SKIP
        >>> results = model("dog.jpg", points=[150, 150], labels=[1])  # doctest: +SKIP
        >>> results[0].masks.data.shape  # doctest: +SKIP
        (1, 480, 640)
        >>> results[0].save("dog_masks.png")  # doctest: +SKIP

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
        InputError: if the device, precision or variant is unknown, the size does not fit the model, or an option does
            not go with the model.
        MissingExtraError: if PyTorch, or the runtime of an exported folder, is not installed.
    """

    @explain_keywords()
    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        device: DeviceLike | None = None,
        precision: str = "auto",
        image_size: int | None = None,
        variant: str | None = None,
        progress: Progress | None = None,
        memory_pooling: int = 1,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        cache_dir: str | PathLike[str] | None = None,
    ) -> None:
        validate_image_size(image_size)
        validate_memory_pooling(memory_pooling)
        folder = None if cache_dir is None else Path(cache_dir).expanduser()
        names = (providers,) if isinstance(providers, str) else tuple(providers or ())
        runtime = RuntimeOptions(threads, names, folder)
        if model is not None and is_exported_folder(model):
            check_exported_use(device, image_size, memory_pooling)
            self._use(open_exported(model, runtime), "cpu", precision)
            return
        check_runtime_use(runtime)
        resolved_device = resolve_device(device)
        if threads is not None:
            fix_threads(threads)
        loaded = load(model, progress, variant)
        if image_size is not None:
            loaded.network.set_image_size(image_size)
        if memory_pooling == 2:
            loaded.require_sam2("pool memories").pool_memories()
        self._use(loaded, resolved_device, precision)

    def _use(self, loaded: LoadedModel | ExportedModel, device: str, precision: str) -> None:
        self._loaded = loaded
        self._precision = precision
        self._choice = choose_precision(loaded, device, precision)
        self.predictor = ImagePredictor(loaded.network, device, self._choice.image)
        self.video_precision = self._choice.video
        self._encoder = CachedEncoder(self.predictor)

    def keep_images(self, count: int) -> None:
        """Keep the encodings of the last `count` images, for prompts on several by turns; by default of the last one.

        Raises:
            InputError: if `count` is below 1.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"keep_images({count!r:.40}) must be a whole number, 1 or more: the last image is kept")
        self._encoder = CachedEncoder(self.predictor, count)

    def prepare(self, source: SourceLike, *, view: BoxesLike | None = None, channels: Channels = "rgb") -> None:
        """Encode images ahead of the first prompts on them; as many as are kept (`keep_images`) wait for theirs.

        `view` is the part of the image that prompts will have, as for `stream`.

        Raises:
            SourceError: if an image cannot be read.
            PromptError: if the view is malformed or outside the image.
        """
        box = None if view is None else parse_view(view)
        for image in open_images(source, channels=channels):
            self._encoder.encode(image if box is None else crop_image(image, box), SpeedTimer())

    def info(self) -> ModelInfo:
        """Return name, size, file and licenses."""
        return ModelInfo.from_loaded(self._loaded, self.predictor, self._choice)

    @explain_keywords(PredictKeywords.__annotations__)
    def __call__(self, source: SourceLike, **request: Unpack[PredictKeywords]) -> list[Results]:
        """Segment the prompted objects, or everything, in each image of `source`; the keywords are those of `stream`.

        Example:
            >>> model("dog.jpg", points=[150, 150])  # one object  # doctest: +SKIP
            >>> model("dog.jpg", bboxes=[[90, 80, 200, 210], [5, 5, 60, 80]])  # two  # doctest: +SKIP
            >>> model("dog.jpg")  # everything  # doctest: +SKIP
        """
        return list(self.stream(source, **request))

    predict = __call__

    @explain_keywords()
    def stream(
        self,
        source: SourceLike,
        *,
        points: PointsLike | None = None,
        labels: LabelsLike | None = None,
        bboxes: BoxesLike | None = None,
        masks: MasksLike | None = None,
        logits: npt.NDArray[np.float32] | None = None,
        multimask: bool | None = None,
        fill_hole_area: int | None = None,
        threshold: float | None = None,
        view: BoxesLike | None = None,
        everything: MaskGeneratorOptions | str | None = None,
        channels: Channels = "rgb",
    ) -> Iterator[Results]:
        """Segment the images of `source` one by one, in the memory of one image; one `Results` per image.

        Prompts are in original pixels, several are several objects. Without prompts everything is segmented, best
        first. An image without objects has a `Results` of length zero. The image used last is not encoded again.

        Args:
            source: path, URL, folder, glob, PIL image, NumPy array or a list of these.
            points: [x, y]; [[x, y], [x, y]] for two objects; [[[x, y], [x, y]]] for one object with two points.
            labels: nested as the points are, 1 on the object and 0 off it; None: all 1.
            bboxes: [x1, y1, x2, y2] or a list of such.
            masks: rough masks, (H, W) or (N, H, W).
            logits: those of an earlier result for the same objects (`results[0].logits`), to refine it.
            multimask: True gives each object three candidates, best first.
            fill_hole_area: holes and specks of at most this many pixels are cleared; None: specks under 5 % of the
                largest part, and holes under 2 % of the object; 0: none, the masks are those of `predictor.predict`
                (except for objects within a cell of the network, see docs/prompts.md).
                With None, parts with a positive point and holes with a negative one stay. `logits` are never changed.
            threshold: logit above which a pixel is inside, 0 by default; a higher one gives smaller masks.
            view: [x1, y1, x2, y2], the part of the image that the network sees, at its full detail, for prompts on
                small things. Prompts and masks are in pixels of the image; `logits` are those of the part.
            everything: how densely to segment without prompts: "fast", "default", "fine" or `MaskGeneratorOptions`.
            channels: "bgr" if arrays are in OpenCV's order.

        Raises:
            SourceError: if the source cannot be read.
            PromptError: if a prompt or the view is malformed or outside the image, if no prompt lies in the view, or if
                `everything` is combined with prompts.
            InputError: if the preset is unknown, `fill_hole_area` is negative, or `threshold` is no number.
        """
        prompted = points is not None or bboxes is not None or masks is not None
        given = {"labels": labels, "logits": logits, "multimask": multimask, "everything": everything}
        check_prompt_use(prompted, {**given, "fill_hole_area": fill_hole_area, "threshold": threshold, "view": view})
        is_area = isinstance(fill_hole_area, int) and not isinstance(fill_hole_area, bool) and fill_hole_area >= 0
        if fill_hole_area is not None and not is_area:
            raise InputError(
                f"fill_hole_area={fill_hole_area!r:.40} must be a number of pixels, 0 or more; leave it out for the "
                "rule relative to the object"
            )
        is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool) and isfinite(threshold)
        if threshold is not None and not is_number:
            raise InputError(f"threshold={threshold!r:.40} must be a finite number: 0 is usual, 2 gives smaller masks")
        images = open_images(source, channels=channels)
        if not prompted:
            return segment_everything(self._encoder, images, everything)
        return segment_prompts(
            self._encoder,
            images,
            lambda size: parse_prompts(points, labels, bboxes, masks, size=size),
            logits,
            multimask,
            fill_hole_area,
            threshold=threshold or 0.0,
            view=None if view is None else parse_view(view),
        )

    @overload
    def track(self, source: VideoSource, **request: Unpack[AutoTrackRequest]) -> AutoTrackStream: ...
    @overload
    def track(self, source: VideoSource, **request: Unpack[PromptedTrackRequest]) -> Iterator[Results]: ...
    @explain_keywords(AutoTrackRequest.__annotations__)
    def track(
        self,
        source: VideoSource,
        *,
        points: PointsLike | None = None,
        labels: LabelsLike | None = None,
        bboxes: BoxesLike | None = None,
        masks: MasksLike | None = None,
        object_ids: Sequence[int] | None = None,
        frame_idx: int = 0,
        bidirectional: bool = False,
        detector: FrameDetector | None = None,
        everything: MaskGeneratorOptions | str | None = None,
        start: int | None = None,
        stop: int | None = None,
        channels: Channels = "rgb",
        options: TrackOptions | None = None,
        auto_options: AutoTrackOptions | None = None,
        **overrides: Unpack[AutoTrackKeywords],
    ) -> Iterator[Results]:
        """Track objects through a video: one `Results` per frame, with `ids`, `states` and `object_scores`.

        With prompts, those objects are tracked. Without prompts, everything is: objects of the first frame get the
        ids 1, 2, ...; every `detect_every` frames new ones are detected and matched with those that are tracked; a
        track ends after `max_missing_frames` out of sight. The returned `AutoTrackStream` has a `track_history`.

        Args:
            source: video, folder or list of images, array (T, H, W, 3), generator, camera number or stream address.
            points, labels, bboxes, masks: as for images, on frame `frame_idx`.
            object_ids: ids of the prompted objects; None: 1, 2, ...
            bidirectional: track the prompted objects backward from `frame_idx` too.
            detector: finds the objects of a frame, without prompts (see `masklet.video.Detection`); None: everything
                is segmented, as densely as `everything` says, by default "fast".
            start, stop: track frames from `start` to before `stop`, without prompts.
            options: of tracking.
            auto_options: of tracking without prompts; its fields may be given by name.

        Example:
            >>> for frame in model.track("dog.mp4", bboxes=[100, 100, 200, 200]):  # doctest: +SKIP
            ...     frame.save(f"out/{frame.frame_idx:05d}.png")
            >>> tracks = model.track("street.mp4", detect_every=5, max_objects=12)  # doctest: +SKIP
            >>> for frame in tracks:  # doctest: +SKIP
            ...     frame.ids, frame.masks
            >>> print(tracks.track_history)  # doctest: +SKIP
            object 1: object, frames 0 to 89, end of the video

        Raises:
            SourceError: if the source cannot be read.
            PromptError: if a prompt is malformed, or an option does not go with, or without, prompts.
            ModelError: if the model is for images only (without prompts, unless `identities=False`).
            InputError: if an option is unknown or invalid, or a detection is malformed.
        """
        prompted = points is not None or bboxes is not None or masks is not None
        for_prompts = {
            "labels": labels,
            "object_ids": object_ids,
            "frame_idx": frame_idx or None,
            "bidirectional": bidirectional or None,
        }
        for_none = {"detector": detector, "everything": everything, "start": start, "stop": stop}
        check_prompt_use(prompted, {**for_prompts, **for_none, "auto_options": auto_options, **overrides})
        if prompted:
            return track_prompts(
                self.session(source, channels=channels, options=options),
                lambda size: parse_prompts(points, labels, bboxes, masks, size=size),
                frame_idx,
                object_ids,
                bidirectional,
            )
        merged = merge_options(AutoTrackOptions, auto_options, overrides)
        find = detector or MaskGeneratorDetector(self.predictor, everything or "fast")
        needs_network = merged.identities or self._loaded.network.supports_video
        network = make_video_network(self._loaded, self.predictor, self.video_precision) if needs_network else None
        video = source if isinstance(source, Video) else open_video(source, channels=channels)
        return auto_track(network, video, find, merged, options or TrackOptions(), start=start, stop=stop)

    @explain_keywords(TrackKeywords.__annotations__)
    def session(
        self,
        source: VideoSource,
        *,
        resume: str | PathLike[str] | None = None,
        channels: Channels = "rgb",
        options: TrackOptions | None = None,
        **overrides: Unpack[TrackKeywords],
    ) -> Session:
        """Open a video to edit: add, correct and remove objects on any frame, propagate; see `masklet.video.Session`.

        `source` is as for `track`. Options are given as a `TrackOptions`, or by name: `retain="all"`. `resume` is a
        file from `Session.save`; the session starts in its state, with its options.

        Example:
            >>> with model.session("clip.mp4", retain="all") as session:  # doctest: +SKIP
            ...     session.add_prompt(1, frame_idx=0, points=[[210, 350]])
            ...     for frame in session.propagate(bidirectional=True):
            ...         frame.masks, frame.ids, frame.states

        Raises:
            SourceError: if the source cannot be read.
            ModelError: if the model is for images only.
            CheckpointError: if `resume` is no saved session, is damaged, or of another model.
            InputError: if `resume` was saved for another source, or with other options than those given.
        """
        merged = merge_options(TrackOptions, options, overrides)
        saved = None if resume is None else SavedSession.read(resume)
        if saved is not None:
            merged = saved.options(merged if options is not None or overrides else None)
        network = make_video_network(self._loaded, self.predictor, self.video_precision)
        video = source if isinstance(source, Video) else open_video(source, channels=channels)
        return open_session(network, video, merged, saved)

    @explain_keywords(TrackKeywords.__annotations__)
    def live(
        self, *, length: int | None = None, options: TrackOptions | None = None, **overrides: Unpack[TrackKeywords]
    ) -> LiveSession:
        """Track in a live stream: one frame in, one result out; see `masklet.video.LiveSession`.

        `length` is the number of frames to come, if known: the published tracker scales time by it in videos shorter
        than sixteen frames, and with it a live stream gives what the file gives, bit for bit.

        Example:
            >>> live = model.live()  # doctest: +SKIP
            >>> live.add_prompt(1, points=[210, 350])  # doctest: +SKIP
            >>> frame = live.step(rgb)  # doctest: +SKIP

        Raises:
            ModelError: if the model is for images only.
        """
        network = make_video_network(self._loaded, self.predictor, self.video_precision)
        return LiveSession(network, merge_options(TrackOptions, options, overrides), length)

    def train(
        self,
        data: DataPaths,
        *,
        epochs: float | None = None,
        steps: int | None = None,
        out: str | PathLike[str] = "runs/train",
        overrides: Sequence[str] = (),
        workers: int = 0,
        on_progress: Callable[[TrainProgress], None] | None = None,
        **options: Unpack[FinetuneKeywords],
    ) -> Path:
        """Train on your images and videos, continue with the trained model, and return its file.

        A run in the folder `out` is resumed when it is called again.

        Args:
            data: folder, COCO file, a list of them or a mapping from them to weights; COCO, YOLO-seg, PNG masks,
                DAVIS, YouTube-VOS, MOSE, LVOS, SA-1B and SA-V are read (`masklet.datasets`).
            epochs, steps: the length of the run; give one of the two.
            options: fields of `masklet.train.finetune.FinetuneOptions` by name, such as `lora=8` or
                `freeze=("encoder",)`; the defaults are those of the paper.
            overrides: any other values of the run's config, such as "losses.focal=10".

        Example:
            >>> model = SAM()  # doctest: +SKIP
            >>> model.train(data="photos/", epochs=20, out="runs/photos")  # doctest: +SKIP
            PosixPath('runs/photos/model.safetensors')
            >>> print(model.val(data="photos/", split="val"))  # doctest: +SKIP

        Raises:
            SourceError: if data cannot be read.
            InputError: if an option is unknown or invalid.
            CheckpointError: if `out` has another run.
            StateError: if the loss is no longer finite, or there is not enough memory.
        """
        if isinstance(self._loaded, ExportedModel):
            self._loaded.require_sam2("be trained")
        require_torch("training")
        from masklet.sam.finetuning import finetune
        from masklet.train.finetune import parse_options
        from masklet.train.loop import RuntimeConfig

        parsed = parse_options(dict(options), epochs=epochs, steps=steps)
        device, precision = str(self.predictor.device), self._precision
        runtime = RuntimeConfig(device, workers)
        trained = finetune(
            self._loaded, data, parsed, Path(out), runtime=runtime, overrides=overrides, on_progress=on_progress
        )
        self._use(trained, device, precision)
        return trained.path

    def export(
        self,
        out: str | PathLike[str],
        options: ModelExportOptions | None = None,
        *,
        images: SourceLike | None = None,
        overwrite: bool = False,
        on_step: Callable[[str], None] | None = None,
    ) -> Path:
        """Write this model as graphs for other runtimes to the folder `out`, and return the folder.

        Every graph is compared with the model; the folder is written completely or not at all.

        Args:
            options: format, parts, precision and layout; None: the image parts as ONNX in fp32.
            images: what is compared, and what int8 is calibrated on; None: procedural images.
            overwrite: whether to replace an earlier export.
            on_step: called with the name of each step before it.

        Example:
            >>> model.export("builtin-onnx", ModelExportOptions(parts="all"))  # doctest: +SKIP
            PosixPath('builtin-onnx')

        Raises:
            InputError: if the model has no such part, or options do not go together.
            SourceError: if an image cannot be read.
            MissingExtraError: if a package for the format is not installed.
            OutputError: if a graph deviates too much from the model, or the folder cannot be written.
        """
        if isinstance(self._loaded, ExportedModel):
            self._loaded.require_sam2("be exported again")
        from masklet.export.export_model import export_model

        arrays = None if images is None else [image.rgb for image in open_images(images)]
        return export_model(self._loaded, out, options, images=arrays, overwrite=overwrite, on_step=on_step)

    @explain_keywords()
    def val(
        self,
        data: AnyData,
        *,
        split: str | None = None,
        data_format: str | None = None,
        include_crowds: bool = False,
        prompts: Sequence[str] = ("box", "click", "mask"),
        limit: int | None = None,
    ) -> ValidationResult:
        """Measure this model on images and videos with known masks; `print` the result to see a table.

        Args:
            data: a path in any format of `masklet.datasets`, an opened data set, or several of them.
            include_crowds: also measure objects with COCO's iscrowd, which are otherwise left out and counted.
            prompts: images are prompted by "box" and "click", videos by "box", "click" or "mask".
            limit: the number of samples to use, evenly spread.

        Example:
            >>> result = model.val("photos", split="val")  # doctest: +SKIP
            >>> result.images.total.box  # doctest: +SKIP

        Raises:
            InputError: if a prompt or the limit is invalid.
            SourceError: if there is no such data, or none of it can be measured; single broken samples are skipped
                with a MaskletWarning.
            ModelError: if there are videos and the model is for images only.
        """
        from masklet.evaluate.validate import validate

        return validate(
            self,
            data,
            data_format=data_format,
            split=split,
            include_crowds=include_crowds,
            prompts=prompts,
            limit=limit,
        )
