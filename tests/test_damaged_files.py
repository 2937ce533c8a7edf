"""The one list of what reading damaged files raises."""

from __future__ import annotations

import importlib
import os
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from masklet.damaged_files import (
    LIBRARY_ERRORS,
    check_regular_file,
    damage_errors,
    damage_named,
    decoder_errors,
    open_regular_file,
)
from masklet.errors import CheckpointError, PromptError, SourceError


@pytest.mark.parametrize("module", LIBRARY_ERRORS)
def test_every_library_has_its_error(module: str) -> None:
    pytest.importorskip(module)
    error = getattr(importlib.import_module(module), LIBRARY_ERRORS[module])
    assert issubclass(error, damage_errors())


@pytest.mark.parametrize(
    "error",
    [zlib.error("x"), struct.error("x"), zipfile.BadZipFile("x"), MemoryError(), RecursionError("x"), EOFError("x")],
)
def test_an_error_of_a_library_names_the_file(error: Exception) -> None:
    with (
        pytest.raises(SourceError, match=r"'a\.png' is damaged or cut short \(.+\); a complete image is needed: copy"),
        damage_named(Path("a.png")),
    ):
        raise error
    with (
        pytest.raises(CheckpointError, match=r"'a\.pt'.*complete checkpoint is needed: take a fresh copy"),
        damage_named("a.pt", "checkpoint", "take a fresh copy", CheckpointError),
    ):
        raise error


def test_bugs_and_our_own_errors_pass() -> None:
    with pytest.raises(PromptError, match="as it was"), damage_named("a.png"):
        raise PromptError("as it was")
    assert not issubclass(KeyError, damage_errors())
    assert issubclass(KeyError, decoder_errors())
    assert not issubclass(KeyboardInterrupt, decoder_errors())


def test_a_regular_file_has_a_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"123")
    (tmp_path / "empty.png").touch()
    assert check_regular_file(str(tmp_path / "a.png"), "image") == 3
    for name, rule in (("", "is a folder"), ("empty.png", "empty .0 bytes.; an image"), ("b.png", "No such file")):
        with pytest.raises(SourceError, match=rule):
            check_regular_file(str(tmp_path / name), "image")
    with pytest.raises(SourceError, match=r"a\\x00b.*null"):
        check_regular_file("a\0b", "image")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices")
def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(OSError, match=f"it is {kind}"):
            open_regular_file(path)
    (tmp_path / "a.txt").write_bytes(b"a")
    with open_regular_file(tmp_path / "a.txt") as file:
        assert file.read() == b"a"
