"""Faster second implementations of the networks in `masklet.models`, with the same numbers, for processors."""
