"""Rows of a batch as one Parquet table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.cheap_stages import BrightPixels, make_images
from masklet.scale.items import ItemSource
from masklet.scale.merge_batch import merge_batch
from masklet.scale.run_batch import run_batch

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_rows_are_one_table_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.scale.merge_batch.PARQUET_ROWS", 2)
    source = ItemSource([make_images(tmp_path / "in", 5)])
    list(run_batch(source, BrightPixels(), tmp_path / "out"))
    summary = merge_batch(tmp_path / "out", "parquet")
    rows = parquet.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    assert summary.objects == 5
    assert [row["item"] for row in rows] == [item.name for item in source]
    [expected] = BrightPixels()({"path": [str(tmp_path / "in" / "00003.png")]})["masks"]
    assert rows[3]["masks"] == expected
    assert json.loads(rows[3]["masks"][0])["size"] == [24, 32]


def test_embeddings_are_lists_of_float32(tmp_path: Path) -> None:
    def embed(batch):  # type: ignore[no-untyped-def]
        count = len(batch["item"])
        return {
            "item": batch["item"],
            "embedding": [np.arange(4, dtype=np.float32) / 3] * count,
            "shape": [[4]] * count,
            "error": [""] * count,
        }

    list(run_batch(ItemSource([make_images(tmp_path / "in", 3)]), embed, tmp_path / "out"))
    merge_batch(tmp_path / "out", "parquet")
    table = parquet.read_table(tmp_path / "out" / "rows.parquet")
    assert str(table.schema.field("embedding").type) in ("list<element: float>", "list<item: float>")
    assert np.array_equal(table["embedding"][2].as_py(), np.arange(4, dtype=np.float32) / 3)
