"""Single values of a run's config, as they are typed: `losses.focal=10`, `augment.flip=0`, `stages.0.steps=500`."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from masklet.errors import InputError

__all__ = ["with_settings"]

Config = TypeVar("Config")


def with_settings(config: Config, settings: Iterable[str]) -> Config:
    """The config with these values instead.

    A name is a way through the config, part by part; `stage` stands for every stage.

    Example:
        >>> with_settings(finetune("builtin", "builtin", steps=9, size=288), ["losses.focal=10", "stage.frames=4"])

    Raises:
        InputError: a name that is no field, or a value of another kind.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"setting {setting!r} must be NAME=VALUE, such as losses.focal=10")
        config = _changed(config, name.strip().split("."), _value(text.strip()), setting)
    return config


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _changed(part: Any, way: list[str], value: object, setting: str) -> Any:
    name, rest = way[0], way[1:]
    if isinstance(part, tuple):
        return _changed_in(part, name, rest, value, setting)
    known = [field.name for field in fields(part)] if is_dataclass(part) else []
    if name == "stage" and rest and "stages" in known:
        return replace(part, stages=tuple(_changed(stage, rest, value, setting) for stage in part.stages))
    if name not in known:
        raise InputError(f"setting {setting!r}: there is no {name!r}; choose among {', '.join(known) or 'nothing'}")
    before = getattr(part, name)
    return replace(part, **{name: _changed(before, rest, value, setting) if rest else _fitting(before, value, setting)})


def _changed_in(part: tuple[Any, ...], name: str, rest: list[str], value: object, setting: str) -> Any:
    if not name.isdecimal() or int(name) >= len(part):
        raise InputError(f"setting {setting!r}: {name!r} must be a number below {len(part)}")
    own = int(name)
    changed = _changed(part[own], rest, value, setting) if rest else _fitting(part[own], value, setting)
    return (*part[:own], changed, *part[own + 1 :])


def _fitting(before: object, value: object, setting: str) -> object:
    """The value as the kind of the one it replaces."""
    if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(before, tuple) and isinstance(value, list):
        return tuple(value)
    if is_dataclass(before) or (before is not None and type(value) is not type(before)):
        raise InputError(f"setting {setting!r}: the value must be of the kind of {before!r}")
    return value
