"""From a name or a file to a network: locate, read, identify, check, build."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.checkpoints import Progress, check_shapes, read_metadata, read_tensors
from masklet.errors import ModelError, UnknownModelError
from masklet.exported import is_exported_folder
from masklet.models.sam2.variants import has_variants, variant_in_name, variant_name
from masklet.registry import BUILTIN, MODELS, ModelCard, get_card, locate
from masklet.runtime import standard_torch
from masklet.tensors import Tensor, require_torch

if TYPE_CHECKING:
    from masklet.models.sam1 import SAM1
    from masklet.models.sam2 import SAM2

__all__ = ["LoadedModel", "load"]

log = logging.getLogger("masklet")

DEFAULT_SAM2 = "sam2.1_hiera_base_plus"
SAM_FAMILIES = ("sam1", "sam2")


@dataclass(frozen=True)
class LoadedModel:
    """A network, its name and its file."""

    network: SAM2 | SAM1
    name: str
    """Canonical name of its config, such as `sam2.1_hiera_tiny`."""
    path: Path
    card: ModelCard | None
    """Card of the published (or built-in) model of that name; a fine-tuned file has the same card."""
    variant: str | None = None
    """Which variant of EfficientTAM it is, and how that is known; None for networks without variants."""

    @property
    def parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(t.numel() for t in self.network.state_dict().values())

    def require_sam2(self, purpose: str) -> SAM2:
        """Return the network for a purpose that needs SAM 2.

        Example:
            >>> load("mobile_sam.pt").require_sam2("track objects through videos")
            Traceback (most recent call last):
                ...
            masklet.errors.ModelError: mobile_sam (...) is for images only: it cannot track objects through videos; ...

        Raises:
            ModelError: if it is a SAM 1.
        """
        from masklet.models.sam2 import SAM2

        if isinstance(self.network, SAM2):
            return self.network
        raise ModelError(
            f"{self.name} ({self.path}) is for images only: it cannot {purpose}; choose a SAM 2, such as "
            "sam2.1_t.pt, or give no model for the built-in one"
        )


@standard_torch()
def load(
    model: str | PathLike[str] | None = None, progress: Progress | None = None, variant: str | None = None
) -> LoadedModel:
    """Load the network of a name or a file; None is the built-in one.

    Which network a file has is inferred from its tensors, not from its name. Only the variants of EfficientTAM have the
    same tensors: `variant` (base, 1, 2 or 512x512) says which one it is, else the header of a file that masklet wrote,
    else the file's name; without any of these it is the base, and a warning of the logger "masklet" says so.

    Example:
        >>> load("sam2.1_t.pt").name
        'sam2.1_hiera_tiny'
        >>> load("sam_b.pt").name
        'sam_vit_b'

    Raises:
        UnknownModelError: if `model` is neither a known name nor a file.
        ModelError: if it is the name of a detector, or an exported folder.
        DownloadError: if a published file is not on this machine and cannot be downloaded.
        CheckpointError: if the file is damaged, hostile, or another network.
        InputError: if there is no such variant.
        MissingExtraError: if PyTorch is not installed.
    """
    if isinstance(model, str) and not model.strip():
        raise UnknownModelError(
            f"model {model!r} is empty; give none for the built-in model, or name a .pt or .safetensors file, "
            f"or one of {', '.join(name for name, card in MODELS.items() if card.family in SAM_FAMILIES)}"
        )
    if is_exported_folder(model):
        raise ModelError(
            f"{model} is an exported folder, whose graphs are opened by SAM(...) and have no weights: give "
            "the model that it was exported from"
        )
    model = BUILTIN if model is None else model
    path = Path(model).expanduser()
    if not path.is_file():
        card = get_card(str(model))
        if card.family not in SAM_FAMILIES:  # refused before any download
            opener = "YOLO" if card.family == "yolo" else "FastSAM"
            raise ModelError(
                f"{str(model)!r} is {card.title}, not a SAM: open it with masklet.{opener}({card.file!r}); "
                "SAM opens sam2.1_t.pt, sam_b.pt, mobile_sam.pt and others that `masklet models` lists"
            )
        path = locate(card, progress)
    require_torch(f"opening {path.name}")
    return _build_network(read_tensors(path), path, variant)


def _build_network(state: Mapping[str, Tensor], path: Path, variant: str | None) -> LoadedModel:
    """Build the network, SAM 1 or SAM 2, that these tensors of a file belong to."""
    from masklet.models import sam1, sam2
    from masklet.models.sam1 import state_dict as sam1_state_dict
    from masklet.models.sam2 import state_dict as sam2_state_dict

    if sam2_state_dict.is_transformers(state):
        state = sam2_state_dict.from_transformers(state)
    elif sam1_state_dict.is_transformers(state):
        state = sam1_state_dict.from_transformers(state)
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    is_sam1 = sam1.infer_config(found)
    if is_sam1 is not None:
        name, sam1_config = is_sam1
        check_shapes(sam1_state_dict.expected_shapes(sam1_config), found, path=path, model_name=name)
        if variant is not None:
            name = variant_name(name, variant)  # refused
        return LoadedModel(sam1.build(sam1_config, state), name, path, MODELS.get(name))
    # Unknown tensors are compared with a common network, so that the error lists the difference.
    name, config = sam2.infer_config(found) or (DEFAULT_SAM2, sam2.CONFIGS[DEFAULT_SAM2])
    described: str | None = None
    if variant is not None or has_variants(name):
        header = variant_in_name(read_metadata(path).get("model", ""))
        known = {"as given": variant, "by the file's header": header, "by the file's name": variant_in_name(path.name)}
        source = next((how for how, value in known.items() if value), "assumed: neither its tensors nor its name tell")
        if source not in known:
            log.warning("%s is an EfficientTAM of unknown variant, opened as the base; variant= says which", path)
        name = variant_name(name, known.get(source) or "base")
        config, described = sam2.CONFIGS[name], f"{known.get(source) or 'base'} ({source})"
    if config.memory is not None and not any(n.startswith("memory_") for n in found):
        config = replace(config, memory=None)  # a file of the image part only
    check_shapes(sam2_state_dict.expected_shapes(config), found, path=path, model_name=name)
    card = MODELS.get(BUILTIN if name == "builtin" else name)
    return LoadedModel(sam2.build(config, state), name, path, card, described)
