"""What importing masklet costs and shows."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import masklet
from masklet.errors import MissingExtraError

MODULES = [m.name for m in pkgutil.walk_packages(masklet.__path__, "masklet.") if not m.name.endswith("__main__")]


def test_importing_masklet_touches_nothing_heavy() -> None:
    code = "import sys, masklet; print(*[m for m in ('torch', 'numpy', 'cv2', 'PIL', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_wrong_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match="SAM"):
        masklet.Sam  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_sorted_and_there(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    public = getattr(module, "__all__", [])
    in_order = sorted(public, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert public == in_order
    assert all(getattr(module, n) is not None for n in public)
