"""The columns of stages as Arrow tables, with the same types whatever a batch holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from masklet.errors import MissingExtraError
from masklet.scale.stage_rows import OutputColumns

if TYPE_CHECKING:
    import pyarrow

__all__ = ["arrow_table"]


def arrow_table(columns: OutputColumns) -> pyarrow.Table:
    """Return the columns of a stage as a table; lists without objects have the types of the others.

    Example:
        >>> arrow_table({"item": ["a.jpg"], "boxes": [[]]}).schema.field("boxes").type  # doctest: +SKIP
        ListType(list<item: list<item: double>>)

    Raises:
        MissingExtraError: if pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("pyarrow", "parquet") from error
    text, whole, number = pa.string(), pa.int64(), pa.float64()
    types = {
        **dict.fromkeys(("item", "error", "seams"), text),
        **dict.fromkeys(("width", "height", "num_frames"), whole),
        **dict.fromkeys(("masks", "names"), pa.list_(text)),
        **dict.fromkeys(("ids", "classes", "frames", "shape"), pa.list_(whole)),
        "boxes": pa.list_(pa.list_(number)),
        "scores": pa.list_(number),
        "embedding": pa.list_(pa.float32()),
    }
    return pa.table({name: pa.array(cells, types.get(name)) for name, cells in columns.items()})
