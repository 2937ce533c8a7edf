"""Text prompts: how they are split into phrases, and which tokens belong to each phrase."""

from __future__ import annotations

import pytest

from masklet.detect.huggingface import split_phrases, token_phrase_ids
from masklet.errors import InputError


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("a dog. a leash.", ("a dog", "a leash")),
        ("dog", ("dog",)),
        (" a  big dog .. . Leash", ("a big dog", "Leash")),
        ("a dog. A dog. a cat", ("A dog", "a cat")),
        ("a dog\na cat", ("a dog", "a cat")),
    ],
)
def test_phrases_are_ended_by_full_stops(text: str, phrases: tuple[str, ...]) -> None:
    assert split_phrases(text) == phrases


def test_a_text_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="names nothing"):
        split_phrases(" . \n.")


def test_tokens_belong_to_the_phrase_between_full_stops() -> None:
    assert token_phrase_ids([1, 7, 8, 5, 9, 5, 2], separator_id=5, special_ids=[1, 2]) == [-1, 0, 0, -1, 1, -1, -1]
