"""A demo's page without its trainings: made numbers, and one phantom for pictures."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np

from nnunet_uhf.demo.chain import build_stages
from nnunet_uhf.demo.pictures import Panels, SubjectPicture, draw
from nnunet_uhf.demo.report import command_lines, render_demo
from nnunet_uhf.demo.scores import DemoScores, DiceScore, ImageScore
from nnunet_uhf.demo.settings import MODELS, NAMES, DemoSettings, Folders
from nnunet_uhf.demo.subjects import make_subject

DEMO = DemoSettings(configurations=("3d_fullres", "2d"))
MADE_IMAGE = {"input": (21.5, 0.71), "prediction": (24.25, 0.83), "teacher": (31.0, 0.95)}


def made_scores() -> DemoScores:
    """Numbers of a finished demo."""
    images = [ImageScore(c, row, *values) for c in DEMO.configurations for row, values in MADE_IMAGE.items()]
    dice = [
        DiceScore(model, configuration, {"CSF": 61.5, "GM": 72.5, "WM": 83.5}, 72.5, None if model == "plain" else 1.25)
        for configuration in DEMO.configurations
        for model in MODELS
    ]
    curves = {configuration: {model: [10.0, 40.0, 52.5] for model in MODELS} for configuration in DEMO.configurations}
    return DemoScores(images, dice, curves, 2, 4)


def made_picture() -> SubjectPicture:
    """Pictures of one held-out phantom."""
    subject = make_subject("phantom_14", seed=1, shape=(32, 40, 32), spacing_mm=5.5)
    labels = subject.labels.astype(np.float32)
    panels = Panels(subject.image, subject.image, subject.image, labels, dict.fromkeys(NAMES, labels), subject.affine)
    return SubjectPicture("phantom_14", draw(panels), 21.0, 0.7, 24.0, 0.8)


def demo_page(out: Path) -> str:
    """The page of a demo in that folder."""
    stages = build_stages(DEMO, Folders(out), device="cpu", epochs_of=lambda _: 1)
    return render_demo(
        settings=DEMO,
        scores=made_scores(),
        pictures=[made_picture()],
        commands=command_lines(stages, settings=DEMO, folders=Folders(out)),
        seconds=540.0,
        device="cpu",
        date=datetime.date(2030, 1, 2),
    )
