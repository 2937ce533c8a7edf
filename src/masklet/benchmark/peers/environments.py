"""Programs to compare with, each in an environment of its own, filled from the package index that pip is set up for.

An environment lies in the cache folder under a name that follows from all it is made of, so that other versions make
another one. What is in it is written down last: a folder without that note is a half-made one, and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from masklet.atomic_files import write_text
from masklet.checkpoints import cache_dir, is_offline
from masklet.errors import InputError, OutputError, StateError

__all__ = [
    "PEERS",
    "Peer",
    "PipInstall",
    "create_environment",
    "environment_dir",
    "environment_python",
    "find_peer",
    "installed_packages",
    "remove_environments",
]

MANIFEST_FILE = "made.json"
PINNED_TO_MASKLET = ("torch", "numpy", "pillow", "opencv-python-headless", "safetensors")
"""Installed in the version that masklet itself runs with, so that programs differ and what they stand on does not."""
UNSAFE_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
"""Variables that would lead an environment out of itself."""


@dataclass(frozen=True)
class PipInstall:
    """One call of pip; a package without a version has masklet's own, and torchvision the one for its PyTorch."""

    packages: tuple[str, ...]
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Peer:
    """A program to compare with."""

    name: str
    description: str
    license: str
    """Of its code; it is run as a program, and no part of masklet."""
    installs: tuple[PipInstall, ...]
    """In this order."""


_BASE = PipInstall(("torch", "numpy", "pillow"))
_TORCHVISION = PipInstall(("torchvision",), ("--no-deps",))
"""Alone, since PyPI's build of it asks for a PyTorch for CUDA; what does not load beside another, the adapters mend."""

PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "sam2",
            "facebookresearch/sam2, the code that the models come from",
            "Apache-2.0",
            (
                _BASE,
                PipInstall(("setuptools==84.2.1", "wheel==0.48.0")),
                PipInstall(("sam2==1.1.0",), ("--no-build-isolation", "--no-deps"), {"SAM2_BUILD_CUDA": "0"}),
                PipInstall(("hydra-core==1.3.8", "iopath==0.1.10", "tqdm==4.70.1")),
                _TORCHVISION,
            ),
        ),
        Peer(
            "transformers",
            "Sam2Model and Sam2VideoModel of huggingface/transformers",
            "Apache-2.0",
            (
                _BASE,
                PipInstall(
                    (
                        "safetensors",
                        "transformers==5.23.0; python_version >= '3.11'",
                        "transformers==5.20.2; python_version < '3.11'",
                    )
                ),
            ),
        ),
        Peer(
            "ultralytics",
            "SAM of ultralytics",
            "AGPL-3.0",
            (
                _BASE,
                PipInstall(
                    (
                        "opencv-python-headless",
                        "matplotlib==3.11.2; python_version >= '3.11'",
                        "matplotlib==3.10.9; python_version < '3.11'",
                        "pyyaml==6.0.3",
                        "requests==2.34.2",
                        "psutil==7.2.2",
                        "polars==2.1.0",
                    )
                ),
                PipInstall(("ultralytics==8.4.190", "ultralytics-thop==2.2.3"), ("--no-deps",)),
                _TORCHVISION,
            ),
        ),
    )
}
"""By name."""


def find_peer(name: str) -> Peer:
    """The peer of that name.

    Example:
        >>> find_peer("sam2").license
        'Apache-2.0'

    Raises:
        InputError: there is none.
    """
    if name not in PEERS:
        raise InputError(f"{name!r} is no program that is compared with; choose from {', '.join(PEERS)}")
    return PEERS[name]


def environment_dir(peer: Peer) -> Path:
    """Where its environment lies, or would lie.

    Example:
        >>> folder_of(find_peer("sam2")).name
        'sam2-0f3d5a21'
    """
    contents = [[_pinned_requirements(install), list(install.options)] for install in peer.installs]
    contents.append([[".".join(map(str, sys.version_info[:3]))], [sys.base_prefix]])
    key = hashlib.sha256(json.dumps(contents).encode()).hexdigest()
    return cache_dir() / "peers" / f"{peer.name}-{key[:8]}"


def installed_packages(peer: Peer) -> dict[str, str] | None:
    """The version of every package in its environment; None where there is no whole one.

    Example:
        >>> made_of(find_peer("sam2"))["sam2"]
        '1.1.0'
    """
    folder = environment_dir(peer)
    try:
        told = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        whole = {str(name): str(number) for name, number in told.items()}
    except (OSError, ValueError, AttributeError):
        return None
    return whole if _python_path(folder).exists() else None  # it goes with the Python that it was made with


