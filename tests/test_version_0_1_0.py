"""Files that version 0.1.0 wrote go on loading, and mean what they meant; `fixtures/make_v0_1_0.py` made them."""

from __future__ import annotations

import csv
import json
import lzma
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from safetensors import safe_open
from safetensors.torch import load_file

from helpers.guided_runs import checkpoint
from helpers.support import fit, predict_folder, tiny_trainer
from helpers.tiny_data import TinyDataset, write_image
from helpers.workspace import Workspace, environment
from nnunet_uhf import trainers
from nnunet_uhf.cli import main

FIXTURES = Path(__file__).parent / "fixtures" / "v0_1_0"
KEEPERS = (
    "distilled_2d",
    "distilled_2d_format_1",
    "distilled_2d_format_2",
    "distilled_3d",
    "siqt_2d",
    "siqt_native_2d",
)
SEGMENTATION, PAIRS, HIGH_FIELD = "Dataset501_Tiny", "Dataset505_TinyPairs", "Dataset509_TinyHighField"
GUIDED = (
    "UHFTrainer_1epoch__reference__2d",
    "UHFTrainer_1epoch__reference__3d_fullres",
    "UHFTrainer_1epoch__efficient__2d",
    "UHFTrainerRandomKeeper_1epoch__nnUNetPlans__2d",
    "UHFTrainerEnhancedInput_1epoch__nnUNetPlans__2d",
)
KEEPER_MODELS = {
    f"{PAIRS}.UHFKeeperTrainer__nnUNetPlans__2d": "scan",
    f"{HIGH_FIELD}.SIQTTrainerMasksembles__nnUNetPlans__2d": "thick",
}
FINAL = "checkpoint_final.pth"
EVERY = 7  # values that the records keep of an array
# The same weights and the same arithmetic, in single precision: what remains is the order of sums in other versions of
# torch and on other processors. Images are in the target's units, around 100.
TOLERANCE = 1e-4
IMAGE_TOLERANCE = 1e-2


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the fixtures with everything unpacked."""
    folder = shutil.copytree(FIXTURES, tmp_path_factory.mktemp("old") / "v0_1_0")
    for path in folder.rglob("*.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    return folder


@pytest.fixture
def folders(old: Path, tmp_path: Path) -> Iterator[Path]:
    """nnU-Net's variables point at a copy of what 0.1.0 left; there are no raw images."""
    for name in ("results", "preprocessed"):
        shutil.copytree(old / name, tmp_path / name)
    places = {f"nnUNet_{name}": str(tmp_path / name) for name in ("results", "preprocessed")}
    with environment(**places, nnUNet_raw=None, nnUNet_UHF_KKN=None):
        yield tmp_path


