"""The one `Core` of OpenVINO in a process."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["openvino_core"]


_lock = threading.Lock()
_core: Any = None


def openvino_core() -> Any:
    """Return the process's `openvino.Core`, which is never dropped; `openvino` must be installed.

    On processors with AMX, a core gives the thread that compiles its first model another stack for signals, and unmaps
    it when the core is dropped. If another thread drops it, or a second core is dropped first, the thread keeps that
    address, and its next signal, such as Ctrl-C, ends the process (OpenVINO 2026.4).
    """
    global _core
    import openvino

    with _lock:  # a second core, made by another thread meanwhile, would be dropped
        if _core is None:
            _core = openvino.Core()
        return _core
