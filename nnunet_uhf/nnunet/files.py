"""nnU-Net's folders, dataset names and JSON files, with errors a user can act on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import MatchError, UHFError

PLAN_FIRST = "run nnUNetv2_plan_and_preprocess first, or name other plans (-p)"
READERS = ("SimpleITKIO", "NibabelIO")
"""nnU-Net's readers that give arrays as stored: (z, y, x), in the order of the file's axes (x, y, z)."""


def root_folder(variable: str) -> Path:
    """The folder that one of nnU-Net's three variables names; UHFError when it is not set."""
    folder = os.environ.get(variable)
    if not folder:
        raise UHFError(f"{variable} is not set: export {variable}=FOLDER, as for nnU-Net itself")
    return Path(folder)


def dataset_name(dataset: str | int) -> str:
    """Return the full name of a dataset given by id or name.

    Raises:
        UHFError: there is none, or more than one.
    """
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    try:
        return str(maybe_convert_to_dataset_name(dataset))
    except (RuntimeError, ValueError):
        raise UHFError(
            f"There is no dataset {dataset}, or more than one of that id, in nnUNet_raw, nnUNet_preprocessed and "
            "nnUNet_results. Give its id or its full name."
        ) from None


def read_json(path: Path, *, advice: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UHFError: the file is missing, unreadable, or holds no object; the line ends with the advice.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UHFError(f"{path} does not exist; {advice}") from None
    except (OSError, ValueError) as error:  # ValueError: neither JSON nor text
        problem = error.strerror if isinstance(error, OSError) else "not valid JSON"
        raise UHFError(f"{path} is not readable ({problem}); {advice}") from None
    if not isinstance(content, dict):
        raise UHFError(f"{path} is not a JSON object; {advice}")
    return content


def stated_settings(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """What plans of whatever origin state of a configuration, inheritance resolved, for reports: nothing is built.

    Raises:
        KeyError, TypeError, ValueError: no such configuration, or plans that are not as nnU-Net writes them.
    """
    chain: list[Mapping[str, Any]] = []
    name: str | None = configuration
    while name is not None:
        entry = plans["configurations"][name]
        if not isinstance(entry, Mapping) or len(chain) > len(plans["configurations"]):
            raise ValueError(f"configuration {name!r}")
        chain.append(entry)
        name = entry.get("inherits_from")
    return {key: value for entry in reversed(chain) for key, value in entry.items()}


def configuration_settings(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Return a configuration's settings with nnU-Net's inheritance resolved (a copy).

    Raises:
        MatchError: the plans have no such configuration.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    if configuration not in plans["configurations"]:
        available = ", ".join(plans["configurations"])
        raise MatchError(
            f"Plans {plans['plans_name']} have no configuration {configuration!r}. Choose among: {available}"
        )
    settings: dict[str, Any] = PlansManager(dict(plans)).get_configuration(configuration).configuration
    return settings
