"""docs/audit.md: its files are written and its commands run, as a reader would."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import ROOT

from pipeline.__main__ import main

TEXT = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the reader works."""
    code = next(block for kind, block in BLOCKS if kind == "python" and block.startswith("# my_network.py"))
    (tmp_path / "my_network.py").write_text(code)
    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> int:
    assert words[:3] == ["python", "-m", "pipeline"]
    monkeypatch.setattr(sys, "argv", ["pipeline", *words[3:]])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_commands_do_what_the_text_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    assert len(TEXT.splitlines()) < 80
    assert [run(monkeypatch, words) for words in COMMANDS] == [0, 1, 0]
    said = " ".join(capsys.readouterr().out.split())
    assert "Time enters at 1 site by addition before group normalisation." in said
    assert "with one group per channel (G = C) nothing would" in said
    assert "Told: the loss is" in said and "Inferred: " in said
    assert (folder / "audit.html").is_file()
    assert json.loads((folder / "audit.json").read_text())["sites"][0]["survival"] > 0


def test_the_python_runs(folder: Path, capsys: pytest.CaptureFixture):
    code = next(block for kind, block in BLOCKS if kind == "python" and "conclude" in block)
    exec(compile(code, "docs/audit.md", "exec"), {})  # noqa: S102 - the tutorial's own
    assert "Time enters at 1 site" in capsys.readouterr().out
