"""`nnunet-uhf convert folders|ibsr|malc|freesurfer|bids` on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.tiny_data import write_image
from nnunet_uhf.cli import main

VERBS = ("folders", "ibsr", "malc", "freesurfer", "bids")


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def malc(root: Path) -> Path:
    for case in ("1000_3", "1001_3"):
        labels = np.zeros((6, 6, 6), dtype=np.int16)
        labels[1:3], labels[3:5] = 44, 45
        write_image(root / f"{case}.nii.gz", labels + np.arange(6, dtype=np.int16), np.eye(4))
        write_image(root / f"{case}_glm.nii.gz", labels, np.eye(4))
    return root


@pytest.mark.parametrize("verb", VERBS)
def test_every_converter_shows_an_example_of_itself(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert run("convert", verb, "--help") == 0
    assert f"nnunet-uhf convert {verb} -i" in capsys.readouterr().out.split("Example:")[1]


def test_a_conversion_says_what_it_wrote_and_warns_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "Dataset112_MALC"
    assert run("convert", "malc", "-i", malc(tmp_path / "in"), "-o", output, "--test", "1001_3") == 0
    said = capsys.readouterr()
    assert said.out == f"wrote {output}\n"
    assert "warning: the labels tell left from right" in said.err
    assert (output / "labelsTs" / "1001_3.nii.gz").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Missing command"),
        (("malt",), "No such command 'malt'"),
        (("bids", "-i", "nowhere", "-o", "Dataset114_X", "--contrast", "T1w", "FLAIR"), "nowhere is not a folder"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_mistake_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = malc(tmp_path / "in")
    (source / "1000_3_glm.nii.gz").unlink()
    assert run("convert", "malc", "-i", source, "-o", tmp_path / "raw" / "Dataset112_MALC") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "raw").exists()
