"""What must hold before a raw nnU-Net dataset is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.label_maps import label_values
from nnunet_uhf.imageio.nifti import require_distinct
from nnunet_uhf.imageio.opening import require_file
from nnunet_uhf.imageio.output import require_free

DATASET_NAME = re.compile(r"(Dataset\d{3})_\S+")
Files = Mapping[str, Path]


def check_dataset_folder(output: Path, label_names: Mapping[str, int]) -> None:
    """UHFError unless nnU-Net takes the folder's name and the labels, and the folder is free."""
    _check_name(output)
    _check_label_names(label_names, output)
    require_free(output)


def names_of(channels: Mapping[str, Files]) -> set[str]:
    """Names of all cases that any channel has."""
    return set().union(*channels.values())


def _check_name(output: Path) -> None:
    """nnU-Net finds datasets by a three-digit number that only one folder may have."""
    match = DATASET_NAME.fullmatch(output.name)
    if match is None:
        raise UHFError(f"{output.name} is no nnU-Net dataset name: use DatasetXXX_NAME with three digits")
    if output.parent.is_dir():
        for other in sorted(output.parent.glob(f"{match[1]}_*")):
            if other.name != output.name:
                raise UHFError(f"{output.parent} already holds {other.name}: choose another dataset number")


def _check_label_names(label_names: Mapping[str, int], output: Path) -> None:
    """nnU-Net wants `background` = 0 and consecutive values."""
    if label_names.get("background") != 0:
        raise UHFError(f"the labels of {output.name} lack background = 0: add it to the label names")
    if sorted(label_names.values()) != list(range(len(label_names))):
        raise UHFError(
            f"the label values of {output.name} are {sorted(label_names.values())}: number them 0, 1, 2, ..."
        )


def check_cases(
    channels: Mapping[str, Files],
    labels: Files,
    test_channels: Mapping[str, Files],
    test_labels: Files,
    output: Path,
) -> None:
    """UHFError unless every channel and the labels name the same cases, each with its own existing file."""
    if not labels or not channels:
        raise UHFError(f"no cases are given for {output.name}: name at least one image with its label map")
    if test_channels and list(test_channels) != list(channels):
        raise UHFError(f"test and training cases of {output.name} have other channels: give both the same")
    named = {**{f"channel {name}": files for name, files in channels.items()}, "labels": labels}
    tests = {f"test channel {name}": files for name, files in test_channels.items()}
    every_case, test_cases = names_of(named), names_of(tests)
    for cases, files_of in ((every_case, named), (test_cases, tests)):
        for what, files in files_of.items():
            missing = sorted(cases - set(files))
            if missing:
                raise UHFError(f"{what} of {output.name} lacks case {missing[0]} ({len(missing)} in all): add the file")
    unpaired = sorted(set(test_labels) - test_cases)
    if unpaired:
        raise UHFError(f"test case {unpaired[0]} of {output.name} has labels but no image: add the image")
    both = sorted(test_cases & every_case)
    if both:
        raise UHFError(f"case {both[0]} is a training and a test case of {output.name}: keep it in one")
    check_case_names([*every_case, *test_cases])
    everything = {**named, **tests, "test labels": test_labels}
    all_files = {f"{case} ({what})": path for what, files in everything.items() for case, path in files.items()}
    for path in all_files.values():
        require_file(path)
    require_distinct({name: path for name, path in all_files.items() if "labels" not in name})


def check_case_names(cases: list[str]) -> None:
    """UHFError for a case name that cannot be a file name on every disk, or is another one but for capitals."""
    lowered: dict[str, str] = {}
    for case in cases:
        if not case or case != case.strip() or set(case) & set("/\\"):
            raise UHFError(f"{case!r} cannot be a case name: use letters, digits, - and _")
        other = lowered.setdefault(case.lower(), case)
        if other != case:  # one file on disks that ignore case
            raise UHFError(f"cases {other} and {case} differ in capitals only: rename one")


def check_label_map(path: Path, values: set[int]) -> None:
    """UHFError unless a label map holds whole numbers that have a name."""
    unknown = [value for value in label_values(path) if value not in values]
    if unknown:
        raise UHFError(f"{path} holds label {unknown[0]}, which has no name: add it to the label names")
