"""Other programs, measured beside masklet."""
