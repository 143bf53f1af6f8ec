"""What a new layout of labelled scans costs: one function that reads its tree, and a verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import nibabel as nib
import numpy as np
import pytest
import typer
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from typer.testing import CliRunner

from helpers.tiny_data import write_image
from helpers.workspace import threaded_pools
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.labelled.label_table import LabelTable
from nnunet_uhf.preprocessing.labelled.scans import (
    DEFAULTS,
    Conversion,
    ConversionOptions,
    LabelledScan,
    leave_out_incomplete,
    write_labelled_scans,
)
from nnunet_uhf.preprocessing.labelled.tree import require_folder

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def convert_toy(source: Path, output: Path, *, options: ConversionOptions = DEFAULTS) -> Conversion:
    """A layout nobody has: SUBJECT/scan.nii.gz and SUBJECT/drawn.nii.gz, fluid 7 and tissue 9."""
    require_folder(source)
    scans: dict[str, LabelledScan] = {}
    problems: dict[str, str] = {}
    for subject in sorted(source.iterdir()):
        drawn = subject / "drawn.nii.gz"
        if drawn.is_file():
            scans[subject.name] = LabelledScan({"PD": subject / "scan.nii.gz"}, drawn)
        else:
            problems[subject.name] = f"{subject} has no drawn.nii.gz"
    warnings = leave_out_incomplete(problems, options, layout="toy", found=len(scans))
    table = LabelTable(("fluid", "tissue"), {7: "fluid", 9: "tissue"}).overruled(options.mapping)
    return write_labelled_scans(output, layout="toy", scans=scans, table=table, options=options, warnings=warnings)


def toy(
    source: Annotated[Path, typer.Option("-i")],
    output: Annotated[Path, typer.Option("-o")],
    test: Annotated[list[str] | None, typer.Option("--test")] = None,
) -> None:
    """The verb of the layout."""
    convert_toy(source, output, options=ConversionOptions(test=test or ()))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three subjects of the toy layout."""
    drawn = np.zeros((6, 7, 8), np.uint8)
    drawn[1:3], drawn[3:5] = 7, 9
    for name in ("ada", "bob", "cy"):
        write_image(tmp_path / "toy" / name / "scan.nii.gz", drawn + np.arange(8, dtype=np.uint8), AFFINE)
        write_image(tmp_path / "toy" / name / "drawn.nii.gz", drawn, AFFINE)
    return tmp_path / "toy"


def test_a_new_layout_is_a_function_that_reads_its_tree_and_a_verb(tree: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("toy")(toy)
    dataset = tmp_path / "Dataset115_Toy"
    done = CliRunner().invoke(app, ["-i", str(tree), "-o", str(dataset), "--test", "cy"], catch_exceptions=False)
    assert done.exit_code == 0
    with threaded_pools():
        verify_dataset_integrity(str(dataset), num_processes=1)
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "PD"}
    assert description["labels"] == {"background": 0, "fluid": 1, "tissue": 2}
    assert json.loads((dataset / "conversion.json").read_text())["layout"] == "toy"
    assert np.unique(nib.load(dataset / "labelsTs" / "cy.nii.gz").get_fdata()).tolist() == [0, 1, 2]


def test_a_new_layout_has_what_every_layout_has(tree: Path, tmp_path: Path) -> None:
    (tree / "bob" / "drawn.nii.gz").unlink()
    with pytest.raises(UHFError, match=r"bob has no drawn\.nii\.gz: add it, or leave such cases out"):
        convert_toy(tree, tmp_path / "Dataset115_Toy")
    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"9": "fluid"}')
    options = ConversionOptions(skip_incomplete=True, mapping=mapping)
    done = convert_toy(tree, tmp_path / "Dataset115_Toy", options=options)
    assert done.warnings[0].startswith("left out bob")
    assert "no case holds tissue" in done.warnings
