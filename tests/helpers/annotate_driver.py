"""Annotate in a separate process, which is killed on request.

python annotate_driver.py DATA OUT LOG '{"kill_at": 3, "workers": 2, "kill_writing": 4}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from helpers.annotate_data import Blobs
from masklet.annotate import auto_annotate
from masklet.annotate.output_writers import FormatWriters


def main() -> None:
    data, out, log, options = sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
    write, written = FormatWriters.write, 0

    def write_or_die(self, *args):  # type: ignore[no-untyped-def]
        nonlocal written
        written += 1
        if written == options.get("kill_writing"):
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, *args)

    FormatWriters.write = write_or_die
    detector = Blobs(log, kill_at=options.get("kill_at", 0))
    auto_annotate(
        data,
        detector,
        output_dir=out,
        detector_masks=True,
        formats=("yolo", "coco"),
        val_fraction=0.5,
        batch=2,
        workers=options.get("workers", 1),
        review_fraction=0.5,
    )


if __name__ == "__main__":
    main()
