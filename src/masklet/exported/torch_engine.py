"""Run the graphs of an exported folder that `torch.export` wrote, with PyTorch, as they are or compiled.

They are compiled where they run: a compiled graph fits one kind of processor, and running one runs its author's code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from masklet.atomic_files import atomic_path
from masklet.cpu_threads import fix_threads
from masklet.damaged_files import decoder_errors
from masklet.errors import CheckpointError, InputError
from masklet.exported.graphs import Arrays, Engine, RuntimeOptions, Signature
from masklet.runtime import processor_name
from masklet.tensors import require_torch, torch

__all__ = ["TorchEngine", "check_compiler"]

COMPILERS = ("g++", "clang++", "cl")


class TorchEngine(Engine):
    """Programs of `torch.export`, one a part, on the CPU; arguments are in the order of the signature.

    A number of threads is that of PyTorch in the process. With a cache folder the programs are compiled into it by
    AOTInductor, which takes minutes once, and run from there.

    Raises:
        MissingExtraError: if PyTorch is not installed.
        InputError: if providers are given, or a cache folder where nothing compiles.
    """

    def __init__(
        self, files: Mapping[str, Path], signatures: Mapping[str, Signature], options: RuntimeOptions, threads: int
    ) -> None:
        super().__init__(files, signatures)
        require_torch("a folder in the format torch")
        if options.providers:
            raise InputError(
                f"providers={list(options.providers)} are for other runtimes: a folder in the format torch runs on the "
                "CPU; leave them out"
            )
        if options.cache_dir is not None:
            check_compiler()
        if options.threads is not None:
            fix_threads(options.threads)
        self.cache_dir = options.cache_dir
        self.description = f"torch {torch.__version__}, cpu{', compiled' if self.cache_dir else ''}"

    def _open(self, part: str, file: Path) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.load(file)
        except decoder_errors() as error:
            raise CheckpointError(
                f"{file} cannot be loaded by PyTorch {torch.__version__} ({str(error)[:120]!r}): export the model "
                "again with this version, or take a fresh copy of the folder"
            ) from error
        if self.cache_dir is None:
            return program.module()
        stat, processor = file.stat(), hashlib.sha256(processor_name().encode()).hexdigest()[:8]
        name = f"{file.stem}-{stat.st_size}-{stat.st_mtime_ns}-{torch.__version__}-{processor}.pt2"
        compiled = self.cache_dir / name
        from torch import _inductor

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not compiled.is_file():
                try:
                    with atomic_path(compiled) as temporary:
                        _inductor.aoti_compile_and_package(program, package_path=str(temporary))
                except RuntimeError as error:
                    raise InputError(
                        f"{file} cannot be compiled ({str(error).strip().splitlines()[0][:120]}): leave out cache_dir "
                        "to run it as it is"
                    ) from error
            return _inductor.aoti_load_package(str(compiled))

    def _run(self, part: str, arrays: Arrays) -> Iterable[npt.NDArray[Any]]:
        with torch.inference_mode():
            results = self._loaded[part](*(torch.from_numpy(arrays[name]) for name in self.signatures[part][0]))
        values = results if isinstance(results, (tuple, list)) else (results,)
        return [value.numpy() for value in values]


def check_compiler() -> None:
    """Check that AOTInductor can compile here: PyTorch 2.6 or later, and a C++ compiler.

    Raises:
        InputError: if something is missing.
    """
    from torch import _inductor

    if not hasattr(_inductor, "aoti_load_package"):
        raise InputError(
            f"a folder in the format torch is compiled into cache_dir by PyTorch 2.6 or later, and this is "
            f"{torch.__version__}: leave cache_dir out, or install a newer PyTorch"
        )
    chosen = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ((chosen,) if chosen else COMPILERS)):
        raise InputError(
            f"a folder in the format torch is compiled into cache_dir, and no C++ compiler was found "
            f"({chosen or ', '.join(COMPILERS)}): install g++, name one by CXX, or leave cache_dir out"
        )
