from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from rich.console import Console

from helpers.demo_samples import DEMO, MADE_IMAGE, demo_page, made_scores
from nnunet_uhf.demo.chain import build_stages
from nnunet_uhf.demo.pipeline import run_demo
from nnunet_uhf.demo.report import command_lines
from nnunet_uhf.demo.scores import IMAGE_ROWS, dice_table, image_table, read_scores
from nnunet_uhf.demo.settings import (
    KEEPER,
    MODEL_TRAINERS,
    NAMES,
    PAIRS,
    TISSUES_DATASET,
    Folders,
)
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.label_scores import MEAN

INIT = {"plans": {}, "configuration": "2d", "fold": 0, "dataset_json": {}}


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    text = demo_page(tmp_path)
    assert "data:image/png;base64," in text
    for attribute in ("src", "href"):
        for value in re.findall(rf'{attribute}="([^"]*)"', text):
            assert value.startswith(("data:", "#", "compare/"))
    assert "url(" not in text
    assert "<script" not in text


def test_the_page_says_that_it_shows_phantoms_and_is_no_evidence(tmp_path: Path) -> None:
    text = demo_page(tmp_path)
    assert "phantom" in text
    assert "not evidence" in text
    assert "McGill University" in text


def test_the_page_holds_every_number(tmp_path: Path) -> None:
    text = demo_page(tmp_path)
    for number in ("21.50", "0.710", "24.25", "31.00", "61.5", "72.5", "83.5"):
        assert number in text
    assert "phantom_14" in text


def test_the_commands_of_the_page_name_no_folder_of_this_computer(tmp_path: Path) -> None:
    text = demo_page(tmp_path)
    assert str(tmp_path) not in text
    assert "nnUNet_n_proc_DA=0 nnUNet_UHF_SEED=0 nnUNetv2_train 2 3d_fullres 0 -tr UHFTrainer_demo" in text


def test_the_commands_are_a_script_that_has_every_step_and_every_setting(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    stages = build_stages(DEMO, folders, device="cpu", epochs_of=lambda _: 1)
    lines = command_lines(stages, settings=DEMO, folders=folders)
    checked = subprocess.run(["bash", "-n"], input="\n".join(lines), text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert 'export nnUNet_raw="$PWD/nnUNet_raw"' in lines
    assert "nnunet-uhf demo --out . -c 2d 3d_fullres --only datasets" in lines
    assert len([line for line in lines if not line.startswith(("export", "set", "mkdir", "cd"))]) == len(stages)


def test_a_stage_that_there_is_not_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UHFError, match="small_plans"):
        run_demo(out=tmp_path / "demo", only="dataset")
    assert not (tmp_path / "demo").exists()


def test_the_console_tables_show_every_number() -> None:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(image_table(made_scores()), dice_table(made_scores()))
    text = capture.get()
    for piece in ("21.50", "0.830", "31.00", "61.5", "83.5", "guided", "random", "+1.2", *IMAGE_ROWS.values()):
        assert piece in text


def test_scores_are_read_from_the_files_that_the_chain_writes(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    mean = {row: {"psnr": psnr, "ssim": ssim} for row, (psnr, ssim) in MADE_IMAGE.items()}
    for configuration in DEMO.configurations:
        model = folders.model(PAIRS, DEMO.trainer(KEEPER), configuration)
        validation = model.path / "fold_0" / "validation"
        validation.mkdir(parents=True)
        (validation / "summary.json").write_text(json.dumps({"metric_per_case": [{}, {}], "mean": mean}))
    for configuration in DEMO.configurations:
        rows = [
            {"entry": name, "structure": structure, "metric": "dice", "mean": base + 0.1 * number}
            for number, name in enumerate(NAMES.values())
            for structure, base in (("CSF", 0.25), ("GM", 0.5), ("WM", 0.75), (MEAN, 0.5))
        ]
        folders.comparison(configuration).mkdir(parents=True)
        (folders.comparison(configuration) / "compare.json").write_text(json.dumps({"summaries": rows}))
        for trainer in MODEL_TRAINERS.values():
            fold = folders.model(TISSUES_DATASET, DEMO.trainer(trainer), configuration).path / "fold_0"
            fold.mkdir(parents=True)
            content = {
                "logging": {"mean_fg_dice": [0.25, 0.5]},
                "network_weights": {},
                "init_args": INIT,
                "trainer_name": trainer,
            }
            torch.save(content, fold / "checkpoint_final.pth")
    scores = read_scores(DEMO, folders)
    assert scores.validation_cases == 2
    assert [score.psnr for score in scores.images[:3]] == [21.5, 24.25, 31.0]
    assert scores.dice[0].tissues == {"CSF": 25.0, "GM": 50.0, "WM": 75.0}
    assert (scores.dice[0].mean, scores.dice[0].difference) == (50.0, None)
    assert scores.dice[2].difference == pytest.approx(20.0)
    assert scores.curves["2d"]["guided"] == [25.0, 50.0]


def test_a_missing_summary_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UHFError, match=r"summary\.json"):
        read_scores(DEMO, Folders(tmp_path))