def run(*words: str | Path) -> None:
    """A command that succeeds."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert left.value.code in (0, None)


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        content: dict[str, Any] = json.loads(file.metadata()["nnunet_uhf"])
    return content


def thinned(array: Any) -> np.ndarray:
    return np.asarray(array, np.float32).ravel()[::EVERY]


def patch_of(old: Path, configuration: str) -> torch.Tensor:
    return torch.from_numpy(np.load(old / "patches.npz")[configuration].astype(np.float32))


def same_image(path: Path, old: Path, name: str) -> None:
    expected = np.load(old / "records" / "images.npz")[name]
    np.testing.assert_allclose(thinned(nibabel.load(path).get_fdata()), expected, atol=IMAGE_TOLERANCE)


@pytest.mark.parametrize("name", KEEPERS)
def test_inspect_reads_every_field_of_an_old_keeper_file(
    old: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = old / "keepers" / f"{name}.safetensors"
    run("inspect", path, "--json")
    shown = json.loads(capsys.readouterr().out)
    written = header_of(path)
    assert written["package_version"] == "0.1.0"
    assert written.items() <= shown.items()


def test_the_old_keeper_files_are_of_all_three_formats(old: Path) -> None:
    formats = [header_of(old / "keepers" / f"{name}.safetensors")["format_version"] for name in KEEPERS]
    assert formats == [3, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("name", KEEPERS)
def test_an_old_keeper_file_makes_the_image_it_made(old: Path, tmp_path: Path, name: str) -> None:
    scan = old / ("thick.nii.gz" if "native" in name else "scan.nii.gz")
    keeper = old / "keepers" / f"{name}.safetensors"
    run("enhance", "-i", scan, "-o", tmp_path / "out.nii.gz", "-m", keeper, "-device", "cpu")
    same_image(tmp_path / "out.nii.gz", old, name)


@pytest.mark.parametrize(("name", "scan"), KEEPER_MODELS.items())
def test_an_old_keeper_model_makes_the_image_it_made(old: Path, tmp_path: Path, name: str, scan: str) -> None:
    model = old / "results" / Path(*name.split("."))
    run("enhance", "-i", old / f"{scan}.nii.gz", "-o", tmp_path / "out.nii.gz", "-m", model, "-device", "cpu")
    same_image(tmp_path / "out.nii.gz", old, name)


@pytest.mark.parametrize("name", ["distilled_2d", "distilled_3d", "siqt_2d"])
def test_check_input_measures_the_distances_it_measured(old: Path, tmp_path: Path, name: str) -> None:
    keeper = old / "keepers" / f"{name}.safetensors"
    run("check-input", "-i", old / "scan.nii.gz", "-m", keeper, "-o", tmp_path / "check.csv")
    assert_same_distances(tmp_path / "check.csv", old / "records" / f"check_{name}.csv")


def test_check_input_knows_the_keeper_of_an_old_guided_model(old: Path, tmp_path: Path) -> None:
    model = old / "results" / SEGMENTATION / GUIDED[0]
    run("check-input", "-i", old / "scan.nii.gz", "-m", model, "-o", tmp_path / "check.csv")
    assert_same_distances(tmp_path / "check.csv", old / "records" / "check_distilled_2d.csv")


def assert_same_distances(path: Path, record: Path) -> None:
    with path.open(newline="") as present, record.open(newline="") as before:
        for new, known in zip(csv.DictReader(present), csv.DictReader(before), strict=True):
            assert (new["level"], new["verdict"]) == (known["level"], known["verdict"])
            # written with few digits
            assert float(new["distance"]) == pytest.approx(float(known["distance"]), abs=2e-3)


@pytest.mark.parametrize(
    ("dataset", "trainer", "name"),
    [
        (PAIRS, "UHFKeeperTrainer", "distilled_2d_format_1"),
        (HIGH_FIELD, "SIQTTrainerMasksembles", "siqt_native_2d"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*only approximate")  # the target's intensities, without the raw images
def test_export_keeper_makes_the_same_file_of_an_old_model(
    old: Path, folders: Path, dataset: str, trainer: str, name: str
) -> None:
    output = folders / "keeper.safetensors"
    words = ("-d", dataset, "-c", "2d", "-f", "0", "-tr", trainer, "--no-statistics", "--accept-worse")
    run("export-keeper", *words, "-o", output)
    known = old / "keepers" / f"{name}.safetensors"
    before, now = header_of(known), header_of(output)
    assert now.pop("package_version")
    del before["package_version"]
    assert before.items() <= now.items()
    weights = load_file(output)
    assert weights.keys() == load_file(known).keys()
    assert all(torch.equal(weights[key], value) for key, value in load_file(known).items())


@pytest.mark.parametrize("name", GUIDED)
def test_nnunets_predictor_builds_the_network_of_an_old_guided_model(old: Path, name: str) -> None:
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(old / "results" / SEGMENTATION / name), (0,), FINAL)
    with torch.no_grad():
        output = predictor.network.eval()(patch_of(old, name.rpartition("__")[2]))
    expected = np.load(old / "records" / "networks.npz")[name]
    np.testing.assert_allclose(thinned(output), expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", GUIDED)
def test_an_old_guided_model_segments_as_it_did(old: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    shutil.copyfile(old / "scan.nii.gz", tmp_path / "in" / "scan_0000.nii.gz")
    predicted = predict_folder(old / "results" / SEGMENTATION / name, tmp_path / "in", tmp_path / "out")
    labels = np.asanyarray(nibabel.load(predicted / "scan.nii.gz").dataobj)
    # nnU-Net adds tiles up in half precision: voxels between two classes may fall to either
    assert (labels == np.load(old / "records" / "networks.npz")[f"{name}.labels"]).mean() > 0.999


@pytest.mark.parametrize(
    ("name", "configuration"),
    [(name, "3d_fullres" if "3d" in name else "2d") for name in KEEPERS if "native" not in name],
)
def test_an_old_keeper_file_guides_with_the_maps_it_gave(
    old: Path, nnunet: Workspace, name: str, configuration: str
) -> None:
    path = old / "keepers" / f"{name}.safetensors"
    with environment(nnUNet_UHF_KKN=str(path)):
        trainer = tiny_trainer("UHFTrainer", nnunet.dataset("single"), configuration)
        trainer.initialize()
    keeper = trainer.network.keeper.eval()
    known = {key.removeprefix("keeper."): value for key, value in load_file(path).items() if key.startswith("keeper.")}
    assert all(torch.equal(value, known[key]) for key, value in keeper.state_dict().items())
    with torch.no_grad():
        levels = keeper(patch_of(old, configuration))
    records = np.load(old / "records" / "maps.npz")
    for number, level in enumerate(levels):
        np.testing.assert_allclose(thinned(level), records[f"{name}_{number}"], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(
    ("plans", "configuration", "name"),
    [
        ("reference", "2d", "distilled_2d"),
        ("reference", "3d_fullres", "distilled_3d"),
        ("efficient", "2d", "distilled_2d"),
        ("siqt", "2d", "siqt_2d"),
    ],
)
def test_a_training_takes_the_keeper_that_old_plans_name(
    old: Path, nnunet: Workspace, plans: str, configuration: str, name: str
) -> None:
    content = json.loads((old / "plans" / f"{plans}.json").read_text())
    block = content["configurations"][configuration]["uhf"]
    with environment(nnUNet_UHF_KKN=str(old / "keepers")):
        trainer = tiny_trainer("UHFTrainer", nnunet.dataset("single"), configuration, plans=content)
        trainer.initialize()
        trainer.check_keeper()
    assert block.items() <= trainer.guidance.as_json().items()
    assert block["keeper"]["sha256"] == header_of(old / "keepers" / f"{name}.safetensors")["sha256"]


@pytest.mark.parametrize("name", GUIDED)
def test_an_old_guided_training_continues_without_a_keeper_file(old: Path, nnunet: Workspace, name: str) -> None:
    model = shutil.copytree(old / "results" / SEGMENTATION / name, nnunet.results / SEGMENTATION / name)
    before = checkpoint(model)["network_weights"]
    continued(name, nnunet.dataset("single"), model)
    after = checkpoint(model)
    assert after["current_epoch"] == 2
    assert after["network_weights"].keys() == before.keys()
    same = {key for key in before if torch.equal(after["network_weights"][key], before[key])}
    assert {key for key in before if key.startswith("keeper.")} <= same
    assert any(key.startswith("decoder.") and key not in same for key in before)


def test_an_old_keeper_training_continues_with_its_old_teacher(old: Path, folders: Path) -> None:
    model = folders / "results" / PAIRS / "UHFKeeperTrainer__nnUNetPlans__2d"
    cases = folders / "preprocessed" / PAIRS / "nnUNetPlans_2d"
    cases.mkdir()
    (cases / "case_00.b2nd").touch()  # nnU-Net looks at its ending only
    before = checkpoint(model)["network_weights"]
    description = json.loads((model / "dataset.json").read_text())
    trainer = made(trainers.UHFKeeperTrainer, model, description, continue_training=True)
    trainer.initialize()
    trainer.load_checkpoint(str(model / "fold_0" / FINAL))
    assert trainer.current_epoch == 1
    trainer.check_teacher()
    trainer.network.train()
    trainer.train_step({"data": torch.randn(2, 2, 32, 32)})
    after = trainer.network.state_dict()
    same = {key for key in before if torch.equal(after[key], before[key])}
    assert after.keys() == before.keys()
    assert {key for key in before if key.startswith("teacher.")} <= same
    assert any(key.startswith("keeper.") and key not in same for key in before)


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize(
    ("trainer", "model", "entry", "value"),
    [
        ("UHFTeacherTrainer", f"{PAIRS}/UHFTeacherTrainer__nnUNetPlans__2d", "convolutions", 1),
        ("SIQTTrainerMasksembles", f"{HIGH_FIELD}/SIQTTrainerMasksembles__nnUNetPlans__2d", "pooling", "average"),
    ],
)
def test_an_old_training_and_its_other_folds_keep_their_network(
    old: Path, folders: Path, fold: int, trainer: str, model: str, entry: str, value: object
) -> None:
    folder = folders / "results" / model
    splits = folders / "preprocessed" / folder.parent.name / "splits_final.json"
    splits.write_text(json.dumps(2 * json.loads(splits.read_text())))  # a second fold to train
    description = json.loads((folder / "dataset.json").read_text())
    started = made(getattr(trainers, trainer), folder, description, fold=fold)
    assert started.block.networks.architecture[entry] == value
    network = started.network_of(started.block)
    assert network.config()[entry] == value
    network.load_state_dict(checkpoint(folder)["network_weights"], strict=True)
    shutil.rmtree(folder / "fold_0")
    anew = made(getattr(trainers, trainer), old / "results" / model, description, fold=fold)
    assert anew.block.networks.architecture[entry] == {"convolutions": 2, "pooling": "max"}[entry]


def made(
    trainer: type, model: Path, description: dict[str, Any], *, fold: int = 0, continue_training: bool = False
) -> Any:
    """A trainer of nnU-Net's plans of a model, which its own trainer had not changed yet."""
    plans = json.loads((model / "plans.json").read_text())
    del plans["configurations"]["2d"]["uhf"]
    plans["continue_training"] = continue_training
    return trainer(plans, "2d", fold, description, device=torch.device("cpu"))


