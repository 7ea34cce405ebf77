"""The command of scripts/maml.py: table, files, exit code."""

import json
import sys
from pathlib import Path

import pytest

from w2v_inf.maml import command


def test_the_command_prints_a_table_and_writes_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--updates 4 --validations 2 --tasks 20 --seeds 2 --widths 2 8".split()
    monkeypatch.setattr(sys, "argv", ["maml.py", *small, "--out", str(tmp_path / "new")])
    command.main()
    printed = capsys.readouterr().out
    assert "width 2 " in printed and f"{tmp_path}/new/maml.png\n" in printed
    saved = json.loads((tmp_path / "new" / "maml.json").read_text())
    assert saved["options"]["widths"] == [2, 8] and saved["images"] == "planted"
    assert {*saved["percent_by_seed"]} == {"linear kernel", "width 2", "width 8", "muP limit"}
    assert (tmp_path / "new" / "maml.svg").stat().st_size > 1000


def test_a_mistake_ends_the_command_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["maml.py", "--images", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        command.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "not found: get it" in error and error.count("\n") == 1
