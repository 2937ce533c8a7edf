"""The command in a process of its own, with a model that looks at 96 x 96 pixels and trouble when it is wanted.

python cli_driver.py '{"kill": 6}' track video.mp4 --point 20,25 ...
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    from masklet.cli import track_job, track_resume
    from masklet.cli.main import run
    from masklet.sam import model as sam_model

    trouble: dict[str, Any] = json.loads(sys.argv[1])
    load, keep = sam_model.load, track_job._TrackRun._record_frame
    track_resume.SAVE_EVERY_FRAMES, track_resume.SAVE_INTERVAL_FACTOR = trouble.get("every", 2), 0

    def small(*given: Any) -> Any:
        loaded = load(*given)
        loaded.network.image_size = 96
        return loaded

    def troubled(self: Any, frame: Any, session: Any) -> None:
        keep(self, frame, session)
        for name, number in (("kill", signal.SIGKILL), ("interrupt", signal.SIGINT)):
            if frame.frame == trouble.get(name):
                os.kill(os.getpid(), number)

    sam_model.load = small  # type: ignore[attr-defined]
    track_job._TrackRun._record_frame = troubled  # type: ignore[method-assign]
    run(sys.argv[2:])


if __name__ == "__main__":
    main()