def continued(name: str, dataset: TinyDataset, model: Path) -> None:
    """One more epoch of one step, as `nnUNetv2_train ... --c` without the validation at its end."""
    trainer_name, _, configuration = name.split("__")
    plans = json.loads((model / "plans.json").read_text())
    if plans["plans_name"] == "nnUNetPlans":
        del plans["configurations"][configuration]["uhf"]  # the trainer adds it to the plans of the dataset
    trainer = tiny_trainer(
        trainer_name, dataset, configuration, plans=plans, iterations=1, epochs=2, continue_training=True
    )
    trainer.initialize()
    trainer.load_checkpoint(str(model / "fold_0" / FINAL))
    assert trainer.current_epoch == 1
    fit(trainer)


@pytest.mark.parametrize(
    ("route", "trainer", "model"),
    [
        ("paired", "UHFTeacherTrainer", f"{PAIRS}/UHFTeacherTrainer__nnUNetPlans__2d"),
        ("simulated", "UHFTeacherTrainer", f"{HIGH_FIELD}/SIQTTrainerMasksembles__nnUNetPlans__2d"),
        ("thick", "SIQTTrainerMasksembles", f"{HIGH_FIELD}/SIQTTrainerMasksembles__nnUNetPlans__2d"),
    ],
)
def test_a_training_takes_the_old_description_of_its_dataset(
    old: Path, folders: Path, route: str, trainer: str, model: str
) -> None:
    before = json.loads((old / "results" / model / "plans.json").read_text())["configurations"]["2d"]["uhf"]
    description = json.loads((old / "dataset_json" / f"{route}.json").read_text())
    started = made(getattr(trainers, trainer), old / "results" / model, description)
    block = started.configuration_manager.configuration["uhf"]
    assert (block["source_channel"], block["target_channel"]) == ((0, 1) if route == "paired" else (0, 0))
    if route == "thick":
        assert before.items() <= block.items()
    assert block.get("simulation", {}).get("mode") == ("native" if route == "thick" else None)
    assert ("simulation" in block) == (route != "paired")


