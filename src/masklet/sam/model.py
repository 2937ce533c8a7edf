"""`SAM`: a model, called with an image and what to look for in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from masklet.checkpoints import Progress
from masklet.errors import ModelError
from masklet.image import ImagePredictor
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
from masklet.image.predictor import PRECISIONS
from masklet.load_model import LoadedModel, load
from masklet.media import SourceImage, Video, open_images, open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.types import ImageFeatures
from masklet.prompts import parse_prompts
from masklet.results import Results
from masklet.runtime import resolve_device
from masklet.sam.arguments import (
    MaskGeneratorDetector,
    merge_auto_track_options,
    merge_options,
    reject_auto_track_options,
    reject_prompt_options,
    resolve_object_ids,
    validate_image_size,
)
from masklet.sam.model_info import ModelInfo
from masklet.sam.prediction import (
    StageTimer,
    generate_masks,
    reject_mask_generator,
    reject_prompt_arguments,
    resolve_generator_options,
    results_from_prediction,
)
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
    from masklet.datasets import DataPaths
    from masklet.evaluate.validate import AnyData
    from masklet.evaluate.validation_result import ValidationResult
    from masklet.train.loop import TrainProgress as TrainProgress

__all__ = ["SAM"]


class SAM:
    """Segment anything.

    `model` is nothing (the small model inside the package), a known name (`sam2.1_b.pt`,
    `sam2.1_hiera_base_plus.pt`, `facebook/sam2.1-hiera-base-plus`, `sam_b.pt`, `mobile_sam.pt`) or a .pt or
    .safetensors file. SAM and MobileSAM are for images only. `image_size` is the
    side of the square that images are brought to, a multiple of 32; None: what the model was trained for. Smaller is
    faster and coarser.

    Example:
        >>> model = SAM()
        >>> results = model("dog.jpg", points=[150, 150], labels=[1])
        >>> results[0].masks.data.shape
        (1, 480, 640)
        >>> results[0].save("dog_masks.png")

    Raises:
        UnknownModelError, DownloadError, CheckpointError: the model cannot be had.
        InputError: an unknown device or precision, a size that is no multiple of 32.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        device: str | None = None,
        precision: str = "fp32",
        image_size: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        place = resolve_device(device)
        validate_image_size(image_size)
        self._loaded: LoadedModel = load(model, progress)
        if image_size is not None:
            self._loaded.network.set_image_size(image_size)
        self.predictor = ImagePredictor(self._loaded.network, place, precision)
        self._encoded: tuple[bytes, ImageFeatures | None] = (b"", None)

    def info(self) -> ModelInfo:
        """Name, size, file and licenses."""
        loaded, card = self._loaded, self._loaded.card
        return ModelInfo(
            name=loaded.name,
            path=str(loaded.path),
            parameters=loaded.parameters,
            image_size=loaded.network.image_size,
            still_image_size=loaded.network.still_image_size,
            megabytes=loaded.path.stat().st_size / 1e6,
            license_code=card.license_code if card else "unknown",
            license_weights=card.license_weights if card else "unknown",
            device=str(self.predictor.device),
            precision=self.predictor.precision,
            supports_video=loaded.network.supports_video,
        )

    def __call__(
        self,
        source: object,
        *,
        points: object = None,
        labels: object = None,
        bboxes: object = None,
        masks: object = None,
        logits: npt.NDArray[np.float32] | None = None,
        multimask: bool | None = None,
        everything: MaskGeneratorOptions | str | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
    ) -> list[Results]:
        """Find what the prompts mean, in every image of `source`: a `Results` an image.

        `source` is a path, URL, folder, glob, PIL image, NumPy array (RGB unless `channels` says bgr) or a list
        of these. Prompts are in original pixels: `points=[x, y]`, `points=[[x, y], [x, y]]` for two objects,
        `points=[[[x, y], [x, y]]]` for one object with two points; `labels` nest alike, 1 on the object and 0 off
        it; `bboxes=[x1, y1, x2, y2]`; `masks` (H, W). Several prompts are several objects. `logits` are those of an
        earlier result for the same objects (`results[0].logits`); `multimask=True` answers each object with three
        candidates, best first. The same image asked again is not encoded again.

        Without prompts everything is found, best first; `everything` is a preset (fast, default, fine) or an
        `EverythingOptions`. An image in which nothing is found has a `Results` of length zero.

        Raises:
            SourceError: a source that cannot be read.
            PromptError: prompts that cannot be meant, or prompts and `everything`.
            InputError: an unknown preset.
        """
        return list(
            self.stream(
                source,
                points=points,
                labels=labels,
                bboxes=bboxes,
                masks=masks,
                logits=logits,
                multimask=multimask,
                everything=everything,
                channels=channels,
            )
        )

    def stream(
        self,
        source: object,
        *,
        points: object = None,
        labels: object = None,
        bboxes: object = None,
        masks: object = None,
        logits: npt.NDArray[np.float32] | None = None,
        multimask: bool | None = None,
        everything: MaskGeneratorOptions | str | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
    ) -> Iterator[Results]:
        """As calling the model, but one `Results` at a time: a long folder needs the memory of one image."""
        unprompted = points is None and bboxes is None and masks is None
        if unprompted:
            reject_prompt_arguments(labels=labels, logits=logits, multimask=multimask)
            options = resolve_generator_options(self.predictor.model, everything)
        else:
            reject_mask_generator(everything)
        images = open_images(source, channels=channels)  # type: ignore[arg-type]

        def wholes() -> Iterator[Results]:
            for image in images:
                clock = StageTimer()
                self._set_image(image, clock)
                yield generate_masks(self.predictor, image, options, clock)

        def results() -> Iterator[Results]:
            for image in images:
                asked = parse_prompts(points, labels, bboxes, masks, size=image.size)
                clock = StageTimer()
                self._set_image(image, clock)
                prediction = self.predictor.predict_prompts(asked, mask_input=logits, multimask_output=multimask)
                clock.tick("decode")
                yield results_from_prediction(image, prediction, clock)

        return wholes() if unprompted else results()

    predict = __call__

    def track(
        self,
        source: Any,
        *,
        points: object = None,
        labels: object = None,
        bboxes: object = None,
        masks: object = None,
        object_ids: Sequence[int] | None = None,
        frame_idx: int = 0,
        bidirectional: bool = False,
        channels: Literal["rgb", "bgr"] = "rgb",
        options: TrackOptions | None = None,
        detector: FrameDetector | None = None,
        **overrides: Any,
    ) -> Iterator[Results]:
        """Follow what the prompts mean through a video: a `Results` a frame, with `ids`, `states` and `presence`.

        `source` is whatever `masklet.media.open_video` reads: a video, a folder or list of images, an array
        (T, H, W, 3), a generator, a camera's number, a stream's address. Prompts are spelt as for images and hold
        for frame number `frame`; `both=True` follows the objects back from there too. `ids` are the objects' own
        numbers, by default 1, 2, ...

        Without prompts everything is followed: `finder` and the names in `how` are then those of `follow`, and what
        comes back is a `Following`.

        Example:
            >>> for frame in model.track("dog.mp4", bboxes=[100, 100, 200, 200]):
            ...     frame.save(f"out/{frame.frame:05d}.png")
            >>> for frame in model.track("street.mp4", every=5, max_objects=12):
            ...     frame.ids

        Raises:
            SourceError: a source that cannot be read.
            PromptError: prompts that cannot be meant.
            InputError: an option that there is not.
        """
        if points is None and bboxes is None and masks is None:
            reject_prompt_options(labels=labels, ids=object_ids, frame=frame_idx, both=bidirectional)
            return self._track_everything(
                source, detector=detector, channels=channels, track_options=options, **overrides
            )
        reject_auto_track_options(detector, overrides)
        session = self.session(source, channels=channels, options=options)
        try:
            image = session.frame(frame_idx)
            asked = parse_prompts(points, labels, bboxes, masks, size=image.size)
            for number, prompt in zip(resolve_object_ids(object_ids, len(asked)), asked, strict=True):
                session._add_object_prompt(number, frame_idx, prompt)
        except BaseException:
            session.close()
            raise

        def results() -> Iterator[Results]:
            with session:
                yield from session.propagate(bidirectional=bidirectional)

        return results()

    def _track_everything(
        self,
        source: Any,
        *,
        detector: FrameDetector | None = None,
        everything: MaskGeneratorOptions | str = "fast",
        channels: Literal["rgb", "bgr"] = "rgb",
        auto_options: AutoTrackOptions | None = None,
        track_options: TrackOptions | None = None,
        start: int | None = None,
        stop: int | None = None,
        **overrides: Any,
    ) -> AutoTrackStream:
        """Follow all there is in a video, without prompts: a `Results` a frame, and who was born and died in `lives`.

        Objects of the first frame are followed under the ids 1, 2, ...; what appears later is found every `every`
        frames and joined without duplicates, what is out of sight for `forget_after` frames is let go of. Options are
        given as a `FollowOptions`, or by name. `finder` says what there is in a frame (see `masklet.video.Found`);
        None: everything is segmented, as densely as `everything` says: "fast", "default", "fine" or
        `EverythingOptions`. `identities=False` looks at every frame by itself. `source` is as for `track`; frames are
        those from `start` to before `stop`.

        Example:
            >>> following = model.follow("street.mp4", every=5, max_objects=12)
            >>> for frame in following:
            ...     frame.ids, frame.masks, following.lives.born, following.lives.died
            >>> print(following.lives)
            object 1: object, frames 0 to 89, end of the video

        Raises:
            SourceError: a source that cannot be read.
            ModelError: a model for images only, unless `identities=False`.
            InputError: an option that there is not, or finds that cannot be meant.
        """
        wanted, tracking = merge_auto_track_options(auto_options, overrides), track_options or TrackOptions()
        find = MaskGeneratorDetector(self.predictor, everything) if detector is None else detector
        alone = not wanted.identities and not self._loaded.network.supports_video
        stepper = None if alone else self._video_network()
        video = source if isinstance(source, Video) else open_video(source, channels=channels)
        return auto_track(stepper, video, find, wanted, tracking, start=start, stop=stop)

    def session(
        self,
        source: Any,
        *,
        resume: str | PathLike[str] | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
        options: TrackOptions | None = None,
        **overrides: Any,
    ) -> Session:
        """A video to work on: add, correct and remove objects on any frame, propagate; see `masklet.video.Session`.

        `source` is as for `track`. Options are given as a `TrackOptions`, or by name: `keep="all"`. `resume` is a
        file that `Session.save` wrote: the session then knows what that one knew, with its options.

        Example:
            >>> with model.session("clip.mp4", keep="all") as s:
            ...     s.add(1, frame=0, points=[[210, 350]])
            ...     for frame in s.propagate(both=True):
            ...         frame.masks, frame.ids, frame.states

        Raises:
            SourceError: a source that cannot be read.
            ModelError: a model for images only.
            CheckpointError: `resume` is no saved session, is damaged, or of another model.
            InputError: `resume` was saved for another source, or with other options than those given.
        """
        given = merge_options(options, overrides)
        saved = None if resume is None else SavedSession.read(resume)
        if saved is not None:
            given = saved.options(given if options is not None or overrides else None)
        network = self._video_network()
        video = source if isinstance(source, Video) else open_video(source, channels=channels)
        session = Session(network, video, given)
        try:
            if saved is not None:
                session.restore_saved(saved)
        except BaseException:
            session.close()
            raise
        return session

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
        **options: Any,
    ) -> Path:
        """Learn from somebody's own images and videos; the model then is what it has become, and its file is returned.

        `data` is a folder, a COCO file, a list of them or a mapping from them to weights: COCO, YOLO-seg, PNG masks,
        DAVIS, YouTube-VOS, MOSE, LVOS, SA-1B and SA-V are read (`masklet.datasets`). How long is said by `epochs` or
        `steps`. Further names are those of `masklet.train.finetune.Wish`: batch, frames, size, rate,
        freeze=("encoder",),
        lora=8, accumulate, precision, checkpointing; `settings` are any others, as "losses.focal=10". What is not said
        is as the paper has it. The run lives in the folder `out` and goes on from there when it is called again.

        Example:
            >>> model = SAM()
            >>> model.train(data="photos/", epochs=20, out="runs/photos")
            PosixPath('runs/photos/model.safetensors')
            >>> print(model.val(data="photos/", split="val"))

        Raises:
            SourceError: data that cannot be read.
            InputError: a wish that cannot be meant.
            CheckpointError: `out` holds another run.
            StateError: the loss is no longer a number, or there is not enough memory.
        """
        from masklet.train.finetune import apply_overrides, build_config, parse_options, require_single_process, run
        from masklet.train.loop import RuntimeConfig

        wanted = parse_options(options, epochs=epochs, steps=steps)
        require_single_process()
        network = self._loaded.require_sam2("be trained here")
        if wanted.image_size is None and network.image_size != network.config.image_size:
            wanted = replace(wanted, image_size=network.image_size)
        machine = RuntimeConfig(str(self.predictor.device), workers)
        config = apply_overrides(build_config(wanted, str(self._loaded.path), data, machine), overrides)
        path = run(config, data, Path(out), machine, on_progress)
        self._loaded = load(path)
        learned = self._loaded.require_sam2("be trained here")
        learned.image_size, learned.still_image_size_override = network.image_size, network.still_image_size_override
        self.predictor = ImagePredictor(learned, str(self.predictor.device), self.predictor.precision)
        self._encoded = (b"", None)
        return path

    def val(
        self,
        data: AnyData,
        *,
        split: str | None = None,
        data_format: str | None = None,
        prompts: Sequence[str] = ("box", "click", "mask"),
        limit: int | None = None,
    ) -> ValidationResult:
        """Measure this model on images and videos with known masks; `print` what comes back.

        `data` is a path in any layout of `masklet.datasets`, an opened data set, or several of them. Images are asked
        by "box" and "click", videos followed from "box", "click" or "mask". `limit` takes so many entries, spread
        evenly.

        Example:
            >>> found = model.val("photos", split="val")
            >>> print(found)
            >>> found.stills.total.box

        Raises:
            InputError: an unknown prompt or limit.
            SourceError: no such data, or nothing in it could be measured; single broken entries are left out with a
                MaskletWarning.
            ModelError: videos, and a model for images only.
        """
        from masklet.evaluate.validate import validate

        return validate(self, data, data_format=data_format, split=split, prompts=prompts, limit=limit)

    def live(self, *, length: int | None = None, options: TrackOptions | None = None, **overrides: Any) -> LiveSession:
        """A live view: one frame in, one result out; see `masklet.video.Live`.

        `length` is the number of frames to come, if it is known: the published tracker measures time against it in
        videos shorter than sixteen frames, and with it a live view gives what the file gives, bit for bit.

        Example:
            >>> live = model.live()
            >>> live.add(1, points=[210, 350])
            >>> frame = live.step(rgb)

        Raises:
            ModelError: a model for images only.
        """
        return LiveSession(self._video_network(), merge_options(options, overrides), length)

    def _video_network(self) -> FastSAM2:
        network, predictor = self._loaded.require_sam2("follow objects through videos"), self.predictor
        if network.config.memory is None:
            raise ModelError(
                f"{self._loaded.name} ({self._loaded.path}) is for images only: its file has no memory; "
                "choose another model, such as sam2.1_t.pt, to follow objects through videos"
            )
        return FastSAM2(network, PRECISIONS[predictor.precision], predictor.encode)

    def _set_image(self, image: SourceImage, timer: StageTimer) -> None:
        """Encode the image, unless it is the one that is encoded already."""
        shape = np.array(image.rgb.shape, np.int64).tobytes()
        key = hashlib.blake2b(np.ascontiguousarray(image.rgb).data, key=shape).digest()
        known, features = self._encoded
        if key != known or features is not self.predictor.features:  # the predictor may be used by itself
            pixels = self.predictor._image_transform(image.size).preprocess(image.rgb)
            timer.tick("preprocess")
            self.predictor._set_preprocessed(pixels, image.size)
            self._encoded = (key, self.predictor.features)
        timer.tick("encode")
