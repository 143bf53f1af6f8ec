"""Which files a raw dataset's cases consist of, and what its conversion said of the cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import ENDINGS
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.preprocessing.datasets.write import RECORD_NAME


@dataclass(frozen=True)
class CaseFiles:
    """Where the images of a case, channel by channel, and its label map lie."""

    case: str
    images: tuple[Path, ...]
    label: Path


def find_cases(folder: Path, description: Mapping[str, Any]) -> list[CaseFiles]:
    """The training cases of a raw dataset as nnU-Net finds them, sorted by name.

    Raises:
        UHFError: there are none, their files are no NIfTI, or too few are listed.
    """
    where = folder / "dataset.json"
    ending = description.get("file_ending")
    if ending not in ENDINGS:
        raise UHFError(f"{where} has file_ending {ending!r}: pictures need {' or '.join(ENDINGS)}")
    channels = len(channel_names(description, where=where))
    if "dataset" in description:
        from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

        listed = get_filenames_of_train_images_and_targets(str(folder), dict(description))
        for case, files in listed.items():
            if len(files["images"]) < channels:
                raise UHFError(f"{where} lists too few images of case {case}: name one a channel")
        return [
            CaseFiles(case, tuple(Path(image) for image in files["images"]), Path(files["label"]))
            for case, files in sorted(listed.items())
        ]
    images, suffix = folder / "imagesTr", f"_0000{ending}"
    cases = sorted(path.name.removesuffix(suffix) for path in images.glob(f"*{suffix}") if path.name[0] != ".")
    if not cases:
        raise UHFError(f"{images} holds no file that ends in {suffix}: add the cases")
    return [
        CaseFiles(
            case,
            tuple(images / f"{case}_{channel:04d}{ending}" for channel in range(channels)),
            folder / "labelsTr" / f"{case}{ending}",
        )
        for case in cases
    ]


def recorded_alignment(folder: Path) -> dict[str, list[str]]:
    """What `convert paired` measured, as sentences by case, those that want a look behind the first; {} without it.

    Raises:
        UHFError: conversion.json is damaged.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return {}
    advice = "convert again, or delete it to draw without it"
    record = read_json(path, advice=advice)
    if record.get("converter") != "paired":
        return {}
    try:
        found = {}
        for case, entry in record["cases"].items():
            alignment = entry["alignment"]
            mean, p95 = float(alignment["outline_mm"]), float(alignment["outline_p95_mm"])
            reasons = [str(reason) for reason in alignment["reasons"]]
            found[str(case)] = [f"outlines {mean:.1f} mm apart (95 %: {p95:.1f} mm)", *reasons]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UHFError(f"{path} is not what convert paired writes: {advice}") from error
    return found
