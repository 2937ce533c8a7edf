"""From the words of `masklet track` to what is said about each object on each frame. The grammar, in full:

    --object ID          the prompts that follow are about object ID, until the next --object (first: 1)
    --frame N            the prompts that follow hold for frame N, until the next --frame (first: 0)
    --point X,Y          a point on the object; X,Y,0 or --negative X,Y: a point off it; several add up
    --box X1,Y1,X2,Y2    a box around the object, one an object and frame
    --mask FILE          a rough mask of it, one an object and frame

So the order of these words is what counts: `--point 5,5 --object 2 --frame 40 --box 0,0,9,9` is a point on object 1
of frame 0, and a box around object 2 of frame 40.

The options of a command line in the order they were typed, which the parser of the command line does not keep.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

from masklet.cli.segment_prompts import Clicks, parse_box, read_masks
from masklet.errors import PromptError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "PROMPT_OPTIONS",
    "OptionToken",
    "Parameter",
    "PromptSpec",
    "PromptSpecDict",
    "option_spellings",
    "parse_track_prompts",
    "tokenize_options",
]


class Parameter(Protocol):
    """What is used of a parameter of a command; `opts` are the spellings of an option, longest habit last."""

    opts: list[str]
    param_type_name: str


@dataclass(frozen=True)
class OptionToken:
    """One option that takes a value, by its long name, and the value."""

    option: str
    value: str


def option_spellings(parameters: Iterable[Parameter]) -> dict[str, str | None]:
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


def tokenize_options(args: Sequence[str], long_names: Mapping[str, str | None]) -> list[OptionToken]:
    """The options among `args` that take a value, in order; `args` have been accepted by the parser already.

    Example:
        >>> in_order(["clip.mp4", "--object=2", "-p", "5,5"], {"--object": "--object", "-p": "--point"})
        [Word(option='--object', value='2'), Word(option='--point', value='5,5')]
    """
    words: list[OptionToken] = []
    rest = deque(args)
    while rest:
        arg = rest.popleft()
        if arg == "--":
            break
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            long = long_names.get(name)
            if long is not None:
                words.append(OptionToken(long, value if equals else rest.popleft()))
        elif arg.startswith("-"):
            words.extend(_tokenize_short(arg[1:], rest, long_names))
    return words


def _tokenize_short(letters: str, rest: deque[str], long_names: Mapping[str, str | None]) -> list[OptionToken]:
    """`-qp 5,5` and `-p5,5`: flags, then perhaps one option with its value."""
    for i, letter in enumerate(letters):
        long = long_names.get(f"-{letter}")
        if long is not None:
            return [OptionToken(long, letters[i + 1 :] or rest.popleft())]
    return []


PROMPT_OPTIONS = ("--object", "--frame", "--point", "--negative", "--box", "--mask")
MAX_INT = 2**31 - 1
EXAMPLE = "--point 210,350, --box 300,0,500,400 or --mask mask.png"


class PromptSpecDict(TypedDict):
    """As `Said`, in JSON; a mask by its hash."""

    object: int
    frame: int
    points: list[list[float]]
    labels: list[int]
    box: list[float] | None
    mask: str | None


@dataclass(frozen=True)
class PromptSpec:
    """What is said about one object on one frame: pixels of the original frame, labels 1 on it and 0 off it."""

    object_id: int
    frame_idx: int
    points: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: list[float] | None = None
    mask: npt.NDArray[np.bool_] | None = None

    def to_dict(self) -> PromptSpecDict:
        """To compare one command line with another.

        Example:
            >>> Said(1, 0, box=[0.0, 0.0, 9.0, 9.0]).doc()["box"]
            [0.0, 0.0, 9.0, 9.0]
        """
        mask = None if self.mask is None else hashlib.sha256(repr(self.mask.shape).encode() + self.mask.tobytes())
        digest = None if mask is None else mask.hexdigest()[:16]
        return {
            "object": self.object_id,
            "frame": self.frame_idx,
            "points": self.points,
            "labels": self.labels,
            "box": self.box,
            "mask": digest,
        }


@dataclass
class _ObjectPrompts:
    clicks: Clicks = field(default_factory=Clicks)
    box: list[float] | None = None
    mask: npt.NDArray[np.bool_] | None = None


def parse_track_prompts(tokens: Iterable[OptionToken]) -> tuple[PromptSpec, ...]:
    """What the words mean; the grammar is that of this module, other words are passed over.

    Example:
        >>> say([Word("--point", "5,5"), Word("--object", "2"), Word("--box", "0,0,9,9")])[1].object
        2

    Raises:
        PromptError: nothing to follow, words that are no numbers, or what cannot be meant together.
        SourceError: a mask that is no image.
    """
    speaker = _PromptParser()
    for word in tokens:
        if word.option in PROMPT_OPTIONS:
            speaker.feed(word)
    return speaker.finish()


class _PromptParser:
    """Where the words stand, and what they have said so far."""

    def __init__(self) -> None:
        self.object_id, self.frame_idx = 1, 0
        self.pending: dict[str, OptionToken] = {}
        self.prompts: dict[tuple[int, int], _ObjectPrompts] = {}

    def feed(self, token: OptionToken) -> None:
        if token.option in ("--object", "--frame"):
            self._reject_dangling(self.pending.get(token.option))
            self.pending[token.option] = token
            setattr(self, token.option[2:], _parse_int(token))
            return
        self.pending.clear()
        cues = self.prompts.setdefault((self.object_id, self.frame_idx), _ObjectPrompts())
        if token.option in ("--point", "--negative"):
            cues.clicks.add(token.value, 0 if token.option == "--negative" else None, token.option)
        elif token.option == "--box":
            self._reject_duplicate(cues.box, "box", token)
            cues.box = parse_box(token.value)
        else:
            self._reject_duplicate(cues.mask, "mask", token)
            cues.mask = read_masks([Path(token.value)])[0]

    def finish(self) -> tuple[PromptSpec, ...]:
        for word in self.pending.values():
            self._reject_dangling(word)
        if not self.prompts:
            raise PromptError(f"nothing says what to follow; give {EXAMPLE} (pixels of the original frame)")
        for (number, frame), cues in self.prompts.items():
            if cues.box is None and cues.mask is None and 1 not in cues.clicks.labels:
                raise PromptError(
                    f"only negative points say what object {number} is not on frame {frame}; add --point X,Y on it, "
                    "a --box or a --mask"
                )
        return tuple(
            PromptSpec(number, frame, cues.clicks.xy, cues.clicks.labels, cues.box, cues.mask)
            for (number, frame), cues in self.prompts.items()
        )

    def _reject_dangling(self, token: OptionToken | None) -> None:
        if token is not None:
            raise PromptError(
                f"nothing is said after {token.option} {token.value}: it is about the prompts that follow it, so write "
                f"{token.option} {token.value} --point X,Y, or leave it out"
            )

    def _reject_duplicate(self, existing: object, prompt_type: str, token: OptionToken) -> None:
        if existing is not None:
            raise PromptError(
                f"{token.option} {token.value} is a second {prompt_type} of object {self.object_id} on frame {self.frame_idx}, and "  # noqa: E501
                f"one {prompt_type} is one object; write --object {self.object_id + 1} before it"
            )


def _parse_int(token: OptionToken) -> int:
    text = token.value.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > MAX_INT:
        raise PromptError(
            f"{token.option} {token.value!r} must be a whole number from 0 to {MAX_INT}, such as {token.option} 2"
        )
    return int(text)
