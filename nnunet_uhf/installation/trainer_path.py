"""Tells nnU-Net where the trainers of this package are, through its variable ``nnUNet_extTrainer``.

This module is imported whenever Python starts in an environment with nnunet-uhf: nothing but ``os`` in here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

PATHS_VARIABLE = "nnUNet_extTrainer"
OPT_OUT_VARIABLE = "nnUNet_UHF_AUTOREGISTER"


def trainer_path() -> str:
    """Return the absolute path of the folder in which nnU-Net finds the trainers."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.join(package, "discovery")


def is_registered(environ: Mapping[str, str]) -> bool:
    """Say whether ``nnUNet_extTrainer`` of `environ` has the folder of :func:`trainer_path`."""
    own = os.path.normcase(trainer_path())
    folders = [folder.strip() for folder in environ.get(PATHS_VARIABLE, "").split(os.pathsep)]
    return any(os.path.normcase(os.path.abspath(folder)) == own for folder in folders if folder)


def opted_out(environ: Mapping[str, str]) -> bool:
    """Say whether the user wants no registration at start-up: ``nnUNet_UHF_AUTOREGISTER=0``."""
    return environ.get(OPT_OUT_VARIABLE, "").strip().lower() in {"0", "false", "no", "off"}


def add_trainers(environ: MutableMapping[str, str]) -> None:
    """Append the trainer folder to ``nnUNet_extTrainer`` of `environ`, once, unless the user opted out.

    The user's own folders stay in front, so that their trainers win where two have the same name.
    """
    if opted_out(environ) or is_registered(environ):
        return
    folders = environ.get(PATHS_VARIABLE, "")
    environ[PATHS_VARIABLE] = f"{folders}{os.pathsep}{trainer_path()}" if folders.strip() else trainer_path()
