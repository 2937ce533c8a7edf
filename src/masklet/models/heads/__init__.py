"""Prompt encoder and mask decoder, which SAM 1 and SAM 2 share."""
