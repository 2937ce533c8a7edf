"""An annotation in a process of its own, with trouble when it is wanted.

python annotate_driver.py DATA OUT LOG '{"die_at": 3, "workers": 2, "die_writing": 4}'
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
    data, out, log, trouble = sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
    write, written = FormatWriters.write, 0

    def troubled(self, *given):  # type: ignore[no-untyped-def]
        nonlocal written
        written += 1
        if written == trouble.get("die_writing"):
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, *given)

    FormatWriters.write = troubled
    detector = Blobs(log, die_at=trouble.get("die_at", 0))
    auto_annotate(
        data,
        detector,
        output_dir=out,
        detector_masks=True,
        formats=("yolo", "coco"),
        split=0.5,
        batch=2,
        workers=trouble.get("workers", 1),
        review_fraction=0.5,
    )


if __name__ == "__main__":
    main()
