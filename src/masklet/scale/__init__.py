"""Many images and videos on many machines: masklet as a stage of a data pipeline.

stages       `Segmenter`, `Annotator`, `Embedder` and `VideoTracker`: columns in, columns out
stage_base   what a stage is; stage_rows: the rows of its columns
video_chunks long videos, tracked chunk by chunk
items        images and videos of folders, lists, tables, archives and addresses
run_batch    a stage over the items of a source, resumable and shared between processes
merge_batch  what the processes wrote, in one manifest and one dataset

Stages are imported when they are first used: what lists, reads and merges items needs no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masklet.scale.items import Item, ItemSource
    from masklet.scale.shards import Shard
    from masklet.scale.stage_base import Stage
    from masklet.scale.stages import Annotator, Embedder, Segmenter, VideoTracker
    from masklet.scale.webdataset import WebDatasetWriter

__all__ = [
    "Annotator",
    "Embedder",
    "Item",
    "ItemSource",
    "Segmenter",
    "Shard",
    "Stage",
    "VideoTracker",
    "WebDatasetWriter",
]

_HOMES = {
    **dict.fromkeys(("Annotator", "Embedder", "Segmenter", "VideoTracker"), "stages"),
    **dict.fromkeys(("Item", "ItemSource"), "items"),
    "Shard": "shards",
    "Stage": "stage_base",
    "WebDatasetWriter": "webdataset",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
