"""Run `BrightPixels` on a cluster, as a process that a test may kill: ADDRESS SOURCE OUT KIND STATE SECONDS."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from helpers.cheap_stages import BrightPixels
from masklet.scale.ray import RayOptions, run, summarize_run


def main(address: str, source: str, out: str, kind: str, state: str, seconds: str) -> None:
    options = RayOptions(address=address, actors=(1, 2), block_items=5, lease_s=5)
    stage = BrightPixels(float(seconds), state)
    summary = summarize_run(run(source, stage, out, options, settings={"stage": "bright"}, kind=kind))
    print(json.dumps(asdict(summary)))


if __name__ == "__main__":
    main(*sys.argv[1:])
