"""Detect what a file is by its first bytes: no suffix is trusted, and nothing is unpacked or run."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from masklet.damaged_files import decoder_errors
from masklet.errors import CheckpointError

__all__ = ["FileType", "detect_file_type", "unreadable_error"]

FileKind = Literal["safetensors", "torch-zip", "torch-legacy", "foreign"]

DOWNLOAD_AGAIN = "Delete it and download it again."
EXPECTED_FILE = "Give a .pt or .safetensors file that holds the tensors of the network."

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x89HDF", "an HDF5 file (Keras keeps weights so)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF file of a language model"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a Linux program"),
    (b"MZ", "a Windows program"),
)


@dataclass(frozen=True)
class FileType:
    """What a file is: `kind` selects the reader; a "foreign" file has `description` and `remedy` in words."""

    kind: FileKind
    description: str = ""
    remedy: str = EXPECTED_FILE


def unreadable_error(path: Path, description: str, remedy: str = EXPECTED_FILE) -> CheckpointError:
    """Build the error for a file that is something else: `description` says what, `remedy` what to do."""
    return CheckpointError(f"{path} cannot be read as a checkpoint: it is {description}. {remedy}")


def detect_file_type(path: Path) -> FileType:
    """Detect the type of a file by its first bytes.

    Raises:
        CheckpointError: if there is no file, or a folder, or no permission.
    """
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in {".pt", ".pth", ".safetensors"})
        listed = f"{', '.join(inside[:5])}{', ...' if len(inside) > 5 else ''}"
        raise unreadable_error(path, "a folder", f"Give a file in it: {listed}." if inside else EXPECTED_FILE)
    try:
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist. Give the path of a weight file.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}. Check its permissions.") from None
    if not head.strip(b"\0"):
        return FileType("foreign", "empty" if not size else "nothing but zeros", DOWNLOAD_AGAIN)
    if head.startswith(b"PK"):
        return _type_from_zip(path, size)
    if head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length + 8 <= size:
            return FileType("safetensors")
        cut = f"a safetensors file cut short, or not one: its header claims {length} bytes, the file has {size}"
        return FileType("foreign", cut, DOWNLOAD_AGAIN)
    if head.startswith(b"\x80\x02"):
        return FileType("torch-legacy")
    if head[:1] == b"\x80" and head[1:2] in b"\3\4\5":
        return FileType("foreign", "a Python pickle that PyTorch did not write; nothing in it was run")
    known = next((name for start, name in _SIGNATURES if head.startswith(start)), None)
    if known:
        return FileType("foreign", known)
    return _type_from_text(head, size)


def _type_from_zip(path: Path, size: int) -> FileType:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except decoder_errors():
        return FileType(
            "foreign", f"a PyTorch file or zip archive cut short at {size} bytes, or damaged", DOWNLOAD_AGAIN
        )
    names = [entry.filename for entry in entries]
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        listed = ", ".join(names[:3]) or "nothing"
        return FileType("foreign", f"a zip archive without tensors (in it: {listed})", "Unpack it first.")
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        remedy = "Save the state dict of the network it was exported from, not the TorchScript program."
        return FileType("foreign", "a TorchScript program", remedy)
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size:
        return FileType("foreign", "a zip archive that unpacks to more than its size, which PyTorch never writes")
    return FileType("torch-zip")


def _type_from_text(head: bytes, size: int) -> FileType:
    try:
        text = head[: len(head) - 4 if size > len(head) else None].decode("utf-8").lstrip()
    except UnicodeDecodeError:
        return FileType("foreign", f"no format masklet knows (it starts with the bytes {head[:8].hex(' ')})")
    if text.startswith("version https://git-lfs"):
        real = re.search(r"^size (\d+)", text, re.MULTILINE)
        weight = f" of a file of {real[1]} bytes" if real else ""
        return FileType("foreign", f"the Git LFS pointer{weight}, not the file", "Run git lfs pull.")
    if re.match(r"<(!doctype html|html|head|body)", text, re.IGNORECASE):
        remedy = "The download ended at an error or a login page: open its address in a browser."
        return FileType("foreign", "an HTML page", remedy)
    return FileType("foreign", f"a text file (it starts with {text[:40]!r})")
