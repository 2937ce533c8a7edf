"""Fast programs to compare with: adapters written by a test, served in the real way."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import process

SAM2 = Path(os.environ.get("MASKLET_SAM2_PYTHON", Path(__file__).parents[3] / "peer" / "bin" / "python"))
"""The interpreter of an environment with sam2, where there is one."""
IMAGE = """
import json
from pathlib import Path
import numpy as np
from serving import MaskOutput, serve

MASKS = np.zeros((3, 6, 8), bool)
MASKS[:, :3] = True
LOGITS = np.arange(12.0).reshape(3, 2, 2)

class FakeImageProgram:
    version = "{name} 1"

    def load(self, job):
        print("a library that talks")
        self.job = job

    def encode(self, rgb):
        self.record("encode", rgb.shape)

    def click(self, point):
        self.record("click", point)
        return MaskOutput(MASKS, LOGITS)

    def everything(self, rgb, options):
        self.record("everything", options)
        return MaskOutput([{{"size": [6, 8], "counts": [0, 3] + [3, 3] * 7 + [3]}}] * 2)

    def record(self, *words):
        with open("{log}", "a") as log:
            log.write(json.dumps(["{name}", self.job.precision, *words]) + "\\n")

{change}

serve(image_program=FakeImageProgram)
"""


def use_adapters_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use `folder` for the adapters, with a stub for PyTorch, which takes seconds to import."""
    shutil.copy(process.ADAPTERS_DIR / "serving.py", folder)
    (folder / "torch.py").write_text("__version__ = '2'\ndef set_num_threads(number): pass\n")
    monkeypatch.setattr(process, "ADAPTERS_DIR", folder)
    return folder


def write_image_adapter(folder: Path, name: str, change: str = "") -> Path:
    """Write an adapter for images without boxes and 64 prompts; `change` is Python code after its class."""
    file = folder / f"{name}_adapter.py"
    file.write_text(IMAGE.format(name=name, log=folder / "requests", change=change))
    return Path(sys.executable)
