"""From the name of a published detector, or a folder, to a folder with its files.

Only numbers and settings are taken (JSON, word lists, safetensors), whoever published them, and no code. Where there
are no safetensors, the older pytorch_model.bin is taken, which is read by torch's restricted reader: tensors only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masklet.errors import CheckpointError, DownloadError, MissingExtraError

__all__ = ["EXTRA", "folder_of", "is_hub_name", "quiet"]

EXTRA = "transformers"
"""The extra of masklet that brings these detectors."""
CONFIG = "config.json"
WANTED = ["*.json", "*.txt", "*.model", "model*.safetensors"]
OLDER = ["pytorch_model*.bin"]
_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""owner/name, and after an @ a branch or commit."""


def is_hub_name(what: str) -> bool:
    """Whether this is written as names on the hub are.

    Example:
        >>> is_hub_name("facebook/detr-resnet-50@no_timm"), is_hub_name("yolov8n.pt")
        (True, False)
    """
    return _NAME.fullmatch(what) is not None


def folder_of(what: str) -> Path:
    """The folder that holds a detector: `what` itself, else what the hub has under that name, fetched once.

    `MASKLET_OFFLINE=1` forbids the network; what was fetched earlier is then still found.

    Example:
        >>> folder_of("PekingU/rtdetr_r50vd")
        PosixPath('/home/me/.cache/huggingface/hub/models--PekingU--rtdetr_r50vd/snapshots/...')

    Raises:
        CheckpointError: a folder without a config.json.
        DownloadError: files that are not here and could not be fetched.
        MissingExtraError: the extra `transformers` is not installed.
    """
    folder = Path(what).expanduser()
    if not folder.is_dir():
        return _fetched(what)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} holds no detector: {CONFIG} is missing. A folder that `save_pretrained` wrote or `hf download` "
            f"fetched has {CONFIG}, preprocessor_config.json and model.safetensors"
        )
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries of the hub show no progress bars and log no warnings meanwhile."""
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


def _fetched(what: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError.of("transformers", EXTRA) from error
    name, _, revision = what.partition("@")
    offline = os.environ.get("MASKLET_OFFLINE", "").lower() not in {"", "0", "false", "no"}
    try:
        with quiet():
            how = {"revision": revision or None, "local_files_only": offline}
            found = Path(snapshot_download(name, allow_patterns=WANTED, **how))
            if not _has_weights(found):
                found = Path(snapshot_download(name, allow_patterns=[*WANTED, *OLDER], **how))
    except Exception as error:  # whatever the network, the hub's answer or the disk had to say
        reason = "MASKLET_OFFLINE is set, which forbids downloads" if offline else _first_line(error)
        raise DownloadError(_remedy(what, name, revision, reason)) from error
    if not (found / CONFIG).is_file() or not _has_weights(found):
        raise DownloadError(_remedy(what, name, revision, f"it has no {CONFIG} or no model.safetensors there"))
    return found


def _has_weights(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in (WANTED[-1], *OLDER))


def _remedy(what: str, name: str, revision: str, reason: str) -> str:
    which = f" --revision {revision}" if revision else ""
    return (
        f"Could not get the detector {what!r} from the hub: {reason}. Where there is a network: "
        f"hf download {name}{which} --local-dir DIR, then name the folder DIR instead. "
        "'everything' is the detector that needs no download."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
