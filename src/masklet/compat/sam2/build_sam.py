"""Build predictors by the names of configs and checkpoints, as `sam2.build_sam`."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from masklet import sam
from masklet.compat.sam2.sam2_camera_predictor import SAM2CameraPredictor
from masklet.compat.sam2.sam2_video_predictor import SAM2VideoPredictor
from masklet.errors import CheckpointError, InputError
from masklet.models.sam2 import SAM2
from masklet.runtime import DeviceLike

if TYPE_CHECKING:
    from masklet.exported import ExportedModel
    from masklet.load_model import LoadedModel

__all__ = [
    "build_sam2",
    "build_sam2_camera_predictor",
    "build_sam2_hf",
    "build_sam2_video_predictor",
    "build_sam2_video_predictor_hf",
]

SIZES = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}
IMAGE_SIZE_OVERRIDE = "model.image_size"
Checkpoint = str | PathLike[str] | None


def build_sam2(
    config_file: str | None = None,
    ckpt_path: Checkpoint = None,
    device: DeviceLike | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: object,
) -> SAM2:
    """Build the network of an image predictor.

    `config_file` is a name such as configs/sam2.1/sam2.1_hiera_t.yaml; the checkpoint must be of that network, and None
    accepts any. `device` None is the best of this machine. Without `apply_postprocessing` a single mask does not fall
    back to the most stable of three.

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the checkpoint cannot be opened, or is another network.
        InputError: if there is no checkpoint, or an override other than ++model.image_size=N.
    """
    network = _open(config_file, ckpt_path, device, mode, hydra_overrides_extra).predictor.model
    assert isinstance(network, SAM2)
    if not apply_postprocessing:
        network.stability_threshold = 0.0
    return network


def build_sam2_hf(model_id: str, **kwargs: object) -> SAM2:
    """Build the network of an image predictor by its name on the hub: "facebook/sam2.1-hiera-tiny"."""
    return build_sam2(None, model_id, **kwargs)  # type: ignore[arg-type]


def build_sam2_video_predictor(
    config_file: str | None = None,
    ckpt_path: Checkpoint = None,
    device: DeviceLike | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: object,
) -> SAM2VideoPredictor:
    """Build a video predictor; arguments as of `build_sam2`. `vos_optimized` changes nothing: nothing is compiled.

    Raises:
        As `build_sam2`, and InputError without `apply_postprocessing`.
    """
    _require_postprocessing(apply_postprocessing)
    return SAM2VideoPredictor(_open(config_file, ckpt_path, device, mode, hydra_overrides_extra))


def build_sam2_video_predictor_hf(model_id: str, **kwargs: object) -> SAM2VideoPredictor:
    """Build a video predictor by its name on the hub: "facebook/sam2.1-hiera-tiny"."""
    return build_sam2_video_predictor(None, model_id, **kwargs)  # type: ignore[arg-type]


def build_sam2_camera_predictor(
    config_file: str | None = None,
    ckpt_path: Checkpoint = None,
    device: DeviceLike | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: object,
) -> SAM2CameraPredictor:
    """Build a predictor of live frames, as segment-anything-2-real-time has it; arguments as of `build_sam2`.

    Raises:
        As `build_sam2`, and InputError without `apply_postprocessing`.
    """
    _require_postprocessing(apply_postprocessing)
    return SAM2CameraPredictor(_open(config_file, ckpt_path, device, mode, hydra_overrides_extra))


def _open(
    config_file: str | None, ckpt_path: Checkpoint, device: DeviceLike | None, mode: str, overrides: Sequence[str]
) -> sam.SAM:
    if mode != "eval":
        raise InputError(f"mode={mode!r} is not possible here; masklet.SAM(...).train(data=...) trains")
    if ckpt_path is None:
        raise InputError("ckpt_path=None would be random weights; give a file or a name, as 'sam2.1_hiera_tiny.pt'")
    image_size = None
    for override in overrides:
        name, _, value = override.lstrip("+").partition("=")
        if name != IMAGE_SIZE_OVERRIDE or not value.isdecimal():
            raise InputError(
                f"the override {override!r} is not possible here; ++model.image_size=512 is, and masklet.TrackOptions "
                "has options of tracking"
            )
        image_size = int(value)
    model = sam.SAM(ckpt_path, device=device, precision="fp32", image_size=image_size)
    _check_config(config_file, model._loaded)
    return model


def _check_config(config_file: str | None, loaded: LoadedModel | ExportedModel) -> None:
    if config_file is None:
        return
    stem = PurePosixPath(config_file.replace("\\", "/")).name.removesuffix(".yaml")
    head, _, size = stem.rpartition("_")
    wanted = f"{head}_{SIZES.get(size, size)}"
    if wanted != loaded.name:
        raise CheckpointError(
            f"{loaded.path} is {loaded.name}, not {wanted} as config_file={config_file!r} says: give the checkpoint "
            "of that config, or config_file=None for any"
        )


def _require_postprocessing(apply_postprocessing: bool) -> None:
    if not apply_postprocessing:
        raise InputError(
            "apply_postprocessing=False is not possible in videos; masks never have holes filled here: leave it out"
        )
