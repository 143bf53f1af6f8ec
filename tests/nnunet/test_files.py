from __future__ import annotations

from pathlib import Path

import pytest

from helpers.workspace import environment
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.files import dataset_name, read_json, root_folder


def test_what_is_no_json_object_is_refused_in_one_line_with_the_advice(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    with pytest.raises(UHFError, match=r"plans\.json does not exist; plan again"):
        read_json(path, advice="plan again")
    for content, problem in ((b"{", "not valid JSON"), (b"\xff", "not valid JSON"), (b"[1]", "not a JSON object")):
        path.write_bytes(content)
        with pytest.raises(UHFError, match=f"{problem}.*; plan again"):
            read_json(path, advice="plan again")
    path.write_text('{"a": 1}')
    assert read_json(path, advice="plan again") == {"a": 1}


def test_datasets_and_folders_that_are_not_there_are_named(tmp_path: Path) -> None:
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    (tmp_path / "Dataset007_Brains").mkdir()
    with environment(**dict.fromkeys(names, str(tmp_path))):
        assert root_folder("nnUNet_raw") == tmp_path
        assert dataset_name(7) == dataset_name("007") == dataset_name("Dataset007_Brains") == "Dataset007_Brains"
        for dataset in (8, "brains"):
            with pytest.raises(UHFError, match=f"no dataset {dataset}"):
                dataset_name(dataset)
    with environment(nnUNet_raw=None), pytest.raises(UHFError, match="nnUNet_raw is not set"):
        root_folder("nnUNet_raw")