def test_convert_unpaired_writes_what_it_wrote(old: Path, tmp_path: Path) -> None:
    scan = nibabel.load(old / "scan.nii.gz")
    for field in ("lf", "hf"):
        for name in ("anna", "bob"):
            write_image(tmp_path / field / f"{name}.nii.gz", np.asanyarray(scan.dataobj), scan.affine)
    words = ("--lf", tmp_path / "lf", "--hf", tmp_path / "hf", "--field-lf", "0.064", "--field-hf", "7")
    run("convert", "unpaired", *words, "-o", tmp_path / "Dataset702_Unpaired")
    written = json.loads((tmp_path / "Dataset702_Unpaired" / "dataset.json").read_text())
    known = json.loads((old / "dataset_json" / "unpaired.json").read_text())
    assert known["uhf"]["unpaired"].items() <= written.pop("uhf")["unpaired"].items()
    del known["uhf"]
    assert known.items() <= written.items()


def test_compare_reads_old_models_and_their_keepers(old: Path, folders: Path) -> None:
    models = [folders / "results" / SEGMENTATION / GUIDED[index] for index in (0, 3)]
    run("compare", "-m", *models, "-ref", old / "truth", "-o", folders / "out", "-np", "1", "-names", "guided", "drawn")
    with (folders / "out" / "compare.csv").open(newline="", encoding="utf-8") as file:
        scores = {
            row["model"]: float(row["value"])
            for row in csv.DictReader(file)
            if (row["structure"], row["metric"]) == ("mean", "dice")
        }
    for name, model in zip(("guided", "drawn"), models, strict=True):
        summary = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())
        assert scores[name] == pytest.approx(summary["foreground_mean"]["Dice"], abs=1e-6)
    page = (folders / "out" / "index.html").read_text(encoding="utf-8")
    assert "the keeper is frozen with random weights" in page
    assert header_of(old / "keepers" / "distilled_2d.safetensors")["sha256"] in page