def environment_python(peer: Peer) -> Path:
    """The interpreter of its environment.

    Example:
        >>> python_of(find_peer("sam2"))
        PosixPath('/home/me/.cache/masklet/peers/sam2-0f3d5a21/bin/python')

    Raises:
        StateError: the environment is not there; it says how it is made.
    """
    if installed_packages(peer) is None:
        raise StateError(
            f"{peer.name} has no environment here for these versions; make it: masklet bench peers --make {peer.name}"
        )
    return _python_path(environment_dir(peer))


def create_environment(peer: Peer, on_progress: Callable[[], None] = lambda: None) -> Path:
    """Make its environment, unless a whole one is there, and return its folder.

    `step` is called after each of `len(peer.installs) + 1` parts. What an earlier run left half-made is made again.

    Example:
        >>> make(find_peer("sam2"))
        PosixPath('/home/me/.cache/masklet/peers/sam2-0f3d5a21')

    Raises:
        StateError: pip could not install something, there is no module venv, or `MASKLET_OFFLINE` is set.
        OutputError: the folder cannot be written.
    """
    from filelock import FileLock

    folder = environment_dir(peer)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if installed_packages(peer) is None:
                _check_online(peer)
                _build_environment(peer, folder, on_progress)
    except OSError as error:
        raise OutputError(
            f"{folder} could not be written ({error.strerror or error}); make room, or choose another folder by "
            "MASKLET_HOME"
        ) from error
    return folder


def remove_environments(peer: Peer) -> int:
    """Remove its environments, those of other versions too; how many there were.

    Example:
        >>> remove(find_peer("sam2"))
        1
    """
    found = [path for path in environment_dir(peer).parent.glob(f"{peer.name}-*") if path.is_dir()]
    for path in found:
        (path / MANIFEST_FILE).unlink(
            missing_ok=True
        )  # first, so that what an interruption leaves is not taken for whole
        shutil.rmtree(path, ignore_errors=True)
        path.with_name(path.name + ".lock").unlink(missing_ok=True)
    return len(found)


def _check_online(peer: Peer) -> None:
    if is_offline():
        raise StateError(
            f"the environment of {peer.name} is not here, and MASKLET_OFFLINE is set, which forbids downloads; unset it"
        )


def _build_environment(peer: Peer, folder: Path, on_progress: Callable[[], None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _run_command([sys.executable, "-m", "venv", str(folder)], f"the environment of {peer.name}")
        on_progress()
        for install in peer.installs:
            _install(peer, install, _python_path(folder))
            on_progress()
        write_text(folder / MANIFEST_FILE, json.dumps(_list_packages(peer, _python_path(folder)), indent=2) + "\n")
    except BaseException:  # Ctrl-C too: a half-made one is of no use, and large
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _install(peer: Peer, install: PipInstall, python: Path) -> None:
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    words = [str(python), "-m", "pip", "install", *quiet, *install.options, *_pinned_requirements(install)]
    _run_command(words, f"{', '.join(_pinned_requirements(install))} for {peer.name}", install.variables)


def _list_packages(peer: Peer, python: Path) -> dict[str, str]:
    words = [str(python), "-m", "pip", "list", "--disable-pip-version-check", "--format", "json"]
    return {
        entry["name"]: entry["version"] for entry in json.loads(_run_command(words, f"the packages of {peer.name}"))
    }


def _run_command(command: list[str], description: str, variables: Mapping[str, str] | None = None) -> str:
    surroundings = {name: value for name, value in os.environ.items() if name not in UNSAFE_VARIABLES} | dict(
        variables or {}
    )
    done = subprocess.run(
        command, env=surroundings, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise StateError(
            f"{description} could not be installed ({_failure_reason(done.stderr or done.stdout)}); see that pip reaches its package "  # noqa: E501
            "index, that there is room, and ask again"
        )
    return done.stdout


def _failure_reason(output: str) -> str:
    """The line that tells most of what pip said: full disks come before what follows from them."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    full = [line for line in lines if "No space left" in line]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (full or errors or lines or ["without a word"])[-1]


def _pinned_requirements(install: PipInstall) -> list[str]:
    return [_pin_version(name) for name in install.packages]


def _pin_version(name: str) -> str:
    if name in PINNED_TO_MASKLET:
        return f"{name}=={_public_version(version(name))}"
    return f"torchvision=={_matching_torchvision(_public_version(version('torch')))}" if name == "torchvision" else name


def _public_version(number: str) -> str:
    """Without what names a build, such as +cpu: an index may have another."""
    return number.partition("+")[0]


def _matching_torchvision(torch: str) -> str:
    """The torchvision that belongs to a PyTorch: 2.13.0 has 0.28.0."""
    found = re.match(r"2\.(\d+)\.(\d+)", torch)
    if found is None:
        raise StateError(f"no torchvision is known for PyTorch {torch}; peers are run beside PyTorch 2")
    return f"0.{int(found[1]) + 15}.{found[2]}"


def _python_path(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
