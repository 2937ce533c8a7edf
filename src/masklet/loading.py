"""From a name or a file to a network: found, read, recognised, checked, filled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from masklet.checkpoints import Progress, check_fit, read_tensors
from masklet.errors import UnknownModelError
from masklet.models.sam2 import CONFIGS, SAM2, SAM2Config, build, config_of
from masklet.models.sam2.naming import from_transformers, is_transformers
from masklet.models.sam2.weights import shapes_of
from masklet.registry import BUILTIN, MODELS, ModelCard, resolve

__all__ = ["LoadedModel", "load"]

USUAL = "sam2.1_hiera_base_plus"


@dataclass(frozen=True)
class LoadedModel:
    """A network with where it came from."""

    network: SAM2
    name: str
    """Canonical name of the config its tensors have, such as `sam2.1_hiera_tiny`."""
    path: Path
    card: ModelCard | None
    """The published (or built-in) model of that name; a fine-tuned file has the same card."""

    @property
    def parameters(self) -> int:
        """Values in all tensors."""
        return sum(t.numel() for t in self.network.state_dict().values())


def load(model: str | PathLike[str] | None = None, progress: Progress | None = None) -> LoadedModel:
    """The network that `model` names; None is the built-in one.

    Example:
        >>> load("sam2.1_t.pt").name
        'sam2.1_hiera_tiny'

    Raises:
        UnknownModelError: neither a known name nor a file.
        DownloadError: a published file that is not here and could not be fetched.
        CheckpointError: a file that is damaged, hostile, or another network.
    """
    if isinstance(model, str) and not model.strip():
        raise UnknownModelError(
            f"model {model!r} is empty; leave it out for the built-in model, or name a .pt or .safetensors file, "
            f"or one of {', '.join(MODELS)}"
        )
    path = resolve(BUILTIN if model is None else model, progress)
    state = read_tensors(path)
    if is_transformers(state):
        state = from_transformers(state)
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    name, config = _expected(found)
    check_fit(shapes_of(config), found, path=path, model_name=name)
    return LoadedModel(build(config, state), name, path, MODELS.get(BUILTIN if name == "builtin" else name))


def _expected(found: dict[str, tuple[int, ...]]) -> tuple[str, SAM2Config]:
    """The config these tensors are meant for; files for pictures only may lack the memory.

    Where nothing is close, a common config, so that the difference can be told.
    """
    name, config = config_of(found) or (USUAL, CONFIGS[USUAL])
    if config.memory is not None and not any(n.startswith("memory_") for n in found):
        config = replace(config, memory=None)
    return name, config
