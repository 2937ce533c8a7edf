"""What people see while they wait: only on a terminal, only when it takes a moment."""

from __future__ import annotations

import warnings

import pytest

from masklet.cli import console
from masklet.cli.console import loading_progress, one_line_warnings, print_error, progress_bar
from masklet.errors import MaskletWarning


def test_nothing_moves_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with loading_progress("sam2_t.pt") as progress:
        assert progress is None
    with progress_bar("images", 2, enabled=True) as step:
        step()
    assert capsys.readouterr() == ("", "")


def test_a_download_shows_its_bytes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with loading_progress("sam2_t.pt") as progress:
        assert progress is not None
        progress(12_300_000, 155_900_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "downloading sam2_t.pt" in err
    assert "12.3 / 155.9 MB" in err


@pytest.mark.parametrize(("patience", "seen"), [(1e9, False), (-1.0, True)])
def test_many_images_are_counted_after_a_moment(
    patience: float, seen: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(console, "PROGRESS_DELAY_S", patience)
    with progress_bar("images", 3, enabled=True) as step:
        step()
        step()
    assert ("2/3" in capsys.readouterr().err) == seen


def test_a_failure_is_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("[bold]wrong[/] things:\n  a\n  b")
    assert capsys.readouterr().err == "masklet: [bold]wrong[/] things (--verbose tells more)\n"
    print_error("wrong things:\n  a", verbose=True)
    assert capsys.readouterr().err == "masklet: wrong things:\n  a\n"


def test_a_failure_is_red_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    print_error("x" * 300)
    assert capsys.readouterr().err == f"\x1b[31mmasklet: {'x' * 300}\x1b[0m\n"


def test_only_our_warnings_are_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: seen.append(str(message)))
    usual = warnings.showwarning
    with one_line_warnings():
        warnings.showwarning("of another library", UserWarning, "other.py", 7)
        warnings.showwarning("of ours", MaskletWarning, "ours.py", 7)
    assert warnings.showwarning is usual
    assert seen == ["of another library"]
    assert capsys.readouterr().err == "masklet: of ours\n"
