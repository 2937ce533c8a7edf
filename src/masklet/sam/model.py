"""`SAM`: a model, called with a picture and what to look for in it."""

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
from masklet.image.automatic_mask_generator import EverythingOptions
from masklet.image.predictor import PRECISIONS
from masklet.load_model import LoadedModel, load
from masklet.media import Picture, Video, open_source, open_video
from masklet.models.types import ImageFeatures
from masklet.prompts import parse_prompts
from masklet.results import Results
from masklet.runtime import device_of
from masklet.sam.arguments import (
    EverythingFinder,
    check_side,
    follow_options_of,
    numbers_of,
    options_of,
    refuse_follow_options,
    refuse_prompt_options,
)
from masklet.sam.model_info import ModelInfo
from masklet.sam.prediction import Clock, everything_options, refuse_everything, refuse_prompt_words, results_of, whole
from masklet.video import (
    Finder,
    Following,
    FollowOptions,
    Live,
    SavedSession,
    Session,
    Stepper,
    TrackOptions,
    follow_everything,
)

if TYPE_CHECKING:
    from masklet.datasets import DataPaths
    from masklet.evaluate.validate import AnyData
    from masklet.evaluate.validation_result import Validation
    from masklet.train.loop import Progress as TrainProgress

__all__ = ["SAM"]


