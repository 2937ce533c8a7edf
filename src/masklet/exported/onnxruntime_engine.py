"""Run the graphs of an exported folder with ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from masklet.errors import CheckpointError, InputError, MissingExtraError
from masklet.exported.graphs import Arrays, Engine, RuntimeOptions, Signature, check_signature

__all__ = ["OnnxRuntimeEngine"]

CPU_PROVIDER = "CPUExecutionProvider"
QUIET = 3
"""Level of ONNX Runtime's log: errors only; warnings are about graphs, which a caller cannot change."""


class OnnxRuntimeEngine(Engine):
    """Sessions of ONNX Runtime, one a part.

    Raises:
        MissingExtraError: if onnxruntime is not installed.
        InputError: if it does not have a provider.
    """

    def __init__(
        self, files: Mapping[str, Path], signatures: Mapping[str, Signature], options: RuntimeOptions, threads: int
    ) -> None:
        super().__init__(files, signatures)
        try:
            import onnxruntime
        except ImportError:
            folder = next(iter(files.values())).parent
            raise MissingExtraError(
                f"onnxruntime is not installed, and {folder} needs it: pip install onnxruntime, or the extra "
                "'onnxruntime'"
            ) from None
        self.runtime: Any = onnxruntime
        self.options, self.threads = options, threads
        self.providers = list(options.providers) or [CPU_PROVIDER]
        available = onnxruntime.get_available_providers()
        unknown = [name for name in self.providers if name not in available]
        if unknown:
            raise InputError(
                f"provider {unknown[0]!r:.60} is not in this onnxruntime {onnxruntime.__version__}, which has "
                f"{', '.join(available)}: choose one of these, or install the build of onnxruntime that has it"
            )
        self.description = f"onnxruntime {onnxruntime.__version__}, {self.providers[0]}"

    def _open(self, part: str, file: Path) -> Any:
        session = self._open_session(file)
        found = tuple(tuple(one.name for one in ports) for ports in (session.get_inputs(), session.get_outputs()))
        check_signature(file, part, (found[0], found[1]), self.signatures[part])
        return session

    def _run(self, part: str, arrays: Arrays) -> Iterable[npt.NDArray[Any]]:
        outputs: list[npt.NDArray[Any]] = self._loaded[part].run(list(self.signatures[part][1]), arrays)
        return outputs

    def _open_session(self, file: Path) -> Any:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = self.threads, QUIET
        prepared = None
        if self.options.cache_dir is not None and not file.with_name(f"{file.name}.data").exists():
            # Optimized for any processor: what suits this one is added when the graph is loaded.
            stat, version = file.stat(), self.runtime.__version__
            name = f"{file.stem}-{stat.st_size}-{stat.st_mtime_ns}-{self.providers[0]}-{version}.onnx"
            prepared = self.options.cache_dir / name
        try:
            if prepared is not None and prepared.is_file():
                return self.runtime.InferenceSession(str(prepared), options, providers=self.providers)
            if prepared is not None:
                prepared.parent.mkdir(parents=True, exist_ok=True)
                temporary = prepared.with_suffix(f".{os.getpid()}.part")
                options.graph_optimization_level = self.runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
                options.optimized_model_filepath = str(temporary)
                session = self.runtime.InferenceSession(str(file), options, providers=self.providers)
                os.replace(temporary, prepared)
                return session
            return self.runtime.InferenceSession(str(file), options, providers=self.providers)
        except OSError:
            raise
        except Exception as error:  # its classes differ between versions; all of them are about the graph
            raise CheckpointError(_explain(file, str(error), self.runtime.__version__)) from error


def _explain(file: Path, message: str, version: str) -> str:
    """Return the error for a graph that ONNX Runtime refused with `message`."""
    lowered = message.lower()
    if "opset" in lowered or "ir version" in lowered or "ir_version" in lowered:
        return (
            f"{file} needs a newer ONNX Runtime than the installed {version} (its opset or IR version is unknown to "
            "it): pip install -U onnxruntime, or export the model again with this version of masklet"
        )
    reason = message.replace("\n", " ")[:160]
    return (
        f"{file} cannot be loaded by onnxruntime {version} ({reason}): take a fresh copy of the folder, or export the "
        "model again"
    )
