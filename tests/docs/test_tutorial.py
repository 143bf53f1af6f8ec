"""The tutorial notebook is run as it stands: its cells in order, in one namespace, in an empty folder."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest

from helpers.support import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "start" / "tutorial.ipynb"


def test_the_notebook_runs_and_holds_no_results_of_anybodys_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    namespace: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name} {cell['id']}", "exec"), namespace)
    assert (tmp_path / "comparison" / "index.html").is_file()
    assert "the same at the start: True" in capsys.readouterr().out
