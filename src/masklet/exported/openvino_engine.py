"""Run the graphs of an exported folder with OpenVINO."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import CheckpointError, InputError, MissingExtraError
from masklet.exported.graphs import Arrays, Engine, RuntimeOptions, Signature, check_signature
from masklet.exported.openvino_core import openvino_core

__all__ = ["OpenVinoEngine"]


class OpenVinoEngine(Engine):
    """Compiled models of OpenVINO, one a part; a thread has its own inference requests.

    Raises:
        MissingExtraError: if openvino is not installed.
        InputError: if it does not have a device.
    """

    def __init__(
        self, files: Mapping[str, Path], signatures: Mapping[str, Signature], options: RuntimeOptions, threads: int
    ) -> None:
        super().__init__(files, signatures)
        try:
            import openvino
        except ImportError:
            folder = next(iter(files.values())).parent
            raise MissingExtraError(
                f"openvino is not installed, and {folder} needs it: pip install openvino, or the extra 'openvino'"
            ) from None
        self.core = openvino_core()
        available = self.core.available_devices
        unknown = [name for name in options.providers if name not in (*available, "AUTO")]
        if unknown:
            raise InputError(
                f"provider {unknown[0]!r:.60} is no device of this OpenVINO, which has {', '.join(available)}: "
                "choose one of these, or AUTO"
            )
        self.device = options.providers[0] if options.providers else "CPU"
        self.version = str(openvino.__version__).partition("-")[0]
        self.description = f"openvino {self.version}, {self.device}"
        self.config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads} if self.device == "CPU" else {}
        # fp32 graphs stay fp32 where OpenVINO would round to what the processor multiplies fastest
        self.config |= {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if options.cache_dir is not None:
            options.cache_dir.mkdir(parents=True, exist_ok=True)
            self.config["CACHE_DIR"] = str(options.cache_dir)
        self._local = threading.local()

    def _open(self, part: str, file: Path) -> Any:
        try:
            model = self.core.read_model(str(file))
            names = [[one.get_any_name() for one in ports] for ports in (model.inputs, model.outputs)]
        except Exception as error:
            raise CheckpointError(self._explain(file, error)) from error
        check_signature(file, part, (tuple(names[0]), tuple(names[1])), self.signatures[part])
        try:
            return self.core.compile_model(model, self.device, self.config)
        except Exception as error:
            raise CheckpointError(self._explain(file, error)) from error

    def _run(self, part: str, arrays: Arrays) -> Iterable[npt.NDArray[Any]]:
        requests: dict[str, Any] = self._local.__dict__.setdefault("requests", {})
        if part not in requests:
            requests[part] = self._loaded[part].create_infer_request()
        results = requests[part].infer(arrays)
        return [np.array(results[name]) for name in self.signatures[part][1]]

    def _explain(self, file: Path, error: Exception) -> str:
        reason = str(error).replace("\n", " ")[:160]
        return (
            f"{file} cannot be loaded by OpenVINO {self.version} ({reason}): take a fresh copy of the folder, export "
            "the model again, or install a newer openvino"
        )
