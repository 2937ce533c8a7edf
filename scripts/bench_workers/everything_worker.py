"""What both workers of the everything benchmark do: a line with a case in, a line of JSON out; masks into a file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

Found = list[dict]
"""One mapping a mask: counts (runs), size, iou, stability."""
Generate = Callable[[dict], Found]


def serve(version: str, generate: Generate) -> None:
    """Answer cases from standard input until it ends."""
    real, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(json.dumps({"version": version, "torch": torch.__version__}), file=real, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        found = generate(case["options"])
        answer = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "masks": len(found)}
        if case.get("keep"):
            Path(case["keep"]).write_text(json.dumps(found))
        print(json.dumps(answer), file=real, flush=True)
