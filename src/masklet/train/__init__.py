"""Train SAM 2: one visible loop (`loop.py`), a run is a frozen value (`config.py`), every run can be resumed.

Example:
    masklet train --data images/ --out runs/first --epochs 20
"""
