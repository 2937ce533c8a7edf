"""Run the graphs of an exported folder that `torch.export` wrote, with PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from masklet.cpu_threads import fix_threads
from masklet.damaged_files import decoder_errors
from masklet.errors import CheckpointError, InputError
from masklet.exported.graphs import Arrays, Engine, RuntimeOptions, Signature
from masklet.tensors import require_torch, torch

__all__ = ["TorchEngine"]


class TorchEngine(Engine):
    """Programs of `torch.export`, one a part, on the CPU; arguments are in the order of the signature.

    A number of threads is that of PyTorch in the process.

    Raises:
        MissingExtraError: if PyTorch is not installed.
        InputError: if providers or a cache folder are given.
    """

    def __init__(
        self, files: Mapping[str, Path], signatures: Mapping[str, Signature], options: RuntimeOptions, threads: int
    ) -> None:
        super().__init__(files, signatures)
        require_torch("a folder in the format torch")
        if options.providers or options.cache_dir is not None:
            raise InputError(
                f"{options} has options of other runtimes: a folder in the format torch takes threads alone; leave the "
                "others out"
            )
        if options.threads is not None:
            fix_threads(options.threads)
        self.description = f"torch {torch.__version__}, cpu"

    def _open(self, part: str, file: Path) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.export.load(file).module()
        except decoder_errors() as error:
            raise CheckpointError(
                f"{file} cannot be loaded by PyTorch {torch.__version__} ({str(error)[:120]!r}): export the model "
                "again with this version, or take a fresh copy of the folder"
            ) from error

    def _run(self, part: str, arrays: Arrays) -> Iterable[npt.NDArray[Any]]:
        with torch.inference_mode():
            results = self._loaded[part](*(torch.from_numpy(arrays[name]) for name in self.signatures[part][0]))
        values = results if isinstance(results, (tuple, list)) else (results,)
        return [value.numpy() for value in values]
