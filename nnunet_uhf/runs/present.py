"""Whether nnU-Net has planned, preprocessed or segmented what it was given, from the files that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.files import read_json, root_folder, stated_settings

Kind = TypeVar("Kind")


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
    # nnU-Net writes the properties of a case last
    return len(list(folder.glob("*.pkl"))) >= _entry(dataset, "numTraining", int)


def is_segmented(images: Path, predictions: Path, dataset: str) -> bool:
    """Whether there are as many segmentations as cases; the last of a killed command may be half written.

    Raises:
        UHFError: no dataset.json.
    """
    ending = _entry(dataset, "file_ending", str)
    cases = {path.name.removesuffix(ending).rpartition("_")[0] for path in images.glob(f"*{ending}")}
    return len(list(predictions.glob(f"*{ending}"))) >= max(len(cases), 1)


def _entry(dataset: str, name: str, kind: type[Kind]) -> Kind:
    """What the raw dataset.json says."""
    path = root_folder("nnUNet_raw") / dataset / "dataset.json"
    found = read_json(path, advice="restore the raw dataset").get(name)
    if not isinstance(found, kind):
        raise UHFError(f"{path} lacks {name}; write it again")
    return found
