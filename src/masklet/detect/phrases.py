"""What is looked for, in words."""

from __future__ import annotations

from collections.abc import Sequence

from masklet.errors import InputError

__all__ = ["phrases_of", "phrases_of_tokens"]

EXAMPLE = "text='a dog. a leash.'"


def phrases_of(text: str) -> tuple[str, ...]:
    """The phrases of a text, each ended by a full stop or a line's end; one that comes twice counts once.

    Example:
        >>> phrases_of("a dog. a leash.")
        ('a dog', 'a leash')

    Raises:
        InputError: a text without a phrase.
    """
    parts = (" ".join(part.split()) for line in text.splitlines() for part in line.split("."))
    phrases = tuple({part.casefold(): part for part in parts if part}.values())
    if not phrases:
        raise InputError(f"text {text!r} names nothing; write phrases ended by full stops: {EXAMPLE}")
    return phrases


def phrases_of_tokens(tokens: Sequence[int], stop: int, special: Sequence[int]) -> list[int]:
    """The number of the phrase each token belongs to, -1 for full stops and other special tokens.

    Example:
        >>> phrases_of_tokens([101, 7, 8, 1012, 9, 1012, 102], stop=1012, special=[101, 102])
        [-1, 0, 0, -1, 1, -1, -1]
    """
    phrase, found = 0, []
    for token in tokens:
        found.append(-1 if token == stop or token in special else phrase)
        phrase += token == stop
    return found
