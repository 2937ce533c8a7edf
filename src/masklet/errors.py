"""Everything masklet raises on purpose.

    MaskletError
    ├── InputError (also ValueError)      what the caller handed in cannot be meant
    │   ├── PromptError                   points, labels, boxes or masks
    │   └── SourceError                   an image, folder, URL or array that cannot be read
    ├── ModelError
    │   ├── UnknownModelError             a name that is in no table
    │   ├── CheckpointError               a file that is not the network it should be
    │   └── DownloadError                 a published file that could not be fetched
    ├── OutputError (also OSError)        a result that could not be written
    ├── StateError (also RuntimeError)    verbs called in an order that has no meaning
    └── MissingExtraError (also ImportError)  an optional package is not installed

    MaskletWarning (UserWarning)          something was done, but not quite what was asked

Every message holds three things: the value, what was allowed, and the remedy.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "DownloadError",
    "InputError",
    "MaskletError",
    "MaskletWarning",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "PromptError",
    "SourceError",
    "StateError",
    "UnknownModelError",
]


class MaskletError(Exception):
    """Root of the tree: `except MaskletError` catches every mistake masklet can name."""


class InputError(MaskletError, ValueError):
    """What the caller handed in cannot be meant."""


class PromptError(InputError):
    """Points, labels, boxes or masks that do not describe an object in this image."""


class SourceError(InputError):
    """An image, folder, URL or array that cannot be read as images."""


class ModelError(MaskletError):
    """A model that cannot be had."""


class UnknownModelError(ModelError):
    """A name that is neither a known model nor a file."""


class CheckpointError(ModelError):
    """A file that does not hold the network it should."""


class DownloadError(ModelError):
    """A published file that could not be fetched whole."""


class OutputError(MaskletError, OSError):
    """A result that could not be written."""


class StateError(MaskletError, RuntimeError):
    """Verbs called in an order that has no meaning, such as `predict` before `set_image`."""


class MissingExtraError(MaskletError, ImportError):
    """An optional package is not installed.

    Example:
        >>> str(MissingExtraError.of("pandas", "table"))
        "pandas is not installed; it comes with the extra 'table': pip install 'masklet[table]'"
    """

    @classmethod
    def for_package(cls, package: str, extra: str) -> MissingExtraError:
        """The error for `package`, which the extra `extra` of masklet brings."""
        return cls(f"{package} is not installed; it comes with the extra '{extra}': pip install 'masklet[{extra}]'")


class MaskletWarning(UserWarning):
    """Something was done, but not quite what was asked; the message says how far off."""
