"""Training: one visible loop (`loop.py`), a run is a value (`recipes.py`), everything it did is resumable.

Example:
    masklet train --data stills/ --out runs/first
"""
