"""Everything masklet raises on purpose.

    MaskletError
    ├── InputError (also ValueError)      an argument is invalid
    │   ├── PromptError                   points, labels, boxes or masks
    │   ├── ProjectError                  a project folder that is damaged, foreign or of a newer version
    │   └── SourceError                   an image, folder, URL or array that cannot be read
    ├── ModelError
    │   ├── UnknownModelError             a name that is in no table
    │   ├── CheckpointError               a file that is not the expected network
    │   └── DownloadError                 a published file that could not be downloaded
    ├── OutputError (also OSError)        a result that could not be written
    ├── StateError (also RuntimeError)    methods called in an invalid order
    └── MissingExtraError (also ImportError)  an optional package is not installed

    MaskletWarning (UserWarning)          something was done differently than requested

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
    "ProjectError",
    "PromptError",
    "SourceError",
    "StateError",
    "UnknownModelError",
]


LIGHT_DEPENDENCIES = ("filelock", "jinja2", "rich", "safetensors", "typer")
"""Packages that a complete installation has, and one for exported models alone need not."""


class MaskletError(Exception):
    """The base class of all errors that masklet raises on purpose."""


class InputError(MaskletError, ValueError):
    """An argument is invalid."""


class PromptError(InputError):
    """Points, labels, boxes or masks are malformed, or do not fit the image."""


class ProjectError(InputError):
    """A project folder cannot be opened: it is missing, damaged, of another program, or of a newer version."""


class SourceError(InputError):
    """An image, folder, URL or array cannot be read as images."""


class ModelError(MaskletError):
    """A model cannot be opened."""


class UnknownModelError(ModelError):
    """A name is neither a known model nor a file."""


class CheckpointError(ModelError):
    """A file is not the expected network."""


class DownloadError(ModelError):
    """A published file could not be downloaded completely."""


class OutputError(MaskletError, OSError):
    """A result could not be written."""


class StateError(MaskletError, RuntimeError):
    """Methods are called in an invalid order, such as `predict` before `set_image`."""


class MissingExtraError(MaskletError, ImportError):
    """An optional package is not installed.

    Example:
        >>> str(MissingExtraError.for_package("pandas", "table"))
        "pandas is not installed; it comes with the extra 'table': pip install 'masklet[table]'"
    """

    @classmethod
    def for_package(cls, package: str, extra: str) -> MissingExtraError:
        """Make the error for `package`, which comes with masklet's extra `extra`."""
        return cls(f"{package} is not installed; it comes with the extra '{extra}': pip install 'masklet[{extra}]'")

    @classmethod
    def for_module(cls, error: ModuleNotFoundError) -> MissingExtraError | None:
        """Make the error for a module that a complete installation has; None: it is none of these.

        Example:
            >>> str(MissingExtraError.for_module(ModuleNotFoundError("", name="filelock")))
            'filelock is not installed, and this needs it: pip install filelock'
        """
        if error.name == "torch":
            return cls(
                "PyTorch is not installed, and this needs it: pip install torch, or export a model where PyTorch is "
                "(masklet export MODEL --out DIR) and open the folder, which needs none"
            )
        if error.name in LIGHT_DEPENDENCIES:
            return cls(f"{error.name} is not installed, and this needs it: pip install {error.name}")
        return None


class MaskletWarning(UserWarning):
    """Something was done differently than requested; the message says how much."""
