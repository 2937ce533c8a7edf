"""Stages that cost nothing and tell which items they saw, and a batch as a process.

python batch_stage.py SOURCE OUT LOG '{"seconds": 0.02, "shard": "0/1", "lease_s": 5}'
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LoggingStage:
    """Appends each item to `log`; an item with "bad" in its name fails, one with "bug" raises."""

    log: Path
    seconds: float = 0.0

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if any("bug" in name for name in batch["item"]):
            raise RuntimeError("a bug")
        time.sleep(self.seconds * len(batch["item"]))
        with open(self.log, "ab", buffering=0) as file:
            file.write("".join(f"{name}\n" for name in batch["item"]).encode())
        cells = batch["bytes"] if "bytes" in batch else [Path(path).read_bytes() for path in batch["path"]]
        return {
            "item": batch["item"],
            "width": [4] * len(cells),
            "height": [2] * len(cells),
            "masks": [['{"size":[2,4],"counts":"24"}']] * len(cells),
            "boxes": [[[1.0, 0.0, 3.0, 2.0]]] * len(cells),
            "scores": [[len(content) / 100] for content in cells],
            "ids": [[0]] * len(cells),
            "digest": [sha256(content).hexdigest() for content in cells],
            "error": ["a bad image" if "bad" in name else "" for name in batch["item"]],
        }

    def seen(self) -> list[str]:
        """Return the items that went in, in order, those of all processes."""
        return self.log.read_text().splitlines() if self.log.exists() else []


def write_images(folder: Path, names: list[str]) -> None:
    """Write files that are images by their names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content of " + name.encode())


def main() -> None:
    from masklet.scale.items import ItemSource
    from masklet.scale.run_batch import BatchOptions, run_batch
    from masklet.scale.shards import Shard

    source, out, log, options = sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
    stage = LoggingStage(log, options.get("seconds", 0.0))
    shard = Shard.parse(options.get("shard", "0/1"), os.environ)
    batch = BatchOptions(lease_s=options.get("lease_s", 30.0), read_ahead=options.get("read_ahead", 4))
    for progress in run_batch(ItemSource([source], shard=shard), stage, out, batch):
        print(progress.item, progress.outcome, flush=True)


if __name__ == "__main__":
    main()
