"""The half of a comparison that runs beside a program: answers a question a line until its input ends.

It needs NumPy and PyTorch and nothing else, so that it runs in the environment of any program. An adapter is started
by its path with a file of its job, finds this module beside itself, and hands `serve` one class for images and one
for videos (or only one of them). The verbs that a program has are the methods that its class has:

    images   load(job), encode(rgb), click(point), box(box), prompts(points), everything(rgb, options)
    videos      load(job), prompt(prompts), step()

Verbs that find masks return `Seen`. Seconds, memory and comparisons are taken here, in the same way for all.

Questions are objects of JSON on standard input, {"verb": "click"}; `everything` has "options" too, and `keep`, which
every program has, the "path" where what was seen last of each verb (of a video: on each frame from `kept_from` on) is
written as packed masks and logits. Answers are objects on standard output: {"seconds": ..., "cpu_s": ..., "rss_mb":
..., "peak_mb": ..., "masks": ...}; the first line of all says what is there. What a library prints goes to the errors.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

IMPORT_START = time.perf_counter()
VERBS_BY_KIND = {
    "picture": ("load", "encode", "click", "box", "prompts", "everything"),
    "film": ("load", "prompt", "step"),
}


class MaskOutput(NamedTuple):
    """What a verb found: N masks, and logits at a low resolution where the program shows them."""

    masks: Any
    """(N, H, W), above 0 is inside; or N run-length codes {"size": [H, W], "counts": [...]}, column by column."""
    logits: Any = None
    """(N, h, w)."""


@dataclass(frozen=True)
class AdapterJob:
    """What a program is to do; the names in the file of a job. Points are xy and boxes xyxy, in pixels."""

    kind: str
    """image or video"""
    model: str
    """Canonical name, such as sam2.1_hiera_tiny."""
    weights: str
    """A file in the published form."""
    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = None
    """Side of the network's input; None: the model's own."""
    image_path: str = ""
    """RGB (H, W, 3) uint8 as .npy"""
    point: list[float] = field(default_factory=list)
    box: list[float] = field(default_factory=list)
    points: list[list[float]] = field(default_factory=list)
    """A click each, for as many objects, asked in one call."""
    video_dir: str = ""
    """A folder of numbered JPEG files."""
    prompts: list[dict[str, Any]] = field(default_factory=list)
    """On frame 0: {"id": 1, "point": [x, y] or None, "box": [x, y, x, y] or None}"""
    keep_from_frame: int = 0
    """The first frame whose answers are kept."""


def serve(image_program: Callable[[], Any] | None = None, video_program: Callable[[], Any] | None = None) -> None:
    """Answer until standard input ends. A class has `version`, the program's, and methods as the module says."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = AdapterJob(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    import torch

    torch.set_num_threads(job.threads)
    make = {"picture": image_program, "film": video_program}[job.kind]
    server = ProgramServer(job, None if make is None else make())
    print(json.dumps(server.describe() | memory_mb()), file=answers)
    for line in sys.stdin:
        print(json.dumps(server.handle(json.loads(line)) | memory_mb()), file=answers)


def autocast(job: AdapterJob) -> AbstractContextManager[object]:
    """The precision asked for, for a program that leaves it to its caller."""
    import torch

    if job.precision == "fp32":
        return nullcontext()
    return torch.autocast(
        job.device.split(":")[0], dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[job.precision]
    )


def memory_mb() -> dict[str, float | None]:
    """Resident memory of this process now and at its highest, in MB of 10^6 bytes; None where it is not known.

    On Linux both come from /proc: the peak that `getrusage` gives there is handed down from the process that started
    this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status.read_text(), re.MULTILINE))
        return {"rss_mb": int(found["VmRSS"]) * 1.024e-3, "peak_mb": int(found["VmHWM"]) * 1.024e-3}
    if sys.platform == "win32":
        return {"rss_mb": None, "peak_mb": None}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rss_mb": None, "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)}


class ProgramServer:
    """A job, a program (None: it has nothing of this kind), and what it saw."""

    def __init__(self, job: AdapterJob, program: Any) -> None:
        self.job, self.program = job, program
        self.results: dict[str, MaskOutput] = {}
        self.frame = 0
        self.rgb: Any = None
        if job.image_path:
            import numpy as np

            self.rgb = np.load(job.image_path)

    def describe(self) -> dict[str, Any]:
        """What is there."""
        import torch

        return {
            "version": getattr(self.program, "version", ""),
            "verbs": [verb for verb in VERBS_BY_KIND[self.job.kind] if hasattr(self.program, verb)],
            "torch": torch.__version__,
            "import_s": time.perf_counter() - IMPORT_START,
        }

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked, and say how long it took."""
        verb = request["verb"]
        self._synchronize()
        wall, processor = time.perf_counter(), time.process_time()
        found = self._call_verb(verb, request)
        self._synchronize()
        taken = {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - processor}
        if isinstance(found, MaskOutput):
            taken["masks"] = len(found.masks)
            self._store(verb, found)
        return taken

    def keep(self, path: Path) -> None:
        """Write what was seen, for comparison."""
        import numpy as np

        arrays: dict[str, Any] = {}
        for name, seen in self.results.items():
            arrays[f"{name}.masks"] = np.packbits(unpack_masks(seen.masks), axis=1)
            if seen.logits is not None:
                arrays[f"{name}.logits"] = to_numpy(seen.logits).astype(np.float32)
        np.savez(path, **arrays)

    def _call_verb(self, verb: str, request: dict[str, Any]) -> Any:
        job = self.job
        given = {
            "load": (job,),
            "encode": (self.rgb,),
            "click": (job.point,),
            "box": (job.box,),
            "prompts": (job.points,),
            "everything": (self.rgb, request.get("options", {})),
            "prompt": (job.prompts,),
            "step": (),
            "keep": (Path(request.get("path", "")),),
        }
        return getattr(self if verb == "keep" else self.program, verb)(*given[verb])

    def _store(self, verb: str, output: MaskOutput) -> None:
        if verb != "step":
            self.results[verb] = output
            return
        if self.frame >= self.job.keep_from_frame:
            self.results[str(self.frame)] = output
        self.frame += 1

    def _synchronize(self) -> None:
        """Wait until what was asked of the device is done, so that a clock read now has all of it."""
        if self.job.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.job.device)


def unpack_masks(masks: Any) -> Any:
    """(N, HW) bool, row by row, of masks in either form."""
    import numpy as np

    if len(masks) and isinstance(masks[0], dict):
        return np.stack([_decode_rle(code) for code in masks])
    found = to_numpy(masks) > 0
    return found.reshape(len(found), int(np.prod(found.shape[1:])))  # -1 is not known where there are none


def to_numpy(values: Any) -> Any:
    """A tensor of any device and type, or what is one already, as an array."""
    import numpy as np

    return values.detach().float().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _decode_rle(code: dict[str, Any]) -> Any:
    import numpy as np

    height, width = code["size"]
    inside = np.arange(len(code["counts"])) % 2 == 1
    return np.repeat(inside, code["counts"]).reshape(width, height).T.ravel()
