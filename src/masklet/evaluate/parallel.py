"""Predictions of a benchmark in several processes, a film a task: the files are those of `masklet.evaluate.predicting`.

Each process is started afresh (spawned) and opens its own model once, when its first film comes. The threads of torch
are shared out among them. An error of one ends the run; the others stop at their next frame, and what is written stays,
to be gone on with.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import torch

from masklet.errors import InputError, StateError
from masklet.evaluate.films import Follows
from masklet.evaluate.predicting import NOTHING, Film, follow, predict, record
from masklet.evaluate.prompting import check_prompt

__all__ = ["predict_apart"]


def predict_apart(
    opener: Callable[[], Follows],
    films: Sequence[Film],
    out: str | Path,
    prompt: str = "mask",
    *,
    workers: int,
    name: str = "",
    options: Mapping[str, str | int] = NOTHING,
    step: Callable[[], None] | None = None,
) -> Path:
    """As `predict`, in `workers` processes, each with a model that `opener()` opens; of one film or worker in this one.

    `opener` is sent to the processes, so it is a function or class of a module, or a `functools.partial` of one; a
    script that calls this does so below `if __name__ == "__main__":`.

    Example:
        >>> predict_apart(SAM, films_of("davis17", "DAVIS"), "predictions", workers=4)
        PosixPath('predictions')

    Raises:
        InputError: no workers, or an unknown prompt.
        OutputError, SourceError, ModelError: as of `predict`, and whatever `opener` raises.
        StateError: a process was ended from outside.
    """
    if workers < 1:
        raise InputError(f"workers={workers} is too few; 1 or more processes are needed: leave it out for one")
    check_prompt(prompt)
    folder = Path(out).expanduser()
    left = [film for film in films if not film.is_there(folder)]
    if min(workers, len(left)) < 2:
        return predict(opener(), films, out, prompt, name=name, options=options, step=step)
    record(films, out, prompt, name, options)
    tell = step or (lambda: None)
    for _ in range(len(films) - len(left)):
        tell()
    _spread(opener, left, folder, prompt, min(workers, len(left)), tell)
    return folder


def _spread(
    opener: Callable[[], Follows], films: Sequence[Film], out: Path, prompt: str, workers: int, tell: Callable[[], None]
) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(workers, context, _begin, (opener, threads, stop)) as pool:
        try:
            for done in as_completed([pool.submit(_one, film, out, prompt) for film in films]):
                done.result()
                tell()
        except BrokenProcessPool as error:
            raise StateError(
                f"one of {workers} processes was ended from outside, as where memory is out; take fewer workers: what "
                "is written is gone on with"
            ) from error
        except BaseException:  # Ctrl-C too: the films at work end at their next frame, the others are not begun
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


@dataclass
class _Worker:
    """What a process keeps from film to film."""

    opener: Callable[[], Follows]
    stop: Event
    model: Follows | None = None

    def check(self) -> None:
        """KeyboardInterrupt when the run is over."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    def follow(self, film: Film, out: Path, prompt: str) -> None:
        self.check()
        if self.model is None:  # here and not when the process begins: its error comes out as it is
            self.model = self.opener()
        follow(self.model, film, out, prompt, each_frame=self.check)


_workers: list[_Worker] = []
"""In a process of the pool, its own one."""


def _begin(opener: Callable[[], Follows], threads: int, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; who started them tells them
    torch.set_num_threads(threads)
    _workers.append(_Worker(opener, stop))


def _one(film: Film, out: Path, prompt: str) -> None:
    _workers[-1].follow(film, out, prompt)
