"""Build networks by the names of `segment_anything.sam_model_registry`."""

from __future__ import annotations

from functools import partial
from os import PathLike

from masklet.compat.segment_anything.sam_network import Sam
from masklet.errors import CheckpointError, InputError
from masklet.load_model import load
from masklet.models.sam1 import SAM1
from masklet.nn.meta_init import network_from_state

__all__ = ["build_sam", "build_sam_vit_b", "build_sam_vit_h", "build_sam_vit_l", "sam_model_registry"]


def build_network(kind: str, checkpoint: str | PathLike[str] | None = None) -> Sam:
    """Load the network of a checkpoint, which must be of `kind`: vit_b, vit_l, vit_h or vit_t (MobileSAM).

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the checkpoint cannot be opened, or is another network.
        InputError: if there is no checkpoint.
    """
    if checkpoint is None:
        raise InputError(f"checkpoint=None would be random weights; give a file, such as 'sam_{kind}.pth'")
    loaded = load(checkpoint)
    wanted = "mobile_sam" if kind == "vit_t" else f"sam_{kind}"
    if loaded.name != wanted or not isinstance(loaded.network, SAM1):
        raise CheckpointError(f"{loaded.path} is {loaded.name}, not {wanted}: give its own name in the registry")
    return network_from_state(Sam, loaded.network.config, loaded.network.state_dict())


build_sam_vit_h = build_sam = partial(build_network, "vit_h")
build_sam_vit_l = partial(build_network, "vit_l")
build_sam_vit_b = partial(build_network, "vit_b")
sam_model_registry = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
    "vit_t": partial(build_network, "vit_t"),
}
"""Builders by name; vit_t is MobileSAM, as in `mobile_sam`."""
