"""The options of a command line in the order they were typed, which the parser of the command line does not keep."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Parameter", "Word", "in_order", "spellings"]


class Parameter(Protocol):
    """What is used of a parameter of a command; `opts` are the spellings of an option, longest habit last."""

    opts: list[str]
    param_type_name: str


@dataclass(frozen=True)
class Word:
    """One option that takes a value, by its long name, and the value."""

    option: str
    value: str


def spellings(parameters: Iterable[Parameter]) -> dict[str, str | None]:
    """Every spelling of every option: the long name of those that take a value, None for the others.

    Example:
        >>> spellings(context.command.params)["-p"]
        '--point'
    """
    found: dict[str, str | None] = {}
    for parameter in parameters:
        if parameter.param_type_name == "option":
            long = max(parameter.opts, key=len)
            takes = not getattr(parameter, "is_flag", False) and not getattr(parameter, "count", False)
            found |= dict.fromkeys(parameter.opts, long if takes else None)
    return found


def in_order(args: Sequence[str], names: Mapping[str, str | None]) -> list[Word]:
    """The options among `args` that take a value, in order; `args` have been accepted by the parser already.

    Example:
        >>> in_order(["clip.mp4", "--object=2", "-p", "5,5"], {"--object": "--object", "-p": "--point"})
        [Word(option='--object', value='2'), Word(option='--point', value='5,5')]
    """
    words: list[Word] = []
    rest = deque(args)
    while rest:
        arg = rest.popleft()
        if arg == "--":
            break
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            long = names.get(name)
            if long is not None:
                words.append(Word(long, value if equals else rest.popleft()))
        elif arg.startswith("-"):
            words.extend(_short(arg[1:], rest, names))
    return words


def _short(letters: str, rest: deque[str], names: Mapping[str, str | None]) -> list[Word]:
    """`-qp 5,5` and `-p5,5`: flags, then perhaps one option with its value."""
    for i, letter in enumerate(letters):
        long = names.get(f"-{letter}")
        if long is not None:
            return [Word(long, letters[i + 1 :] or rest.popleft())]
    return []
