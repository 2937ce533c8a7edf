"""A plugin of pytest for the processes of xdist: each folder's tests run in a fork, and what they import goes with it.

A process that runs tests keeps what they import, cache and leave behind until it ends: 32 MB of pandas, 67 of
`torch._dynamo`, threads of OpenVINO. Here a process of xdist imports the test files and then only forks: a fork runs
consecutive tests of one folder, with its own session-scoped fixtures, answers with their reports and ends; after a
file that made it large (`GROWN`), another fork goes on. As the process of xdist itself runs no test, all forks start
alike, from a process whose only other thread waits for commands.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import pytest

TESTS = Path(__file__).parents[1]
GROWN = 96e6
"""Bytes that a fork may grow by: then the file that it runs is its last."""
Events = list[tuple[str, dict[str, Any]]]


def can_fork(config: pytest.Config) -> bool:
    """In a process of xdist, on Linux: elsewhere the libraries of the system do not survive a fork."""
    return sys.platform == "linux" and hasattr(config, "workerinput")


class FolderProcesses:
    """In the process of xdist: has each item run in the fork of its folder, and passes on what the fork reports."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.fork: Fork | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        self.fork = self.fork or start(item.session)
        last = True
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            events, last = self.fork.run(item, nextitem)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            why = f"The process that ran it ended with {self.end_fork()}."
            report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
            item.ihook.pytest_runtest_logreport(report=report)
        else:
            self.pass_on(item, events)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if last:
            self.end_fork()
        return True

    def pass_on(self, item: pytest.Item, events: Events) -> None:
        for kind, content in events:
            if kind == "warning":
                self.config.hook.pytest_warning_recorded.call_historic(kwargs=content)
            else:
                report = self.config.hook.pytest_report_from_serializable(config=self.config, data=content)
                item.ihook.pytest_runtest_logreport(report=report)

    def pytest_sessionfinish(self) -> None:
        self.end_fork()

    def end_fork(self) -> str:
        if self.fork is None:
            return "nothing"
        ended, self.fork = self.fork.end(), None
        return ended


class Fork(NamedTuple):
    """A forked process, seen from the one of xdist."""

    process: int
    positions: dict[pytest.Item, int]
    commands: BinaryIO
    answers: BinaryIO

    def run(self, item: pytest.Item, following: pytest.Item | None) -> tuple[Events, bool]:
        """What is to be reported of the item, and whether it was the fork's last."""
        pickle.dump((self.positions[item], following and self.positions[following]), self.commands)
        self.commands.flush()
        answer: tuple[Events, bool] = pickle.load(self.answers)
        return answer

    def end(self) -> str:
        with contextlib.suppress(BrokenPipeError):
            self.commands.close()
        self.answers.close()
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        return signal.Signals(-code).name if code < 0 else f"status {code}"


def folder(item: pytest.Item) -> str:
    """What a fork runs: a folder in tests/, or a file beside the folders."""
    return item.path.relative_to(TESTS).parts[0]


def start(session: pytest.Session) -> Fork:
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # emptied when made: once, not by each
    import cv2

    cv2.setNumThreads(1)  # ends the threads that a test file's import started: a fork would wait for them
    commands, commands_end = os.pipe()
    answers_end, answers = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is multi-threaded, use of fork", DeprecationWarning)  # xdist's waits
        process = os.fork()
    if process == 0:
        os.close(commands_end)
        os.close(answers_end)
        run_items(session, os.fdopen(commands, "rb"), os.fdopen(answers, "wb"))
    os.close(commands)
    os.close(answers)
    positions = {item: position for position, item in enumerate(session.items)}
    return Fork(process, positions, os.fdopen(commands_end, "wb"), os.fdopen(answers_end, "rb"))


def run_items(session: pytest.Session, commands: BinaryIO, answers: BinaryIO) -> NoReturn:
    """In the fork: run items until the process of xdist names no more."""
    code = 1
    try:
        plugins = session.config.pluginmanager
        for plugin in plugins.get_plugins():
            if isinstance(plugin, FolderProcesses) or type(plugin).__name__ == "WorkerInteractor":
                plugins.unregister(plugin)
        recorder = Recorder(session.config)
        plugins.register(recorder)
        recorder.events.clear()  # warnings of the process of xdist, which a new plugin gets
        before = own_bytes()
        while command := read(commands):
            item, following = (None if position is None else session.items[position] for position in command)
            if following and (
                folder(following) != folder(item) or (following.path != item.path and own_bytes() > before + GROWN)
            ):
                following = None  # with nothing that follows, pytest tears all fixtures down
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            pickle.dump((recorder.events, following is None), answers)
            answers.flush()
            recorder.events.clear()
        code = 0
    finally:
        os._exit(code)  # the rest of the run is not the fork's


def own_bytes() -> int:
    _, resident, of_files, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(of_files)) * os.sysconf("SC_PAGE_SIZE")


def read(commands: BinaryIO) -> tuple[int, int | None] | None:
    try:
        command: tuple[int, int | None] = pickle.load(commands)
    except EOFError:
        return None
    return command


class Recorder:
    """In the fork: keeps what the process of xdist is to pass on."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.events: Events = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        content = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.events.append(("report", content))

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str, location: Any) -> None:
        warning_message.source = None  # what was not closed, say: it is no text
        content = {"warning_message": warning_message, "when": when, "nodeid": nodeid, "location": location}
        self.events.append(("warning", content))
