"""From a folder to a model: read the manifest, check the files, open the graphs that every image needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import NoReturn

from masklet.cpu_threads import choose_runtime_threads
from masklet.errors import ModelError, UnknownModelError
from masklet.exported.graphs import Engine, RuntimeOptions, signature
from masklet.exported.manifest import MANIFEST_FILE, FolderManifest, read_manifest
from masklet.exported.network import ExportedNetwork
from masklet.exported.onnxruntime_engine import OnnxRuntimeEngine
from masklet.exported.openvino_engine import OpenVinoEngine
from masklet.exported.torch_engine import TorchEngine
from masklet.registry import MODELS, ModelCard, get_card

__all__ = ["ExportedModel", "is_exported_folder", "open_exported"]


@dataclass(frozen=True)
class ExportedModel:
    """An exported network, its name and its folder."""

    network: ExportedNetwork
    name: str
    path: Path

    @property
    def parameters(self) -> int | None:
        """Number of values in all tensors of the network that was exported; None: the folder does not say it."""
        return self.network.manifest.parameters

    @property
    def card(self) -> ModelCard | None:
        """Card of the published model of that name."""
        return MODELS.get(self.name)

    def require_video(self) -> ExportedNetwork:
        """Return the network for videos, with all its graphs opened.

        Raises:
            ModelError: if it was exported for images only.
            CheckpointError: if a graph cannot be opened.
        """
        manifest = self.network.manifest
        if manifest.video is None:
            raise ModelError(
                f"{self.path} was exported for images only: it has no memory parts; export the model with --parts all, "
                "if it is a SAM 2, to follow objects through videos"
            )
        for part in manifest.graphs:
            self.network.engine.load(part)
        return self.network

    def require_sam2(self, purpose: str) -> NoReturn:
        """Raise ModelError: a purpose that needs the weights themselves cannot be had from graphs."""
        raise ModelError(
            f"{self.path} is an exported model, which cannot {purpose}: open the model that it was exported from"
        )


def is_exported_folder(model: str | PathLike[str] | None) -> bool:
    """Return whether `model` names a folder rather than a file or a known model."""
    if model is None or not str(model).strip():
        return False
    path = Path(model).expanduser()
    if not path.is_dir():
        return False
    if (path / MANIFEST_FILE).is_file():
        return True
    try:
        get_card(str(model))
    except UnknownModelError:
        return True
    return False


def open_exported(folder: str | PathLike[str], options: RuntimeOptions | None = None) -> ExportedModel:
    """Open an exported folder.

    Example:
        >>> model = open_exported("exported/")  # doctest: +SKIP
        >>> model.network.engine.description  # doctest: +SKIP
        'onnxruntime 1.22.0, CPUExecutionProvider'

    Raises:
        CheckpointError: if the folder is damaged, of a newer version, or no exported model.
        MissingExtraError: if its runtime is not installed.
        InputError: if an option is invalid.
    """
    path = Path(folder).expanduser().absolute()
    options = options or RuntimeOptions()
    manifest = read_manifest(path)
    engine = _make_engine(manifest, options)
    for part in ("image_encoder", "prompt_decoder"):
        engine.load(part)
    return ExportedModel(ExportedNetwork(manifest, engine, partial(_reopen, path, options)), manifest.name, path)


def _make_engine(manifest: FolderManifest, options: RuntimeOptions) -> Engine:
    signatures = {
        part: signature(part, has_finer_maps=manifest.has_finer_maps, has_keys=manifest.matching is not None)
        for part in manifest.graphs
    }
    engines: dict[str, Callable[..., Engine]] = {
        "onnx": OnnxRuntimeEngine,
        "openvino": OpenVinoEngine,
        "torch": TorchEngine,
    }
    return engines[manifest.format](manifest.graphs, signatures, options, options.threads or choose_runtime_threads())


def _reopen(folder: Path, options: RuntimeOptions) -> ExportedNetwork:
    return open_exported(folder, options).network
