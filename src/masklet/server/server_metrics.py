"""Numbers of a running server, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping

__all__ = ["ServerMetrics"]

_HELP = {
    "masklet_requests_total": "HTTP requests by route and status.",
    "masklet_messages_total": "Messages of WebSockets by type.",
    "masklet_model_jobs_total": "Work that the model did.",
    "masklet_model_seconds_total": "Seconds that the model worked.",
    "masklet_tracked_frames_total": "Frames that were tracked.",
    "masklet_hover_overtaken_total": "Hover requests that a newer one overtook.",
    "masklet_upload_bytes_total": "Bytes that were uploaded.",
    "masklet_errors_total": "Faults of the server itself.",
}


class ServerMetrics:
    """Counters by name and label, for any thread.

    Example:
        >>> metrics = ServerMetrics()
        >>> metrics.add("masklet_upload_bytes_total", 7)
        >>> "masklet_upload_bytes_total 7" in metrics.text({"masklet_sessions": 1})
        True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[tuple[str, str], float] = defaultdict(float)

    def add(self, name: str, amount: float = 1, **labels: object) -> None:
        """Add to a counter; values of labels are words of the server, never of a client."""
        assert name in _HELP, f"a metric that is not in the table: {name}"
        label = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        with self._lock:
            self._counts[name, label] += amount

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all counters, and values of this moment."""
        lines = []
        with self._lock:
            counts = sorted(self._counts.items())
        for name, text in _HELP.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            lines += [
                f"{key}{{{label}}} {value:g}" if label else f"{key} {value:g}"
                for (key, label), value in counts
                if key == name
            ]
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
