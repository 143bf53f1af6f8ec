from __future__ import annotations

import datetime
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from nnunet_uhf.demo.chain import build_stages
from nnunet_uhf.demo.pictures import Panels, SubjectPicture, draw
from nnunet_uhf.demo.pipeline import run_demo
from nnunet_uhf.demo.report import command_lines, render_demo
from nnunet_uhf.demo.scores import IMAGE_ROWS, DemoScores, DiceScore, ImageScore, dice_table, image_table, read_scores
from nnunet_uhf.demo.settings import (
    KEEPER,
    MODEL_TRAINERS,
    MODELS,
    NAMES,
    PAIRS,
    TISSUES_DATASET,
    DemoSettings,
    Folders,
)
from nnunet_uhf.demo.subjects import make_subject
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.label_scores import MEAN

SETTINGS = DemoSettings(configurations=("3d_fullres", "2d"))
CONFIGURATIONS = SETTINGS.configurations
INIT = {"plans": {}, "configuration": "2d", "fold": 0, "dataset_json": {}}
MADE_IMAGE = {"input": (21.5, 0.71), "prediction": (24.25, 0.83), "teacher": (31.0, 0.95)}


def made_scores() -> DemoScores:
    images = [ImageScore(c, row, *values) for c in CONFIGURATIONS for row, values in MADE_IMAGE.items()]
    dice = [
        DiceScore(model, configuration, {"CSF": 61.5, "GM": 72.5, "WM": 83.5}, 72.5, None if model == "plain" else 1.25)
        for configuration in CONFIGURATIONS
        for model in MODELS
    ]
    curves = {configuration: {model: [10.0, 40.0, 52.5] for model in MODELS} for configuration in CONFIGURATIONS}
    return DemoScores(images, dice, curves, 2, 4)


def made_picture() -> SubjectPicture:
    subject = make_subject("phantom_14", seed=1, shape=(32, 40, 32), spacing_mm=5.5)
    labels = subject.labels.astype(np.float32)
    panels = Panels(subject.image, subject.image, subject.image, labels, dict.fromkeys(NAMES, labels), subject.affine)
    return SubjectPicture("phantom_14", draw(panels), 21.0, 0.7, 24.0, 0.8)


def page(out: Path) -> str:
    stages = build_stages(SETTINGS, Folders(out), device="cpu", epochs_of=lambda _: 1)
    return render_demo(
        settings=SETTINGS,
        scores=made_scores(),
        pictures=[made_picture()],
        commands=command_lines(stages, settings=SETTINGS, folders=Folders(out)),
        seconds=540.0,
        device="cpu",
        date=datetime.date(2030, 1, 2),
    )


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "data:image/png;base64," in text
    for attribute in ("src", "href"):
        for value in re.findall(rf'{attribute}="([^"]*)"', text):
            assert value.startswith(("data:", "#", "compare/"))
    assert "url(" not in text
    assert "<script" not in text


def test_the_page_says_that_it_shows_phantoms_and_is_no_evidence(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "phantom" in text
    assert "not evidence" in text
    assert "McGill University" in text


def test_the_page_holds_every_number(tmp_path: Path) -> None:
    text = page(tmp_path)
    for number in ("21.50", "0.710", "24.25", "31.00", "61.5", "72.5", "83.5"):
        assert number in text
    assert "phantom_14" in text


def test_the_commands_of_the_page_name_no_folder_of_this_computer(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert str(tmp_path) not in text
    assert "nnUNet_n_proc_DA=0 nnUNet_UHF_SEED=0 nnUNetv2_train 2 3d_fullres 0 -tr UHFTrainer_demo" in text


def test_the_commands_are_a_script_that_has_every_step_and_every_setting(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    stages = build_stages(SETTINGS, folders, device="cpu", epochs_of=lambda _: 1)
    lines = command_lines(stages, settings=SETTINGS, folders=folders)
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
    for configuration in CONFIGURATIONS:
        model = folders.model(PAIRS, SETTINGS.trainer(KEEPER), configuration)
        validation = model.path / "fold_0" / "validation"
        validation.mkdir(parents=True)
        (validation / "summary.json").write_text(json.dumps({"metric_per_case": [{}, {}], "mean": mean}))
    for configuration in CONFIGURATIONS:
        rows = [
            {"entry": name, "structure": structure, "metric": "dice", "mean": base + 0.1 * number}
            for number, name in enumerate(NAMES.values())
            for structure, base in (("CSF", 0.25), ("GM", 0.5), ("WM", 0.75), (MEAN, 0.5))
        ]
        folders.comparison(configuration).mkdir(parents=True)
        (folders.comparison(configuration) / "compare.json").write_text(json.dumps({"summaries": rows}))
        for trainer in MODEL_TRAINERS.values():
            fold = folders.model(TISSUES_DATASET, SETTINGS.trainer(trainer), configuration).path / "fold_0"
            fold.mkdir(parents=True)
            content = {
                "logging": {"ema_fg_dice": [0.25, 0.5]},
                "network_weights": {},
                "init_args": INIT,
                "trainer_name": trainer,
            }
            torch.save(content, fold / "checkpoint_final.pth")
    scores = read_scores(SETTINGS, folders)
    assert scores.validation_cases == 2
    assert [score.psnr for score in scores.images[:3]] == [21.5, 24.25, 31.0]
    assert scores.dice[0].tissues == {"CSF": 25.0, "GM": 50.0, "WM": 75.0}
    assert (scores.dice[0].mean, scores.dice[0].difference) == (50.0, None)
    assert scores.dice[2].difference == pytest.approx(20.0)
    assert scores.curves["2d"]["guided"] == [25.0, 50.0]


def test_a_missing_summary_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UHFError, match=r"summary\.json"):
        read_scores(SETTINGS, Folders(tmp_path))
