"""The table of `benchmarks/input_check.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from helpers.known_keepers import knowing, save, scan
from helpers.support import REPOSITORY, run_command


def test_the_table_tells_own_cases_from_new_ones_and_has_a_line_for_every_kind(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    keeper = knowing(tmp_path / "keeper", 3, training_cases=["0", "1"], validation_cases=["2"])
    for seed in range(5):
        save(tmp_path / "images" / f"{seed}.nii.gz", scan(seed))
    save(tmp_path / "other" / "x.nii.gz", scan(9).max() - scan(9))
    script = REPOSITORY / "benchmarks" / "input_check.py"
    options = ["--keeper", keeper, "--images", tmp_path / "images", "--changed", "1"]
    done = run_command([Path(sys.executable).name, script, *options, "--other", f"inverted={tmp_path / 'other'}"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    assert [row[:2] for row in rows[:2]] == [
        ["held-out subjects of the keeper", "1"],
        ["subjects that are new to it", "2"],
    ]
    assert rows[0][3:] == ["1", "0", "0"]
    assert len(rows) == 11
    assert rows[-1][0] == "inverted"
    assert rows[-1][3] == "0"
