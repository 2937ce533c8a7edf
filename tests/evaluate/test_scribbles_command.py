"""`masklet eval scribbles` on made videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.synthetic_truth import late, store_video
from masklet import SAM
from masklet.cli.main import run


def test_the_command_shows_figures_keeps_what_was_done_and_refuses_other_options(
    tmp_path: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    for name in ("ant", "bee"):
        store_video(tmp_path / "DAVIS", f"480p/{name}", late()[::2], annotated=range(3))
    out = tmp_path / "out.json"
    words = ["eval", "scribbles", "--root", str(tmp_path / "DAVIS"), "--interactions", "2", "--report", str(out)]
    broken = tmp_path / "DAVIS" / "Annotations" / "480p" / "bee" / "00001.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"not an image")
    assert ran(words) == 2
    assert "ant robot: J&F" in capsys.readouterr().out
    [first] = json.loads(out.read_text())["rows"]
    broken.write_bytes(whole)
    assert ran([*words[:-4], "--interactions", "3", *words[-2:]]) == 2
    assert "interactions" in capsys.readouterr().err
    assert ran(words) == 0
    output = capsys.readouterr()
    assert "Scribbles has none of ant, bee" in output.err
    assert "2 samples of 2 sequences, 2 begun by the robot" in output.out
    stored = json.loads(out.read_text())
    assert list(stored)[:3] == ["protocol", "model", "options"]
    assert stored["rows"][0] == first  # its seconds too: it was not measured again
    assert [one["sequence"] for one in stored["rows"]] == ["ant", "bee"]
    assert len(stored["curve"]) == 4
    assert f"AUC {stored['figures']['auc']:.3f}" in output.out


def ran(words: list[str]) -> int:
    with pytest.raises(SystemExit) as left:
        run(words)
    assert isinstance(left.value.code, int)
    return left.value.code
