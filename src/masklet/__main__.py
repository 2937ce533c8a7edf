"""`python -m masklet` is the same as `masklet`."""

from masklet.cli.main import run

run()
