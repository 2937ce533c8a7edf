"""The parts of an exported folder: names of their inputs and outputs, and the seam behind which a runtime runs them.

Axes of the parts are in docs/runtime.md; all values are float32 but `ages`, which are int64.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import CheckpointError, InputError

__all__ = ["Arrays", "Engine", "RuntimeOptions", "Signature", "check_signature", "signature"]

Arrays = dict[str, npt.NDArray[Any]]
Signature = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of the inputs and of the outputs of a graph."""

PROMPTS = ("point_coords", "point_labels", "mask_input", "has_mask_input")
FINER_MAPS = ("high_res_features_0", "high_res_features_1")
ATTENTION = "memory_attention_"
"""Start of the names of memory attention; the number of memory slots follows."""
SIGNATURES: dict[str, Signature] = {
    "image_encoder": (("pixels",), ("image_embeddings",)),
    "prompt_decoder": (("image_embeddings", *PROMPTS), ("masks", "iou_scores", "object_scores", "pointers")),
    "memory_encoder": (("image_embeddings", "masks", "object_scores", "prompted"), ("memory",)),
    ATTENTION: (
        (
            "image_embeddings",
            "memories",
            "ages",
            "memory_valid",
            "pointers",
            "pointer_offsets",
            "pointer_valid",
        ),
        ("conditioned",),
    ),
}


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime runs the graphs of an exported folder.

    Example:
        >>> RuntimeOptions(threads=2).threads
        2

    Raises:
        InputError: if `threads` is no whole number from 1, or `providers` are no names.
    """

    threads: int | None = None
    """Threads of the processor; None: MASKLET_THREADS, else as many as PyTorch would use and a quota allows."""
    providers: tuple[str, ...] = ()
    """Execution providers of ONNX Runtime, or devices of OpenVINO, best first; (): the CPU."""
    cache_dir: Path | None = None
    """Folder for graphs as the runtime has prepared them, so that the next start is faster; None: none is kept."""

    def __post_init__(self) -> None:
        threads = self.threads
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise InputError(f"threads={threads!r:.40} must be a whole number from 1; leave it out for all cores")
        providers: object = self.providers
        if not isinstance(providers, tuple) or not all(isinstance(name, str) and name for name in providers):
            raise InputError(
                f"providers={providers!r:.60} must be names, such as 'CPUExecutionProvider'; leave them out for the CPU"
            )


class Engine(ABC):
    """A runtime with the graphs of one folder; any number of threads may run them.

    A graph is loaded when it is first used, or by `load`. A runtime opens a file, and runs what it opened.
    """

    description: str
    """Name and version of the runtime, and where it runs."""
    precisions: tuple[str, ...] = ("fp32",)
    """In which it can run an encoder and memory attention; fp32 is what the folder holds."""

    def __init__(self, files: Mapping[str, Path], signatures: Mapping[str, Signature]) -> None:
        self.files, self.signatures = files, signatures
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def load(self, part: str) -> None:
        """Load a part and compare its signature.

        Raises:
            CheckpointError: if the runtime cannot read it, or it has other inputs or outputs.
        """
        with self._lock:
            if part not in self._loaded:
                self._loaded[part] = self._open(part, self.files[part])

    def run(self, part: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run a part; returns its outputs by name."""
        if part not in self._loaded:
            self.load(part)
        arrays = {name: np.ascontiguousarray(value) for name, value in inputs.items()}  # as runtimes take them
        return dict(zip(self.signatures[part][1], self._run(part, arrays), strict=True))

    def in_precision(self, precision: str) -> Engine:
        """Return a runtime of the same graphs that runs an encoder and memory attention in a precision.

        Raises:
            InputError: if the runtime has none like that.
        """
        if precision not in self.precisions:
            raise InputError(
                f"precision={precision!r:.40} does not go with this exported folder, which runs in "
                f"{' or '.join(self.precisions)} by {self.description}: leave it out, or export the model again, in "
                "the format openvino, for a processor with bf16 products"
            )
        return self

    @abstractmethod
    def _open(self, part: str, file: Path) -> Any:
        """Open the file of a part and compare its signature; called once a part."""

    @abstractmethod
    def _run(self, part: str, arrays: Arrays) -> Iterable[npt.NDArray[Any]]:
        """Run a part that is open; returns its outputs in the order of the signature."""


def signature(part: str, *, has_finer_maps: bool, has_keys: bool) -> Signature:
    """Return the names of the inputs and outputs of a part: with maps of strides 4 and 8 (SAM 2), and matching keys."""
    inputs, outputs = SIGNATURES[ATTENTION if part.startswith(ATTENTION) else part]
    finer = FINER_MAPS if has_finer_maps else ()
    if part == "image_encoder":
        return inputs, (*outputs, *finer, *(("matching_keys",) if has_keys else ()))
    return ((*inputs[:1], *finer, *inputs[1:]) if part == "prompt_decoder" else inputs), outputs


def check_signature(file: Path, part: str, found: Signature, wanted: Signature) -> None:
    """Compare the inputs and outputs of a graph with those of its part.

    Raises:
        CheckpointError: if one is missing, or an input is unknown.
    """
    for kind, have, need in zip(("input", "output"), found, wanted, strict=True):
        missing = sorted(set(need) - set(have))
        unknown = sorted(set(have) - set(need)) if kind == "input" else []
        if missing or unknown:
            what = f"no {kind} {', '.join(missing)}" if missing else f"an unknown {kind} {', '.join(unknown)[:80]}"
            raise CheckpointError(
                f"{file} is another graph: it has {what}, and the part {part} of a masklet folder has "
                f"{', '.join(need)}: export the model again, or take a fresh copy of the folder"
            )
