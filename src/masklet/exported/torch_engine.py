"""Run the graphs of an exported folder that `torch.export` wrote, with PyTorch."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from masklet.damaged_files import decoder_errors
from masklet.errors import CheckpointError, InputError
from masklet.exported.graphs import Arrays, RuntimeOptions, Signature, contiguous
from masklet.tensors import require_torch, torch

__all__ = ["TorchEngine"]


class TorchEngine:
    """Programs of `torch.export`, one a part, on the CPU; arguments are in the order of the signature.

    Raises:
        MissingExtraError: if PyTorch is not installed.
        InputError: if providers or a cache folder are given, or the number of threads.
    """

    def __init__(
        self, files: Mapping[str, Path], signatures: Mapping[str, Signature], options: RuntimeOptions, threads: int
    ) -> None:
        require_torch("a folder in the format torch")
        if options != RuntimeOptions():
            raise InputError(
                f"{options} has options of other runtimes: a folder in the format torch takes none of them; leave them "
                "out, or set MASKLET_THREADS for the number of threads"
            )
        self.files, self.signatures = files, signatures
        self.description = f"torch {torch.__version__}, cpu"
        self._programs: dict[str, Any] = {}
        self._lock = threading.Lock()

    def load(self, part: str) -> None:
        """Load a part and compare its signature; see `Engine.load`."""
        with self._lock:
            if part in self._programs:
                return
            file = self.files[part]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._programs[part] = torch.export.load(file).module()
            except decoder_errors() as error:
                raise CheckpointError(
                    f"{file} cannot be loaded by PyTorch {torch.__version__} ({str(error)[:120]!r}): export the model "
                    "again with this version, or take a fresh copy of the folder"
                ) from error

    def run(self, part: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run a part; returns its outputs by name."""
        self.load(part)
        names, outputs = self.signatures[part]
        arrays = contiguous(inputs)
        with torch.inference_mode():
            results = self._programs[part](*(torch.from_numpy(arrays[name]) for name in names))
        values = results if isinstance(results, (tuple, list)) else (results,)
        return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}
