"""Weight files: downloaded completely, opened without running anything in them, compared before they are loaded.

- `download`: one published file into the cache, resumed, checked, renamed into place.
- `load`: a file's tensors and metadata, or an error that says what the file is instead.
- `pickled_modules`: a network that was saved with its classes, read as inert objects (`pickle_reader`).
- `compare`: whether tensors fit a network, and what they look like if they do not.

Nothing here imports torch until a file is opened.
"""

from __future__ import annotations

from masklet.checkpoints.compare import check_shapes, identify_architecture
from masklet.checkpoints.download import Progress, cache_dir, download, is_offline
from masklet.checkpoints.load import check_finite, read_metadata, read_tensors
from masklet.checkpoints.pickled_modules import SavedNetwork, read_network

__all__ = [
    "Progress",
    "SavedNetwork",
    "cache_dir",
    "check_finite",
    "check_shapes",
    "download",
    "identify_architecture",
    "is_offline",
    "read_metadata",
    "read_network",
    "read_tensors",
]
