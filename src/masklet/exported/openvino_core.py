"""The one `Core` of OpenVINO in a process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

__all__ = ["openvino_core"]


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """Return the process's `openvino.Core`, which is never dropped; `openvino` must be installed.

    On processors with AMX, a core gives the thread that compiles its first model another stack for signals, and unmaps
    it when the core is dropped. If another thread drops it, or a second core is dropped first, the thread keeps that
    address, and its next signal, such as Ctrl-C, ends the process (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()
