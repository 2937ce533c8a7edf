"""Masks in JavaScript, by node, beside those in Python: the same codes, pixels, areas and boxes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from masklet.app.run_app import PAGE
from masklet.masks import rle
from masklet.masks.ops import masks_to_boxes

SCRIPT = """
import { readFileSync } from "node:fs";
import { decodeRle, encodeRle, maskBox, rleArea } from "RLE";
import { combine, emptyMask, fillPolygon, strokeLine } from "OPS";
const { codes, polygon, line, size } = JSON.parse(readFileSync(0, "utf8"));
const masks = codes.map(decodeRle);
const round = masks.map(encodeRle);
const stroke = emptyMask(size[1], size[0]);
strokeLine(stroke, line[0], line[1], line[2], 1);
const combined = ["union", "subtract", "intersect"].map((one) => encodeRle(combine(masks[0], masks[1], one)));
console.log(JSON.stringify({
  round, areas: codes.map(rleArea), boxes: masks.map(maskBox), combined,
  pixels: masks.map((one) => Array.from(one.data)),
  polygon: encodeRle(fillPolygon(polygon, size[1], size[0])), stroke: encodeRle(stroke),
}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_masks_are_those_of_python(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    masks = [random.random((random.integers(1, 40), random.integers(1, 40))) < random.random() for _ in range(200)]
    masks = [
        np.zeros((30, 40), bool),
        np.ones((30, 40), bool),
        np.eye(30, 40, dtype=bool),
        np.ones((1, 1), bool),
        *masks,
    ]
    masks[0][5:20, 5:30] = True
    large = np.zeros((1500, 1100), bool)  # runs of more than twenty bits
    large[3:1490, 900] = True
    masks.append(large)
    polygon = [(4.2, 3.1), (33.7, 8.4), (25.3, 27.6), (9.9, 20.2)]
    line = [{"x": 8.0, "y": 9.0}, {"x": 30.0, "y": 21.0}, 4.0]
    script = SCRIPT.replace("RLE", (PAGE / "js/rle.js").as_uri()).replace("OPS", (PAGE / "js/mask_ops.js").as_uri())
    (tmp_path / "run.mjs").write_text(script, encoding="utf-8")
    given = {
        "codes": [rle.encode(mask) for mask in masks],
        "polygon": [{"x": x, "y": y} for x, y in polygon],
        "line": line,
        "size": [30, 40],
    }
    done = subprocess.run(
        ["node", "--no-warnings", str(tmp_path / "run.mjs")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["round"] == given["codes"]
    assert answer["areas"] == [int(mask.sum()) for mask in masks]
    assert all(
        np.array_equal(np.reshape(one, mask.shape), mask) for one, mask in zip(answer["pixels"], masks, strict=True)
    )
    boxes = [masks_to_boxes(mask[None])[0].tolist() if mask.any() else None for mask in masks]
    assert answer["boxes"] == boxes
    one, other = masks[0], masks[1]
    expected = [one | other, one & ~other, one & other]
    assert [rle.decode(code).tolist() for code in answer["combined"]] == [mask.tolist() for mask in expected]
    rows, columns = np.mgrid[:30, :40] + 0.5
    inside = [
        cv2.pointPolygonTest(np.array(polygon, np.float32), (x, y), False) > 0
        for x, y in zip(columns.flat, rows.flat, strict=True)
    ]
    assert rle.decode(answer["polygon"]).ravel().tolist() == inside
    a, b, radius = np.array([8.0, 9.0]), np.array([30.0, 21.0]), 4.0
    along = (((columns - a[0]) * (b - a)[0] + (rows - a[1]) * (b - a)[1]) / ((b - a) @ (b - a))).clip(0, 1)
    distance = np.hypot(columns - a[0] - along * (b - a)[0], rows - a[1] - along * (b - a)[1])
    assert rle.decode(answer["stroke"]).tolist() == (distance <= radius).tolist()


EDGE_SCRIPT = """
import { readFileSync } from "node:fs";
import { logitsOfPixels, maskAbove, readLogits, softAlpha } from "EDGE";
const { payload, header, size, mask, threshold } = JSON.parse(readFileSync(0, "utf8"));
const field = readLogits({ header, masks: [], payload: Uint8Array.from(payload) });
const logits = logitsOfPixels(field, { data: Uint8Array.from(mask), width: size[1], height: size[0] });
console.log(JSON.stringify({
  logits: Array.from(logits), above: Array.from(maskAbove(logits, size[1], size[0], threshold).data),
  alpha: Array.from(softAlpha(logits, threshold)),
}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("box", [[0, 0, 50, 40], [10, 6, 34, 30]])
def test_thresholds_and_soft_edges_are_those_of_interpolated_logits(tmp_path: Path, box: list[int]) -> None:
    random, size = np.random.default_rng(5), (40, 50)
    cells = random.integers(-127, 128, (16, 12)).astype(np.int8)
    mask = random.random(size) < 0.5
    (tmp_path / "run.mjs").write_text(EDGE_SCRIPT.replace("EDGE", (PAGE / "js/mask_edge.js").as_uri()))
    given = {
        "payload": list(cells.tobytes()),
        "header": {"shape": [16, 12], "scale": 8, "box": box},
        "size": size,
        "mask": mask.ravel().astype(int).tolist(),
        "threshold": 1.5,
    }
    done = subprocess.run(
        ["node", "--no-warnings", str(tmp_path / "run.mjs")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    left, top, right, bottom = box
    expected = np.where(mask, 16.0, -16.0)
    tensor = torch.from_numpy(cells.astype(np.float32) / 8)[None, None]
    expected[top:bottom, left:right] = interpolate(tensor, (bottom - top, right - left), mode="bilinear")[0, 0].numpy()
    assert np.allclose(np.reshape(answer["logits"], size), expected, atol=1e-4)
    assert (np.reshape(answer["above"], size) == (np.array(answer["logits"]).reshape(size) > 1.5)).all()
    assert np.allclose(np.reshape(answer["alpha"], size), 255 / (1 + np.exp(1.5 - expected)), atol=0.51)
