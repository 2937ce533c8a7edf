"""Resolve the name of a published detector, or a folder, to a folder with its files.

Only numbers and settings are downloaded (JSON, word lists, safetensors), and no code. Without safetensors the older
pytorch_model.bin is used, which torch's restricted reader opens: tensors only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masklet.errors import CheckpointError, DownloadError, MissingExtraError

__all__ = ["TRANSFORMERS_EXTRA", "is_hub_name", "resolve_model_dir", "silence_transformers"]

TRANSFORMERS_EXTRA = "transformers"
"""The extra of masklet that brings these detectors."""
CONFIG = "config.json"
FILE_PATTERNS = ["*.json", "*.txt", "*.model", "model*.safetensors"]
LEGACY_PATTERNS = ["pytorch_model*.bin"]
_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""owner/name, and after an @ a branch or commit."""


def is_hub_name(name: str) -> bool:
    """Return whether this is spelled like a name on the hub.

    Example:
        >>> is_hub_name("facebook/detr-resnet-50@no_timm"), is_hub_name("yolov8n.pt")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def resolve_model_dir(name_or_path: str) -> Path:
    """Return the folder of a model: `name_or_path` itself, else the hub's files of that name, downloaded once.

    `MASKLET_OFFLINE=1` forbids the network; files in the cache are still used.

    Example:
        >>> resolve_model_dir("PekingU/rtdetr_r50vd")  # doctest: +SKIP
        PosixPath('/home/me/.cache/huggingface/hub/models--PekingU--rtdetr_r50vd/snapshots/...')

    Raises:
        CheckpointError: if the folder has no config.json.
        DownloadError: if files are not cached and cannot be downloaded.
        MissingExtraError: if the extra `transformers` is not installed.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        return _download_snapshot(name_or_path)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} holds no detector: {CONFIG} is missing. A folder that `save_pretrained` wrote or `hf download` "
            f"fetched has {CONFIG}, preprocessor_config.json and model.safetensors"
        )
    return folder


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Hide the progress bars and warnings of the hub's libraries."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _download_snapshot(requested: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError.for_package("transformers", TRANSFORMERS_EXTRA) from error
    name, _, revision = requested.partition("@")
    offline = os.environ.get("MASKLET_OFFLINE", "").lower() not in {"", "0", "false", "no"}
    try:
        with silence_transformers():
            options = {"revision": revision or None, "local_files_only": offline}
            folder = Path(snapshot_download(name, allow_patterns=FILE_PATTERNS, **options))
            if not _has_weights(folder):
                folder = Path(snapshot_download(name, allow_patterns=[*FILE_PATTERNS, *LEGACY_PATTERNS], **options))
    except Exception as error:  # the network, the hub and the disk raise many kinds
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        reason = "MASKLET_OFFLINE is set, which forbids downloads" if offline else first_line
        raise DownloadError(_download_hint(requested, name, revision, reason)) from error
    if not (folder / CONFIG).is_file() or not _has_weights(folder):
        raise DownloadError(
            _download_hint(requested, name, revision, f"it has no {CONFIG} or no model.safetensors there")
        )
    return folder


def _has_weights(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in (FILE_PATTERNS[-1], *LEGACY_PATTERNS))


def _download_hint(requested: str, name: str, revision: str, reason: str) -> str:
    which = f" --revision {revision}" if revision else ""
    return (
        f"Could not get the detector {requested!r} from the hub: {reason}. Where there is a network: "
        f"hf download {name}{which} --local-dir DIR, then name the folder DIR instead. "
        "'everything' is the detector that needs no download."
    )
