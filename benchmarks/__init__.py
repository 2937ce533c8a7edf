"""Compare masklet with other programs: `python -m benchmarks` in a checkout; no part of the package."""
