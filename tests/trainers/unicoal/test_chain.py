"""From scans of two field strengths to a keeper: the whole way by commands, on made scans."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import (
    DatasetSpec,
    TinyDataset,
    case_affine,
    make_channel,
    make_labels,
    shrink_plans,
    write_image,
)
from helpers.workspace import environment, folders, threaded_pools
from nnunet_uhf.cli.run import main
from nnunet_uhf.keepers.file import read_header

CASES = ("anna", "bert", "carl")
SIZES = {"layers": 6, "max_channels": 16, "latent": 16, "image_features": 16}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    settings = {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}
    with environment(**folders(tmp_path, tmp_path / "results"), **settings):
        for name in ("raw", "preprocessed", "results"):
            (tmp_path / name).mkdir()
        yield tmp_path


def command(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code in (0, None)


def planned(root: Path, spec: DatasetSpec, plane: str | None = None) -> TinyDataset:
    """nnU-Net's plans of a raw dataset, cut down, and its preprocessed 2d data."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    dataset = TinyDataset(spec, root / "raw" / spec.name, root / "preprocessed" / spec.name)
    # planning hands nnUNet_n_proc_DA to torch.set_num_threads, which refuses the 0 that trainings want
    with environment(nnUNet_n_proc_DA="1"), threaded_pools(), redirect_stdout(io.StringIO()):
        api.extract_fingerprints([spec.number], num_processes=1, show_progress_bar=False)
        api.plan_experiments([spec.number], spec.planner)
        if plane is not None:
            command("plan", "-d", spec.number, "--plane", plane)
        dataset.write_plans(shrink_plans(dataset.plans()))
        api.preprocess([spec.number], spec.plans_name, ["2d"], num_processes=[1], show_progress_bar=False)
    dataset.hold_out("carl")
    return dataset


def test_the_whole_way_from_scans_of_two_field_strengths_to_a_keeper(root: Path) -> None:
    affine = case_affine((1.0, 1.0, 2.0), (34, 34, 12))
    lines = ["case,LF,HF,labels"]
    for number, case in enumerate(CASES):
        rng = np.random.default_rng(number)
        labels = make_labels((34, 34, 12), rng)
        paths = {name: root / "scans" / f"{case}_{name}.nii.gz" for name in ("LF", "HF", "labels")}
        for name, path in paths.items():
            write_image(path, labels if name == "labels" else make_channel(labels, name, rng), affine)
        lines.append(",".join([case, *map(str, paths.values())]))
    (root / "scans.csv").write_text("\n".join(lines))
    spec = DatasetSpec(541, "Fields", configurations=("2d",), plans_name="nnUNetPlans_axial")
    raw = root / "raw" / spec.name
    command(
        "convert", "modalities", "--csv", root / "scans.csv", "-o", raw, "--field", "LF=0.36", "HF=3",
        "--registration", "none", "--preset", "tiny", "--label-names", "CSF=1,GM=2,WM=3",
    )  # fmt: skip
    description = json.loads((raw / "dataset.json").read_text())
    description["uhf"]["architecture"].update(SIZES)
    description["uhf"]["thickness"] = {"ratio": [1, 2.5]}
    (raw / "dataset.json").write_text(json.dumps(description))
    dataset = planned(root, spec, "axial")
    fit(tiny_trainer("UniCOALTrainerNoAdversarial", dataset, "2d", iterations=2), validate=True)
    model = root / "unicoal.safetensors"
    command(
        "export-keeper", "-d", 541, "-c", "2d", "-f", 0, "-tr", "UniCOALTrainerNoAdversarial", "-p", spec.plans_name,
        "-o", model, "--accept-worse",
    )  # fmt: skip
    header = read_header(model)
    assert (header.network, header.route, header.feature_statistics) == ("unicoal", "unicoal", None)
    assert header.metrics["tasks"]["SR_x2_LF"].keys() >= {"psnr_brain", "input_psnr_brain"}

    # between slices, at a distance that is no whole part of theirs
    scan = root / "scans" / "carl_LF.nii.gz"
    command(
        "enhance", "-i", scan, "-o", root / "thin.nii.gz", "-m", model, "--to", "HF", "--from", "LF", "--spacing", 1.3,
        "-device", "cpu",
    )  # fmt: skip
    thin, before = nibabel.load(root / "thin.nii.gz"), nibabel.load(scan)
    assert thin.shape == (34, 34, int(11 * 2 / 1.3) + 1)
    np.testing.assert_allclose(np.abs(np.diag(thin.affine))[:3], [1, 1, 1.3], atol=1e-4)
    np.testing.assert_allclose(thin.affine[:3, 3], before.affine[:3, 3], atol=1e-4)
    values = thin.get_fdata()
    # usual intensities of HF
    assert 0 < np.median(values[values != 0]) < 200

    pairs = DatasetSpec(542, "Pairs", channels=("LF", "HF"), configurations=("2d",))
    command(
        "pseudo-pairs", "-d", 541, "-m", model, "--from", "LF", "--to", "HF", "--axis", "axial", "-o",
        root / "raw" / pairs.name, "-device", "cpu",
    )  # fmt: skip
    description = json.loads((root / "raw" / pairs.name / "dataset.json").read_text())
    assert description["uhf"]["made_by"]["training_cases"] == ["anna", "bert"]
    description["uhf"]["architecture"] = {"base_features": 4}
    (root / "raw" / pairs.name / "dataset.json").write_text(json.dumps(description))
    dataset = planned(root, pairs)
    with environment(nnUNet_UHF_ACCEPT_WORSE="1"):  # after so few steps
        for name in ("UHFTeacherTrainer", "UHFKeeperTrainer"):
            fit(tiny_trainer(name, dataset, "2d", iterations=2), validate=True)
    command("export-keeper", "-d", 542, "-c", "2d", "-f", 0, "-o", root / "keeper.safetensors", "--accept-worse")
    keeper = read_header(root / "keeper.safetensors")
    assert (keeper.route, keeper.channel, keeper.source_field_T, keeper.target_field_T) == ("unicoal", "LF", 0.36, 3.0)
    assert set(keeper.training_cases) >= {"anna", "bert"}
