"""Names of classes as a format can hold them, so that what is written can be read."""

from __future__ import annotations

import re

__all__ = ["one_line", "plain"]

_UNSPEAKABLE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def plain(text: str) -> str:
    """`text` without the characters that XML has no way to write.

    Example:
        >>> plain("a\\x00b")
        'ab'
    """
    return _UNSPEAKABLE.sub("", text)


def one_line(text: str) -> str:
    """`text` without breaks, for lists with a name a line.

    Example:
        >>> one_line("traffic\\nlight")
        'traffic light'
    """
    return " ".join(text.split())
