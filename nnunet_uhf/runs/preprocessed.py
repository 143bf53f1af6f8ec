"""Whether nnU-Net has planned and preprocessed a dataset, from the files that are there."""

from __future__ import annotations

from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.files import read_json, root_folder, stated_settings


def plans_file(dataset: str, plans: str) -> Path:
    """Where the plans of a dataset are."""
    return root_folder("nnUNet_preprocessed") / dataset / f"{plans}.json"


def is_preprocessed(dataset: str, plans: str, configuration: str) -> bool:
    """Whether every case of a dataset is preprocessed for a configuration.

    Raises:
        UHFError: plans that are damaged, or that lack the configuration.
    """
    path = plans_file(dataset, plans)
    if not path.is_file():
        return False
    try:
        identifier = stated_settings(read_json(path, advice="plan again"), configuration)["data_identifier"]
    except (KeyError, TypeError, ValueError):
        raise UHFError(f"{path} has no configuration {configuration}: name another (-c), or plan again") from None
    folder = path.parent / str(identifier)
    raw = read_json(root_folder("nnUNet_raw") / dataset / "dataset.json", advice="restore the raw dataset")
    if not isinstance(raw.get("numTraining"), int):
        raise UHFError(f"{root_folder('nnUNet_raw') / dataset / 'dataset.json'} lacks numTraining; write it again")
    # nnU-Net writes the properties of a case last
    return len(list(folder.glob("*.pkl"))) >= raw["numTraining"]
