"""`python -m masklet` is the same as `masklet`: the command line, or one line that says which package it needs."""

import os
import signal
import sys

from masklet.errors import MissingExtraError


def main() -> None:
    """Run the command line of the process."""
    if os.getpid() == 1:  # of a container: the kernel ignores SIGTERM there until it is handled, and docker waits 10 s
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        from masklet.cli.main import run
    except ModuleNotFoundError as error:
        missing = MissingExtraError.for_module(error)
        if missing is None:
            raise
        sys.exit(f"masklet: {missing}")
    run()


if __name__ == "__main__":
    main()
