"""Prompt encoder, two-way transformer and mask decoder, shared by SAM 1 and SAM 2."""
