"""Where pictures come from: `open_source` turns every way to name pictures into one iterator."""

from __future__ import annotations

from masklet.media.pictures import Picture
from masklet.media.sources import PICTURE_SUFFIXES, Pictures, Source, open_source

__all__ = ["PICTURE_SUFFIXES", "Picture", "Pictures", "Source", "open_source"]
