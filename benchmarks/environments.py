"""Create a Python environment for each program to compare with, from the package index that pip is configured for.

An environment is a folder in the cache folder; its name is a hash of its content, so that other versions make another
one. Its manifest is written last: a folder without it is incomplete, and created again.
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
"""Installed in the version that masklet runs with, so that only the programs differ."""
UNSAFE_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
"""Variables that would mix other packages into an environment."""


@dataclass(frozen=True)
class PipInstall:
    """One call of pip. A package without a version gets masklet's, and torchvision the one for its PyTorch."""

    packages: tuple[str, ...]
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Peer:
    """A program to compare with."""

    name: str
    description: str
    license: str
    """License of its code; it is run as a program, and no part of masklet."""
    installs: tuple[PipInstall, ...]
    """In this order."""


_BASE = PipInstall(("torch", "numpy", "pillow"))
_TORCHVISION = PipInstall(("torchvision",), ("--no-deps",))
"""Without dependencies: PyPI's build requires PyTorch for CUDA. The adapters replace operators that do not load."""

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
    """Return the peer called `name`.

    Example:
        >>> find_peer("sam2").license
        'Apache-2.0'

    Raises:
        InputError: if it is unknown.
    """
    if name not in PEERS:
        raise InputError(f"{name!r} is no program that is compared with; choose from {', '.join(PEERS)}")
    return PEERS[name]


def environment_dir(peer: Peer) -> Path:
    """Return the folder of its environment, which may not exist.

    Example:
        >>> environment_dir(find_peer("sam2")).name
        'sam2-0f3d5a21'
    """
    contents = [[_pinned_requirements(install), list(install.options)] for install in peer.installs]
    contents.append([[".".join(map(str, sys.version_info[:3]))], [sys.base_prefix]])
    key = hashlib.sha256(json.dumps(contents).encode()).hexdigest()
    return cache_dir() / "peers" / f"{peer.name}-{key[:8]}"


def installed_packages(peer: Peer) -> dict[str, str] | None:
    """Return the version of every package in its environment; None if there is no complete one.

    Example:
        >>> installed_packages(find_peer("sam2"))["sam2"]
        '1.1.0'
    """
    folder = environment_dir(peer)
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        packages = {str(name): str(number) for name, number in manifest.items()}
    except (OSError, ValueError, AttributeError):
        return None
    return packages if _python_path(folder).exists() else None  # it is gone with the Python it was created with


def environment_python(peer: Peer) -> Path:
    """Return the interpreter of its environment.

    Example:
        >>> environment_python(find_peer("sam2"))
        PosixPath('/home/me/.cache/masklet/peers/sam2-0f3d5a21/bin/python')

    Raises:
        StateError: if the environment is missing; the message says how to create it.
    """
    if installed_packages(peer) is None:
        raise StateError(
            f"{peer.name} has no environment here for these versions; create it: "
            f"python -m benchmarks environments --create {peer.name}"
        )
    return _python_path(environment_dir(peer))


def create_environment(peer: Peer, on_progress: Callable[[], None] = lambda: None) -> Path:
    """Create its environment, unless a complete one exists, and return its folder.

    `on_progress` is called after each of `len(peer.installs) + 1` parts. An incomplete environment is created again.

    Example:
        >>> create_environment(find_peer("sam2"))
        PosixPath('/home/me/.cache/masklet/peers/sam2-0f3d5a21')

    Raises:
        StateError: if pip fails, the module venv is missing, or `MASKLET_OFFLINE` is set.
        OutputError: if the folder cannot be written.
    """
    from filelock import FileLock

    folder = environment_dir(peer)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if installed_packages(peer) is None:
                if is_offline():
                    raise StateError(
                        f"the environment of {peer.name} is not here, and MASKLET_OFFLINE is set, which forbids "
                        "downloads; unset it"
                    )
                _build_environment(peer, folder, on_progress)
    except OSError as error:
        raise OutputError(
            f"{folder} could not be written ({error.strerror or error}); make room, or choose another folder by "
            "MASKLET_HOME"
        ) from error
    return folder


def remove_environments(peer: Peer) -> int:
    """Remove its environments, also those of other versions; return their number.

    Example:
        >>> remove_environments(find_peer("sam2"))
        1
    """
    folders = [path for path in environment_dir(peer).parent.glob(f"{peer.name}-*") if path.is_dir()]
    for path in folders:
        (path / MANIFEST_FILE).unlink(missing_ok=True)  # first, so that an interruption leaves an incomplete one
        shutil.rmtree(path, ignore_errors=True)
        path.with_name(path.name + ".lock").unlink(missing_ok=True)
    return len(folders)


def _build_environment(peer: Peer, folder: Path, on_progress: Callable[[], None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _run_command([sys.executable, "-m", "venv", str(folder)], f"the environment of {peer.name}")
        on_progress()
        pip = [str(_python_path(folder)), "-m", "pip"]
        quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        for install in peer.installs:
            requirements = _pinned_requirements(install)
            command = [*pip, "install", *quiet, *install.options, *requirements]
            _run_command(command, f"{', '.join(requirements)} for {peer.name}", install.variables)
            on_progress()
        listed = _run_command(
            [*pip, "list", "--disable-pip-version-check", "--format", "json"], f"the packages of {peer.name}"
        )
        packages = {entry["name"]: entry["version"] for entry in json.loads(listed)}
        write_text(folder / MANIFEST_FILE, json.dumps(packages, indent=2) + "\n")
    except BaseException:  # Ctrl-C too: an incomplete one is useless, and large
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _run_command(command: list[str], description: str, variables: Mapping[str, str] | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in UNSAFE_VARIABLES}
    environment.update(variables or {})
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise StateError(
            f"{description} could not be installed ({_failure_reason(done.stderr or done.stdout)}); check that pip "
            "reaches its package index and that there is room, and try again"
        )
    return done.stdout


def _failure_reason(output: str) -> str:
    """Return the most informative line of pip's output: a full disk comes before its consequences."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    full = [line for line in lines if "No space left" in line]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (full or errors or lines or ["without a message"])[-1]


def _pinned_requirements(install: PipInstall) -> list[str]:
    requirements = []
    for name in install.packages:
        if name in PINNED_TO_MASKLET:
            name = f"{name}=={_public_version(name)}"
        elif name == "torchvision":  # PyTorch 2.13.0 has torchvision 0.28.0
            torch = _public_version("torch")
            match = re.match(r"2\.(\d+)\.(\d+)", torch)
            if match is None:
                raise StateError(f"no torchvision is known for PyTorch {torch}; peers need PyTorch 2")
            name = f"torchvision==0.{int(match[1]) + 15}.{match[2]}"
        requirements.append(name)
    return requirements


def _public_version(package: str) -> str:
    """Return the version of masklet's own package without a build such as +cpu, which the index may not have."""
    return version(package).partition("+")[0]


def _python_path(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
