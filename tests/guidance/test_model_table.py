"""`nnunet-uhf inspect MODEL_FOLDER`: what a guided model says of its guidance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.guided_runs import model_folder, use_keeper
from helpers.support import fit, only_line, tiny_trainer
from helpers.workspace import Workspace, environment
from nnunet_uhf.cli import main
from nnunet_uhf.trainers import UHFTrainerZeroGuide, nnUNetTrainerSeeded


def run(*words: str | Path) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert left.value.code in (0, None)


def test_inspect_shows_seed_rate_and_loudness_of_every_fold(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keeper(tmp_path, 2)
    dataset = nnunet.dataset("single")
    with environment(nnUNet_UHF_SEED="7"):
        trainer = fit(tiny_trainer(UHFTrainerZeroGuide, dataset, "2d"))
    folder = model_folder(nnunet.results, UHFTrainerZeroGuide, dataset, "2d")
    capsys.readouterr()
    run("inspect", folder, "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["folds"] == [{"fold": "0", "epochs": 1, "seed": 7, "loudness": trainer.loudness}]
    assert (facts["control"], facts["fusion_rate"]) == ("zero", 3e-3)
    assert facts["origin"] == "random weights, seed 0: it has learnt nothing"
    run("inspect", folder)
    table = " ".join(capsys.readouterr().out.split())
    assert "maps are replaced by zeros" in table
    assert "it comes from │ random weights" in table
    assert f"{trainer.loudness[0]:.3f}" in table


def test_a_plain_model_has_no_guidance_to_inspect(nnunet: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = nnunet.dataset("single")
    with environment(nnUNet_UHF_SEED="7"):
        fit(tiny_trainer(nnUNetTrainerSeeded, dataset, "2d"))
    folder = model_folder(nnunet.results, nnUNetTrainerSeeded, dataset, "2d")
    capsys.readouterr()
    assert "there is no guidance to inspect" in only_line(capsys, lambda: main(["inspect", str(folder)]))
