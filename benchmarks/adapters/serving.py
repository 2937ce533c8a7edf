"""Serve requests in the environment of a program, one per line, until the input ends.

It needs only NumPy and PyTorch, so that it runs in the environment of any program. An adapter is started by its path
with the file of its job, imports this module from its own folder, and passes `serve` a class for images and one for
videos (or only one of them). The verbs of a program are the methods of its class:

    images   load(job), encode(rgb), click(point), box(box), prompts(points), everything(rgb, options)
    videos   load(job), prompt(prompts), step()

Verbs that predict masks return a `MaskOutput`. Time and memory are measured here, in the same way for all programs.

Requests are JSON objects on standard input, {"verb": "click"}. `everything` also has "options"; `keep`, which every
program has, a "path" where the last result of each verb (of a video: of each frame from `keep_from_frame` on) is
written as packed masks and logits. Responses are JSON objects on standard output: {"seconds": ..., "cpu_s": ...,
"rss_mb": ..., "peak_mb": ..., "masks": ...}; the first line describes the program. What a library prints goes to
standard error.
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
    "image": ("load", "encode", "click", "box", "prompts", "everything"),
    "video": ("load", "prompt", "step"),
}


class MaskOutput(NamedTuple):
    """The result of a verb: N masks, and low-resolution logits if the program returns them."""

    masks: Any
    """(N, H, W), above 0 is inside; or N run-length codes {"size": [H, W], "counts": [...]}, column by column."""
    logits: Any = None
    """(N, h, w)."""


@dataclass(frozen=True)
class AdapterJob:
    """The job of a program, as its file has it. Points are xy and boxes xyxy, in pixels."""

    kind: str
    """image or video"""
    model: str
    """Canonical name, such as sam2.1_hiera_tiny."""
    weights: str
    """A file in the published format."""
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
    """A click per object, in one call."""
    video_dir: str = ""
    """A folder of numbered JPEG files."""
    prompts: list[dict[str, Any]] = field(default_factory=list)
    """On frame 0: {"id": 1, "point": [x, y] or None, "box": [x, y, x, y] or None}"""
    keep_from_frame: int = 0
    """The first frame whose results are stored."""


def serve(image_program: Callable[[], Any] | None = None, video_program: Callable[[], Any] | None = None) -> None:
    """Serve requests until standard input ends. A class has the program's `version` and the methods above."""
    responses = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = AdapterJob(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    import torch

    torch.set_num_threads(job.threads)
    make_program = {"image": image_program, "video": video_program}[job.kind]
    server = ProgramServer(job, None if make_program is None else make_program())
    print(json.dumps(server.describe() | memory_mb()), file=responses)
    for line in sys.stdin:
        print(json.dumps(server.handle(json.loads(line)) | memory_mb()), file=responses)


def autocast(job: AdapterJob) -> AbstractContextManager[object]:
    """Set the precision of the job, for a program that leaves it to its caller."""
    import torch

    if job.precision == "fp32":
        return nullcontext()
    return torch.autocast(
        job.device.split(":")[0], dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[job.precision]
    )


def memory_mb() -> dict[str, float | None]:
    """Return current and peak resident memory of this process, in MB of 10^6 bytes; None if unknown.

    On Linux both come from /proc, since the peak of `getrusage` is inherited from the parent process there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        values = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status.read_text(), re.MULTILINE))
        return {"rss_mb": int(values["VmRSS"]) * 1.024e-3, "peak_mb": int(values["VmHWM"]) * 1.024e-3}
    if sys.platform == "win32":
        return {"rss_mb": None, "peak_mb": None}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rss_mb": None, "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)}


class ProgramServer:
    """A job, a program (None: it does not support this kind of job), and its results."""

    def __init__(self, job: AdapterJob, program: Any) -> None:
        self.job, self.program = job, program
        self.results: dict[str, MaskOutput] = {}
        self.frame = 0
        self.rgb: Any = None
        if job.image_path:
            import numpy as np

            self.rgb = np.load(job.image_path)

    def describe(self) -> dict[str, Any]:
        """Describe the program."""
        import torch

        return {
            "version": getattr(self.program, "version", ""),
            "verbs": [verb for verb in VERBS_BY_KIND[self.job.kind] if hasattr(self.program, verb)],
            "torch": torch.__version__,
            "import_s": time.perf_counter() - IMPORT_START,
        }

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Handle a request and measure it."""
        verb = request["verb"]
        self._synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        output = self._call_verb(verb, request)
        self._synchronize()
        response = {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        if isinstance(output, MaskOutput):
            response["masks"] = len(output.masks)
            self._store(verb, output)
        return response

    def keep(self, path: Path) -> None:
        """Write the results, for comparison."""
        import numpy as np

        arrays: dict[str, Any] = {}
        for name, output in self.results.items():
            arrays[f"{name}.masks"] = np.packbits(unpack_masks(output.masks), axis=1)
            if output.logits is not None:
                arrays[f"{name}.logits"] = to_numpy(output.logits).astype(np.float32)
        np.savez(path, **arrays)

    def _call_verb(self, verb: str, request: dict[str, Any]) -> Any:
        job = self.job
        arguments = {
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
        return getattr(self if verb == "keep" else self.program, verb)(*arguments[verb])

    def _store(self, verb: str, output: MaskOutput) -> None:
        if verb != "step":
            self.results[verb] = output
            return
        if self.frame >= self.job.keep_from_frame:
            self.results[str(self.frame)] = output
        self.frame += 1

    def _synchronize(self) -> None:
        """Wait until the device has finished its work."""
        if self.job.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.job.device)


def unpack_masks(masks: Any) -> Any:
    """Return masks of either form as (N, HW) bool, row by row."""
    import numpy as np

    if len(masks) and isinstance(masks[0], dict):
        return np.stack([_decode_rle(code) for code in masks])
    inside = to_numpy(masks) > 0
    return inside.reshape(len(inside), int(np.prod(inside.shape[1:])))  # -1 is ambiguous without masks


def to_numpy(values: Any) -> Any:
    """Convert a tensor of any device and type, or an array, to an array."""
    import numpy as np

    return values.detach().float().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _decode_rle(code: dict[str, Any]) -> Any:
    import numpy as np

    height, width = code["size"]
    inside = np.arange(len(code["counts"])) % 2 == 1
    return np.repeat(inside, code["counts"]).reshape(width, height).T.ravel()
