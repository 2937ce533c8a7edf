"""Run the graphs of an exported folder with OpenVINO.

A graph has axes of any length, and OpenVINO runs it faster where they are known: the encoder of the built-in model
takes .8 of the time, its prompt decoder half. So a graph is compiled for the first shapes that its inputs have, each
when it comes, and once for any shape after these. Both round differently, by the last bits.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import CheckpointError, InputError, MissingExtraError
from masklet.exported.graphs import ATTENTION, Arrays, Engine, RuntimeOptions, Signature, check_signature
from masklet.exported.openvino_core import import_openvino, openvino_core

__all__ = ["OpenVinoEngine"]

HINTS = {"fp32": "f32", "bf16": "bf16"}
MAX_SHAPES = 3
"""Shapes that a part is compiled for in a precision: each takes a quarter of a second, and memory for the weights."""
MAX_OBJECTS, MAX_POINTS = 8, 2
"""Of shapes that a part is compiled for: frames of videos, a click, a box. More objects or points vary too much."""

Shapes = tuple[tuple[int, ...], ...]
GraphKey = tuple[str, str, Shapes | None]
"""Part, precision as OpenVINO names it, and shapes of the inputs; None: any."""


class OpenVinoEngine(Engine):
    """Compiled models of OpenVINO; a thread has its own inference requests.

    Raises:
        MissingExtraError: if openvino is not installed.
        InputError: if it does not have a device.
    """

    def __init__(
        self, files: Mapping[str, Path], signatures: Mapping[str, Signature], options: RuntimeOptions, threads: int
    ) -> None:
        super().__init__(files, signatures)
        try:
            openvino = import_openvino()
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
        self.config["PERFORMANCE_HINT"] = "LATENCY"
        if self.device == "CPU" and "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            self.precisions = ("fp32", "bf16")
        self.precision = "fp32"
        if options.cache_dir is not None:
            options.cache_dir.mkdir(parents=True, exist_ok=True)
            self.config["CACHE_DIR"] = str(options.cache_dir)
        self._compiled: dict[GraphKey, Any] = {}
        self._local = threading.local()

    def in_precision(self, precision: str) -> Engine:
        """Return an engine of the same graphs, compiled models and requests; see `Engine.in_precision`."""
        if precision == self.precision or precision not in self.precisions:
            return super().in_precision(precision)
        other = copy.copy(self)
        other.precision = precision
        return other

    def _open(self, part: str, file: Path) -> Any:
        try:
            model = self.core.read_model(str(file))
            names = [[one.get_any_name() for one in ports] for ports in (model.inputs, model.outputs)]
        except Exception as error:
            raise CheckpointError(self._explain(file, error)) from error
        check_signature(file, part, (tuple(names[0]), tuple(names[1])), self.signatures[part])
        return model

    def _run(self, part: str, arrays: Arrays) -> Iterable[npt.NDArray[Any]]:
        # What is decoded stays fp32, as in PyTorch; and so do fp32 graphs where OpenVINO would choose to round.
        rounds = part == "image_encoder" or part.startswith(ATTENTION)
        hint = HINTS[self.precision if rounds else "fp32"]
        shapes = tuple(arrays[name].shape for name in self.signatures[part][0])
        requests: dict[GraphKey, Any] = self._local.__dict__.setdefault("requests", {})
        key: GraphKey = part, hint, shapes
        if key not in requests:
            key = self._compile(key, arrays)
        if key not in requests:
            requests[key] = self._compiled[key].create_infer_request()
        results = requests[key].infer(arrays, share_inputs=True)
        return [np.array(results[name]) for name in self.signatures[part][1]]

    def _compile(self, key: GraphKey, arrays: Arrays) -> GraphKey:
        """Compile a part for the shapes of a key if it is none of many, else for any; return the key of what runs."""
        part, hint, _ = key
        objects = max(array.shape[0] for array in arrays.values() if array.ndim > 1)
        points = arrays["point_labels"].shape[1] if "point_labels" in arrays else 0
        with self._lock:
            if key in self._compiled:
                return key
            known = sum(each[:2] == key[:2] and each[2] is not None for each in self._compiled)
            if objects > MAX_OBJECTS or points > MAX_POINTS or known >= MAX_SHAPES:
                key = part, hint, None
            if key not in self._compiled:
                try:
                    model = self._loaded[part]
                    if key[2] is not None:
                        model = model.clone()
                        model.reshape({name: list(arrays[name].shape) for name in self.signatures[part][0]})
                    config = {**self.config, "INFERENCE_PRECISION_HINT": hint}
                    self._compiled[key] = self.core.compile_model(model, self.device, config)
                except Exception as error:
                    raise CheckpointError(self._explain(self.files[part], error)) from error
        return key

    def _explain(self, file: Path, error: Exception) -> str:
        reason = str(error).replace("\n", " ")[:160]
        return (
            f"{file} cannot be loaded by OpenVINO {self.version} ({reason}): take a fresh copy of the folder, export "
            "the model again, or install a newer openvino"
        )
