"""Programs to compare with that take no time: adapters made in a test, beside the real way of serving them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from masklet.benchmark.peers import process

SAM2 = Path(os.environ.get("MASKLET_SAM2_PYTHON", Path(__file__).parents[3] / "peer" / "bin" / "python"))
"""The interpreter of an environment with sam2, where there is one."""
IMAGE = """
import json
from pathlib import Path
import numpy as np
from serving import Seen, serve

MASKS = np.zeros((3, 6, 8), bool)
MASKS[:, :3] = True
LOGITS = np.arange(12.0).reshape(3, 2, 2)

class Image:
    version = "{name} 1"

    def load(self, job):
        print("a library that talks")
        self.job = job

    def encode(self, rgb):
        self.said("encode", rgb.shape)

    def click(self, point):
        self.said("click", point)
        return Seen(MASKS, LOGITS)

    def everything(self, rgb, options):
        self.said("everything", options)
        return Seen([{{"size": [6, 8], "counts": [0, 3] + [3, 3] * 7 + [3]}}] * 2)

    def said(self, *words):
        with open("{log}", "a") as log:
            log.write(json.dumps(["{name}", self.job.precision, *words]) + "\\n")

{change}

serve(image=Image)
"""


def adapters_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`folder` takes the place of that with the adapters; PyTorch, which takes seconds to import, is a stub there."""
    shutil.copy(process.ADAPTERS_DIR / "serving.py", folder)
    (folder / "torch.py").write_text("__version__ = '2'\ndef set_num_threads(number): pass\n")
    monkeypatch.setattr(process, "ADAPTERS_DIR", folder)
    return folder


def made_image_adapter(folder: Path, name: str, change: str = "") -> Path:
    """An adapter for images that has no boxes and no 64 prompts; `change` is Python behind its class."""
    file = folder / f"{name}_adapter.py"
    file.write_text(IMAGE.format(name=name, log=folder / "said", change=change))
    return Path(sys.executable)
