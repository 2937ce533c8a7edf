"""The command in its own process, with a model of 96 x 96 pixels, killed when a frame is on disk.

python cli_driver.py '{"kill": 6}' track video.mp4 --point 20,25 ...
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    from masklet.cli.main import run
    from masklet.sam import model as sam_model
    from masklet.video import job_files

    trouble: dict[str, Any] = json.loads(sys.argv[1])
    load, save = sam_model.load, job_files.ResumeFolder.save_if_due
    job_files.SAVE_EVERY_FRAMES, job_files.SAVE_INTERVAL_FACTOR = trouble.get("every", 2), 0

    def small(*given: Any) -> Any:
        loaded = load(*given)
        loaded.network.image_size, loaded.network.video_pixels, loaded.network.edge_radius = 96, 96**2, None
        return loaded

    def troubled(self: Any, session: Any) -> None:
        save(self, session)
        if session.last_frame == trouble["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)

    sam_model.load = small  # type: ignore[attr-defined]
    job_files.ResumeFolder.save_if_due = troubled  # type: ignore[method-assign]
    run(sys.argv[2:])


if __name__ == "__main__":
    main()
