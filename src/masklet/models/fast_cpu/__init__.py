"""Faster second implementations of the networks, for inference on a CPU, with the same numbers.

The seams, one per verb; `README.md` in this folder has the derivations and a table of files:

- `encoder.fast_encoder` for `encode_image`;
- `sam2.FastSAM2` for all verbs of a tracked frame: `condition_on_memory`, `decode` without prompts, `encode_memory`;
- `shared_prompts.make_shared_context` for `decode` with points and boxes about one image.
"""
