"""MkDocs hook: links from a page to a file outside docs/ point at that file in the repository."""

from __future__ import annotations

import re
from typing import Any

SOURCE = "https://github.com/masklet/masklet/blob/main/"
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:src|tests|benchmarks|scripts|README|CONTRIBUTING|CHANGELOG)[^)]*)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return OUTSIDE.sub(rf"]({SOURCE}\1)", markdown)
