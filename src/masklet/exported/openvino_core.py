"""OpenVINO without reports to its makers, and its one `Core` in a process."""

from __future__ import annotations

import sys
import threading
from typing import Any

__all__ = ["import_openvino", "openvino_core"]

TELEMETRY = "openvino_telemetry"

_lock = threading.Lock()
_core: Any = None


def import_openvino() -> Any:
    """Import `openvino`, which otherwise reports over the network that it was imported, unless the user opted out.

    Without the package of its telemetry it takes a stand-in, so that package cannot be found meanwhile. In a program
    that has imported `openvino` itself, nothing changes.

    Raises:
        ImportError: if openvino is not installed.
    """
    with _lock:
        hidden = TELEMETRY not in sys.modules
        if hidden:
            sys.modules[TELEMETRY] = None  # type: ignore[assignment]
        try:
            import openvino
        finally:
            if hidden:
                del sys.modules[TELEMETRY]
    return openvino


def openvino_core() -> Any:
    """Return the process's `openvino.Core`, which is never dropped; `openvino` must be installed.

    On processors with AMX, a core gives the thread that compiles its first model another stack for signals, and unmaps
    it when the core is dropped. If another thread drops it, or a second core is dropped first, the thread keeps that
    address, and its next signal, such as Ctrl-C, ends the process (OpenVINO 2026.4).
    """
    global _core
    openvino = import_openvino()
    with _lock:  # a second core, made by another thread meanwhile, would be dropped
        if _core is None:
            _core = openvino.Core()
        return _core
