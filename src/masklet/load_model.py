"""From a name or a file to a network: found, read, recognized, checked, filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from torch import Tensor

from masklet.checkpoints import Progress, check_shapes, read_tensors
from masklet.errors import ModelError, UnknownModelError
from masklet.models import sam1, sam2
from masklet.models.sam1 import SAM1
from masklet.models.sam1 import state_dict as sam1_naming
from masklet.models.sam1 import state_dict as sam1_weights
from masklet.models.sam2 import SAM2, SAM2Config
from masklet.models.sam2 import state_dict as sam2_naming
from masklet.models.sam2 import state_dict as sam2_weights
from masklet.registry import BUILTIN, MODELS, ModelCard, get_card, locate

__all__ = ["LoadedModel", "load"]

DEFAULT_SAM2 = "sam2.1_hiera_base_plus"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class LoadedModel:
    """A network with where it came from."""

    network: SAM2 | SAM1
    name: str
    """Canonical name of the config its tensors have, such as `sam2.1_hiera_tiny`."""
    path: Path
    card: ModelCard | None
    """The published (or built-in) model of that name; a fine-tuned file has the same card."""

    @property
    def parameters(self) -> int:
        """Values in all tensors."""
        return sum(t.numel() for t in self.network.state_dict().values())

    def require_sam2(self, purpose: str) -> SAM2:
        """The network, for what only SAM 2 can do.

        Example:
            >>> load("mobile_sam.pt").as_sam2("follow objects through videos")
            Traceback (most recent call last):
                ...
            masklet.errors.ModelError: mobile_sam (...) is for images only: it cannot follow objects through videos ...

        Raises:
            ModelError: it is a SAM 1.
        """
        if isinstance(self.network, SAM2):
            return self.network
        raise ModelError(
            f"{self.name} ({self.path}) is for images only: it cannot {purpose}; choose a SAM 2, such as "
            "sam2.1_t.pt, or leave the model out for the one inside the package"
        )


def load(model: str | PathLike[str] | None = None, progress: Progress | None = None) -> LoadedModel:
    """The network that `model` names; None is the built-in one.

    Which network a file holds is read from its tensors, never from its name.

    Example:
        >>> load("sam2.1_t.pt").name
        'sam2.1_hiera_tiny'
        >>> load("sam_b.pt").name
        'sam_vit_b'

    Raises:
        UnknownModelError: neither a known name nor a file.
        ModelError: the name of a detector.
        DownloadError: a published file that is not here and could not be fetched.
        CheckpointError: a file that is damaged, hostile, or another network.
    """
    if isinstance(model, str) and not model.strip():
        raise UnknownModelError(
            f"model {model!r} is empty; leave it out for the built-in model, or name a .pt or .safetensors file, "
            f"or one of {', '.join(name for name, card in MODELS.items() if card.is_sam)}"
        )
    path = _resolve_file(BUILTIN if model is None else model, progress)
    name, network = _build_network(read_tensors(path), path)
    return LoadedModel(network, name, path, MODELS.get(BUILTIN if name == "builtin" else name))


def _resolve_file(model: str | PathLike[str], progress: Progress | None) -> Path:
    """As `registry.resolve`, but names of detectors are refused before anything is fetched."""
    path = Path(model).expanduser()
    if path.is_file():
        return path
    card = get_card(str(model))
    if not card.is_sam:
        face = "YOLO" if card.family == "yolo" else "FastSAM"
        raise ModelError(
            f"{str(model)!r} is {card.title}, not a SAM: open it with masklet.{face}({card.file!r}); "
            "SAM opens sam2.1_t.pt, sam_b.pt, mobile_sam.pt and others that `masklet models` lists"
        )
    return locate(card, progress)


def _build_network(state: Mapping[str, Tensor], path: Path) -> tuple[str, SAM2 | SAM1]:
    """The network that these tensors are, of either family, with its name."""
    if sam2_naming.is_transformers(state):
        state = sam2_naming.from_transformers(state)
    elif sam1_naming.is_transformers(state):
        state = sam1_naming.from_transformers(state)
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    first = sam1.infer_config(found)
    if first is not None:
        name, plain = first
        check_shapes(sam1_weights.expected_shapes(plain), found, path=path, model_name=name)
        return name, sam1.build(plain, state)
    name, config = _infer_sam2_config(found)
    check_shapes(sam2_weights.expected_shapes(config), found, path=path, model_name=name)
    return name, sam2.build(config, state)


def _infer_sam2_config(shapes: Shapes) -> tuple[str, SAM2Config]:
    """The SAM 2 these tensors are meant for; files for images only may lack the memory.

    Where nothing is close, a common one, so that the difference can be told.
    """
    name, config = sam2.infer_config(shapes) or (DEFAULT_SAM2, sam2.CONFIGS[DEFAULT_SAM2])
    if config.memory is not None and not any(n.startswith("memory_") for n in shapes):
        config = replace(config, memory=None)
    return name, config
