"""The examples in docstrings of modules that need no model, file or network."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ("compat", "masks", "prompts", "results", "writers", "media", "datasets", "synthetic", "projects")
MODULES = ("atomic_files", "errors", "resume_store", "worker_pool")
SCALE = (
    "batch_manifest", "item_files", "items", "leases", "merge_batch", "read_ahead", "redact_urls", "shards", "storage",
    "webdataset",
)  # fmt: skip


def module_names() -> list[str]:
    names = [f"masklet.{name}" for name in (*PACKAGES, *MODULES, *(f"scale.{name}" for name in SCALE))]
    for package in PACKAGES:
        path = importlib.import_module(f"masklet.{package}").__path__
        names += [info.name for info in pkgutil.walk_packages(path, f"masklet.{package}.")]
    return sorted(names)


@pytest.mark.parametrize("name", module_names())
def test_docstring_examples_give_what_they_show(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0