class SAM:
    """Segment anything.

    `model` is nothing (the small model inside the package), a known name (`sam2.1_b.pt`,
    `sam2.1_hiera_base_plus.pt`, `facebook/sam2.1-hiera-base-plus`, `sam_b.pt`, `mobile_sam.pt`) or a .pt or
    .safetensors file. SAM and MobileSAM are for pictures only. `image_size` is the
    side of the square that pictures are brought to, a multiple of 32; None: what the model was trained for. Smaller is
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
        place = device_of(device)
        check_side(image_size)
        self._loaded: LoadedModel = load(model, progress)
        if image_size is not None:
            self._loaded.network.look_at(image_size)
        self.predictor = ImagePredictor(self._loaded.network, place, precision)
        self._encoded: tuple[bytes, ImageFeatures | None] = (b"", None)

    def info(self) -> ModelInfo:
        """Name, size, file and licences."""
        loaded, card = self._loaded, self._loaded.card
        return ModelInfo(
            name=loaded.name,
            path=str(loaded.path),
            parameters=loaded.parameters,
            image_size=loaded.network.image_size,
            picture_size=loaded.network.picture_size,
            megabytes=loaded.path.stat().st_size / 1e6,
            licence_code=card.licence_code if card else "unknown",
            licence_weights=card.licence_weights if card else "unknown",
            device=str(self.predictor.device),
            precision=self.predictor.precision,
            follows_films=loaded.network.follows_films,
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
        everything: EverythingOptions | str | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
    ) -> list[Results]:
        """Find what the prompts mean, in every picture of `source`: a `Results` a picture.

        `source` is a path, URL, folder, glob, PIL picture, NumPy array (RGB unless `channels` says bgr) or a list
        of these. Prompts are in original pixels: `points=[x, y]`, `points=[[x, y], [x, y]]` for two objects,
        `points=[[[x, y], [x, y]]]` for one object with two points; `labels` nest alike, 1 on the object and 0 off
        it; `bboxes=[x1, y1, x2, y2]`; `masks` (H, W). Several prompts are several objects. `logits` are those of an
        earlier result for the same objects (`results[0].logits`); `multimask=True` answers each object with three
        candidates, best first. The same picture asked again is not encoded again.

        Without prompts everything is found, best first; `everything` is a preset (fast, default, fine) or an
        `EverythingOptions`. A picture in which nothing is found has a `Results` of length nought.

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
        everything: EverythingOptions | str | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
    ) -> Iterator[Results]:
        """As calling the model, but one `Results` at a time: a long folder needs the memory of one picture."""
        unprompted = points is None and bboxes is None and masks is None
        if unprompted:
            refuse_prompt_words(labels=labels, logits=logits, multimask=multimask)
            options = everything_options(self.predictor.model, everything)
        else:
            refuse_everything(everything)
        pictures = open_source(source, channels=channels)  # type: ignore[arg-type]

        def wholes() -> Iterator[Results]:
            for picture in pictures:
                clock = Clock()
                self._set(picture, clock)
                yield whole(self.predictor, picture, options, clock)

        def results() -> Iterator[Results]:
            for picture in pictures:
                asked = parse_prompts(points, labels, bboxes, masks, size=picture.size)
                clock = Clock()
                self._set(picture, clock)
                prediction = self.predictor.ask(asked, logits=logits, multimask=multimask)
                clock.tick("decode")
                yield results_of(picture, prediction, clock)

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
        ids: Sequence[int] | None = None,
        frame: int = 0,
        both: bool = False,
        channels: Literal["rgb", "bgr"] = "rgb",
        options: TrackOptions | None = None,
        finder: Finder | None = None,
        **how: Any,
    ) -> Iterator[Results]:
        """Follow what the prompts mean through a film: a `Results` a frame, with `ids`, `states` and `presence`.

        `source` is whatever `masklet.media.open_video` reads: a film, a folder or list of pictures, an array
        (T, H, W, 3), a generator, a camera's number, a stream's address. Prompts are spelt as for pictures and hold
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
            refuse_prompt_options(labels=labels, ids=ids, frame=frame, both=both)
            return self.follow(source, finder=finder, channels=channels, track=options, **how)
        refuse_follow_options(finder, how)
        session = self.session(source, channels=channels, options=options)
        try:
            picture = session.frame(frame)
            asked = parse_prompts(points, labels, bboxes, masks, size=picture.size)
            for number, prompt in zip(numbers_of(ids, len(asked)), asked, strict=True):
                session.say(number, frame, prompt)
        except BaseException:
            session.close()
            raise

        def results() -> Iterator[Results]:
            with session:
                yield from session.propagate(both=both)

        return results()

    def follow(
        self,
        source: Any,
        *,
        finder: Finder | None = None,
        everything: EverythingOptions | str = "fast",
        channels: Literal["rgb", "bgr"] = "rgb",
        options: FollowOptions | None = None,
        track: TrackOptions | None = None,
        start: int | None = None,
        stop: int | None = None,
        **how: Any,
    ) -> Following:
        """Follow all there is in a film, without prompts: a `Results` a frame, and who was born and died in `lives`.

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
            object 1: object, frames 0 to 89, end of the film

        Raises:
            SourceError: a source that cannot be read.
            ModelError: a model for pictures only, unless `identities=False`.
            InputError: an option that there is not, or finds that cannot be meant.
        """
        wanted, tracking = follow_options_of(options, how), track or TrackOptions()
        find = EverythingFinder(self.predictor, everything) if finder is None else finder
        alone = not wanted.identities and not self._loaded.network.follows_films
        stepper = None if alone else self._stepper(tracking)[0]
        video = source if isinstance(source, Video) else open_video(source, channels=channels)
        return follow_everything(stepper, video, find, wanted, tracking, start=start, stop=stop)

    def session(
        self,
        source: Any,
        *,
        resume: str | PathLike[str] | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
        options: TrackOptions | None = None,
        **how: Any,
    ) -> Session:
        """A film to work on: add, correct and remove objects on any frame, propagate; see `masklet.video.Session`.

        `source` is as for `track`. Options are given as a `TrackOptions`, or by name: `keep="all"`. `resume` is a
        file that `Session.save` wrote: the session then knows what that one knew, with its options.

        Example:
            >>> with model.session("clip.mp4", keep="all") as s:
            ...     s.add(1, frame=0, points=[[210, 350]])
            ...     for frame in s.propagate(both=True):
            ...         frame.masks, frame.ids, frame.states

        Raises:
            SourceError: a source that cannot be read.
            ModelError: a model for pictures only.
            CheckpointError: `resume` is no saved session, is damaged, or of another model.
            InputError: `resume` was saved for another source, or with other options than those given.
        """
        given = options_of(options, how)
        saved = None if resume is None else SavedSession.read(resume)
        if saved is not None:
            given = saved.options(given if options is not None or how else None)
        stepper, chosen = self._stepper(given)
        video = source if isinstance(source, Video) else open_video(source, channels=channels)
        session = Session(stepper, video, chosen)
        try:
            if saved is not None:
                session.restore(saved)
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
        settings: Sequence[str] = (),
        workers: int = 0,
        report: Callable[[TrainProgress], None] | None = None,
        **wish: Any,
    ) -> Path:
        """Learn from somebody's own pictures and films; the model then is what it has become, and its file is returned.

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
        from masklet.train.finetune import config_for, fine_tuned, one_process, wish_of, with_settings
        from masklet.train.loop import Machine

        wanted = wish_of(wish, epochs=epochs, steps=steps)
        one_process()
        network = self._loaded.as_sam2("be trained here")
        if wanted.size is None and network.image_size != network.config.image_size:
            wanted = replace(wanted, size=network.image_size)
        machine = Machine(str(self.predictor.device), workers)
        config = with_settings(config_for(wanted, str(self._loaded.path), data, machine), settings)
        path = fine_tuned(config, data, Path(out), machine, report)
        self._loaded = load(path)
        learned = self._loaded.as_sam2("be trained here")
        learned.image_size, learned.own_picture_size = network.image_size, network.own_picture_size
        self.predictor = ImagePredictor(learned, str(self.predictor.device), self.predictor.precision)
        self._encoded = (b"", None)
        return path

    def val(
        self,
        data: AnyData,
        *,
        split: str | None = None,
        kind: str | None = None,
        prompts: Sequence[str] = ("box", "click", "mask"),
        limit: int | None = None,
    ) -> Validation:
        """Measure this model on pictures and films with known masks; `print` what comes back.

        `data` is a path in any layout of `masklet.datasets`, an opened data set, or several of them. Pictures are asked
        by "box" and "click", films followed from "box", "click" or "mask". `limit` takes so many entries, spread
        evenly.

        Example:
            >>> found = model.val("photos", split="val")
            >>> print(found)
            >>> found.stills.total.box

        Raises:
            InputError: an unknown prompt or limit.
            SourceError: no such data, or nothing in it could be measured; single broken entries are left out with a
                MaskletWarning.
            ModelError: films, and a model for pictures only.
        """
        from masklet.evaluate.validate import validate

        return validate(self, data, kind=kind, split=split, prompts=prompts, limit=limit)

    def live(self, *, length: int | None = None, options: TrackOptions | None = None, **how: Any) -> Live:
        """A live view: one frame in, one result out; see `masklet.video.Live`.

        `length` is the number of frames to come, if it is known: the published tracker measures time against it in
        films shorter than sixteen frames, and with it a live view gives what the file gives, bit for bit.

        Example:
            >>> live = model.live()
            >>> live.add(1, points=[210, 350])
            >>> frame = live.step(rgb)

        Raises:
            ModelError: a model for pictures only.
        """
        return Live(*self._stepper(options_of(options, how)), length)

    def _stepper(self, options: TrackOptions) -> tuple[Stepper, TrackOptions]:
        network, predictor = self._loaded.as_sam2("follow objects through films"), self.predictor
        if network.config.memory is None:
            raise ModelError(
                f"{self._loaded.name} ({self._loaded.path}) is for pictures only: its file has no memory; "
                "choose another model, such as sam2.1_t.pt, to follow objects through films"
            )
        dtype = PRECISIONS[predictor.precision]
        return Stepper(network, predictor.encode, predictor.device, dtype, options.objects_at_once), options

    def _set(self, picture: Picture, clock: Clock) -> None:
        """Encode the picture, unless it is the one that is encoded already."""
        shape = np.array(picture.rgb.shape, np.int64).tobytes()
        key = hashlib.blake2b(np.ascontiguousarray(picture.rgb).data, key=shape).digest()
        known, features = self._encoded
        if key != known or features is not self.predictor.features:  # the predictor may be used by itself
            pixels = self.predictor.fit(picture.size).to_input(picture.rgb)
            clock.tick("preprocess")
            self.predictor.set_input(pixels, picture.size)
            self._encoded = (key, self.predictor.features)
        clock.tick("encode")
