"""Processes that write actions into a project and acknowledge each; the helper of the tests of `kill -9`.

python project_writer.py kill FOLDER COUNT SEED    write and be killed COUNT times, and check what is there
python project_writer.py write FOLDER NAME COUNT   write COUNT classes and end
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from masklet.projects import open_project


def write_until_killed(folder: Path, pipe: int) -> None:
    """Write masks and classes by turns, and the number of each revision to the pipe when the call has returned."""
    import numpy as np

    with open_project(folder) as project:
        mask = np.zeros((24, 32), bool)
        for number in range(100_000):
            if number % 2:
                mask.ravel()[: number % 700] = True
                project.set_mask(1, 0, mask)
            else:
                project.add_class(f"{os.getpid()}/{number}")
            os.write(pipe, f"{project.revision}\n".encode())


def kill_at_random(folder: Path, count: int, seed: int) -> None:
    """Fork a writer, kill it at a random moment, and check that all it acknowledged is there; `count` times."""
    rng, total = random.Random(seed), 0
    for _ in range(count):
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            os.close(read_end)
            write_until_killed(folder, write_end)
        os.close(write_end)
        acknowledged = os.read(read_end, 16)  # it is at work
        time.sleep(rng.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while chunk := os.read(read_end, 1 << 16):
            acknowledged += chunk
        os.close(read_end)
        last = int(acknowledged.rstrip(b"\n").split(b"\n")[-1]) if acknowledged.endswith(b"\n") else -1
        with open_project(folder, create=False) as project:
            names = [cls.name for cls in project.classes if cls.name.startswith(f"{child}/")]
            assert project.revision >= last > 0, f"{last} was acknowledged, {project.revision} is there"
            assert project.database.query("PRAGMA integrity_check") == [("ok",)]
            assert names == [f"{child}/{2 * number}" for number in range(len(names))]
            number = len(project.changes_since(project.revision - 1))
            assert number >= 1
        total += len(names)
    print(total)


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        kill_at_random(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        with open_project(sys.argv[2], author=sys.argv[3]) as writer:
            for index in range(int(sys.argv[4])):
                writer.add_class(f"{sys.argv[3]} {index}")
