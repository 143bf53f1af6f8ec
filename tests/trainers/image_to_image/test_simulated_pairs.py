"""Keepers from high-field images and labels alone: the low-field partner is simulated while training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from helpers.support import fit, only_line, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace, environment
from nnunet_uhf.imageio.files import note_path
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.keepers.file import read_header
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.export.keeper import export_keeper
from nnunet_uhf.trainers.guided.guidance import UHFTrainer
from nnunet_uhf.trainers.image_to_image.simulate_source import RememberedCase, SimulateSource

SPLIT = {"train": ["case_02", "case_03", "case_04"], "val": ["case_00", "case_01"]}
CONFIGURATIONS = ("2d", "3d_fullres")


@pytest.fixture(scope="module")
def workspace(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    own = nnunet_module.private("high field", tmp_path_factory.mktemp("high_field"))
    assert own.dataset("high field").hold_out(*SPLIT["val"]) == SPLIT
    yield own
    nnunet_module.activate()


@pytest.fixture(scope="module")
def dataset(workspace: Workspace) -> TinyDataset:
    return workspace.dataset("high field")


@pytest.fixture(scope="module")
def keeper(dataset: TinyDataset) -> Any:
    """A 2d keeper after one short epoch and its validation, behind a teacher of the same; both hardly trained."""
    torch.manual_seed(0)
    teacher = fit(tiny_trainer(UHFTeacherTrainer, dataset, "2d"), validate=True)
    path = Path(teacher.output_folder) / "validation" / "summary.json"
    summary = json.loads(path.read_text())
    summary["mean"]["prediction"]["psnr"] = 60.0  # two steps make no teacher
    path.write_text(json.dumps(summary))
    return fit(tiny_trainer(UHFKeeperTrainer, dataset, "2d"), validate=True)


@pytest.fixture(scope="module")
def keeper_file(keeper: Any, dataset: TinyDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("keepers") / "keeper.safetensors"
    return export_keeper(dataset.name, "2d", 0, output=output, accept_worse=True)


def loaders(dataset: TinyDataset, configuration: str) -> tuple[Any, Any, Any]:
    """A teacher's trainer and nnU-Net's two data loaders, which load in this process."""
    trainer = tiny_trainer(UHFTeacherTrainer, dataset, configuration)
    trainer.initialize()
    training, validation = trainer.get_dataloaders()
    return trainer, training.data_loader, validation.data_loader


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_patch_has_a_draw_of_its_own_and_a_validation_case_always_the_same(
    configuration: str, dataset: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, Any]] = []
    original = SimulateSource.apply

    def noted(self: SimulateSource, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        simulation, case = self.simulation, self.current.name
        apply = simulation.of_patch

        def noting(image: Any, labels: Any, draw: Any, known: Any) -> Any:
            assert known is self.cases[case]
            drawn.append((case, draw))
            return apply(image, labels, draw, known)

        with monkeypatch.context() as patch:
            patch.setattr(type(simulation), "of_patch", lambda _, *words: noting(*words))
            return original(self, data_dict, **params)

    trainer, training, validation = loaders(dataset, configuration)
    monkeypatch.setattr(SimulateSource, "apply", noted)
    batches = [next(training) for _ in range(4)]
    assert len({draw.snr_wm for _, draw in drawn}) == len(drawn) == 4 * trainer.batch_size
    assert len({draw.noise_seed for _, draw in drawn}) == len(drawn)
    assert {case for case, _ in drawn} <= set(SPLIT["train"])
    for batch in batches:
        assert batch["data"].shape[:2] == (trainer.batch_size, 2)
        assert torch.isfinite(batch["data"]).all()
    drawn.clear()
    for _ in range(6):
        next(validation)
    by_case = {case: {d for c, d in drawn if c == case} for case, _ in drawn}
    assert set(by_case) == set(SPLIT["val"])
    assert all(len(draws) == 1 for draws in by_case.values())
    assert by_case["case_00"] != by_case["case_01"]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_the_target_is_the_high_field_image_and_the_source_resembles_it(
    configuration: str, dataset: TinyDataset
) -> None:
    trainer, _, validation = loaders(dataset, configuration)
    batch = next(validation)
    pair = trainer.pair_of(batch)
    source, target = pair.source, pair.target
    brain = batch["target"] > 0
    assert brain.any()
    for low, high, inside in zip(source, target, brain, strict=True):
        correlation = np.corrcoef(low[inside].numpy(), high[inside].numpy())[0, 1]
        assert 0.5 < correlation < 0.999
    # outside of the nonzero mask both are 0, as after nnU-Net's normalisation
    assert trainer.configuration_manager.use_mask_for_norm == [True]
    assert (source[~brain] == 0).all()
    assert (target[~brain] == 0).all()


def test_the_simulation_stands_between_spatial_and_intensity_augmentation(dataset: TinyDataset) -> None:
    _, training, _ = loaders(dataset, "3d_fullres")
    kinds = [type(part) for part in training.transforms.transforms]
    # mirroring, which nnU-Net does last, comes before it, too
    assert kinds[:3] == [SpatialTransform, MirrorTransform, SimulateSource]
    assert not {SpatialTransform, MirrorTransform} & set(kinds[3:])
    assert isinstance(training._data, RememberedCase)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_whole_held_out_case_is_the_same_in_every_training(configuration: str, dataset: TinyDataset) -> None:
    made = []
    for _ in range(2):
        trainer = tiny_trainer(UHFTeacherTrainer, dataset, configuration)
        trainer.initialize()
        cases = trainer.dataset_class(trainer.preprocessed_dataset_folder, SPLIT["val"])
        data, labels, _, _ = cases.load_case("case_00")
        made.append(trainer.pairs.of_case("case_00", data, labels))
    assert np.array_equal(made[0][0], made[1][0])
    assert np.array_equal(made[0][1], np.asarray(data[0]))
    assert not np.array_equal(made[0][0][0], made[0][1])


def test_the_keeper_file_says_that_its_source_was_simulated_and_how(keeper: Any, keeper_file: Path) -> None:
    header = read_header(keeper_file)
    assert (header.route, header.channel, header.format_version) == ("simulated", "LF", 4)
    assert (header.source_field_T, header.target_field_T) == (0.36, 3.0)  # the preset's, and the declared one
    assert header.simulation is not None
    assert header.feature_statistics is not None
    assert header.simulation["preset"]["name"] == "t1w_0.36T_probable"
    assert header.simulation["preset"]["mean_snr"] == [64.5, 54.14]
    assert header.simulation["profiles"] == [{"thickness": 1.5, "gap": 0.5}, {"thickness": 2, "gap": 1}]
    assert header.simulation["axes"] == [1, 2]
    assert header.simulation["noise_scale"] == [1, 4]
    log = "".join(file.read_text() for file in Path(keeper.output_folder).glob("training_log_*.txt"))
    assert "Low field is SIMULATED while training: preset t1w_0.36T_probable" in log
    assert "Axis 0 is left out" in log


def test_the_keeper_enhances_real_files_and_guides(keeper_file: Path, nnunet: Workspace, tmp_path: Path) -> None:
    segmentation = nnunet.dataset("single")
    scan = segmentation.raw / "imagesTs" / "case_05_0000.nii.gz"
    (image,) = enhance(scan, tmp_path / "out", keeper_file, device="cpu", progress=False)
    assert nibabel.load(image).shape == nibabel.load(scan).shape
    note = json.loads(note_path(image).read_text())
    assert "SIMULATED" in note["description"]
    assert note["simulation"]["preset"]["name"] == "t1w_0.36T_probable"
    with environment(nnUNet_UHF_KKN=str(keeper_file)):
        trainer = tiny_trainer(UHFTrainer, segmentation, "2d")
        trainer.initialize()
        trainer.check_keeper()
    assert trainer.guidance.keeper.provenance.content["simulation"] == note["simulation"]


def test_three_dimensional_configurations_train(dataset: TinyDataset) -> None:
    trainer = fit(tiny_trainer(UHFTeacherTrainer, dataset, "3d_fullres", iterations=1))
    assert trainer.logger.get_value("psnr", step=-1) > 0
    assert trainer.block.simulation["axes"] == [0, 1, 2]


def test_artefacts_disturb_the_source_alone_keep_its_normalisation_and_are_on_record(dataset: TinyDataset) -> None:
    description = dataset.dataset_json()
    description["uhf"]["simulate"]["artefacts"] = {"bias_field": 0.3, "motion_probability": 1, "spike_probability": 1}
    disturbed, plain = (
        UHFTeacherTrainer({**dataset.plans(), "continue_training": False}, "2d", 0, json_, device=torch.device("cpu"))
        for json_ in (description, dataset.dataset_json())
    )
    disturbed.initialize()
    case = disturbed.dataset_class(disturbed.preprocessed_dataset_folder, ["case_00"])
    data, labels, _, _ = case.load_case("case_00")
    volumes = [trainer.pairs.of_case("case_00", data, labels) for trainer in (disturbed, plain)]
    (source, target), (plain_source, plain_target) = volumes
    np.testing.assert_array_equal(target, plain_target)
    assert np.abs(source - plain_source).mean() > 0.05
    assert float(source.mean()) == pytest.approx(0, abs=0.05)
    assert disturbed.block.simulation["artefacts"]["bias_field"] == 0.3
    assert "artefacts" not in plain.block.simulation


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no object": ({"simulate": "yes"}, "uhf.simulate is 'yes'"),
    "missing entry": ({"simulate": {"source": "LF"}}, "uhf.simulate lacks preset"),
    "unknown entry": ({"simulate": {"sauce": "LF"}}, "uhf.simulate has unknown entries sauce"),
    "source beside it": ({"source": "HF"}, 'with "simulate" has unknown entries source'),
    "unknown preset": ({"simulate": {"preset": "7T"}}, "there is no preset '7T'"),
    "unknown ratio": ({"simulate": {"ratios": [5]}}, "no slice profile for ratio 5"),
    "ratio of text": ({"simulate": {"ratios": "4"}}, "give a list of whole numbers"),
    "thick for the patch": ({"simulate": {"ratios": [8]}}, "fewer than two slices"),
    "axis through the plane": ({"simulate": {"axes": [0]}}, "slices along its own two axes only"),
    "unknown noise": ({"simulate": {"noise": "pink"}}, "use gaussian or rician"),
    "noise range reversed": ({"simulate": {"noise_scale": [4, 1]}}, "0 <= low <= high"),
    "artefact unknown": ({"simulate": {"artefacts": {"ghosts": 1}}}, 'give numbers like {"bias_field"'),
    "artefact too strong": (
        {"simulate": {"artefacts": {"bias_field": 3}}},
        "bias_field is 3: give a number",
    ),
    "tissue missing": ({"simulate": {"tissues": {"gm": 2, "wm": 3}}}, "name csf, gm and wm"),
    "tissue twice": ({"simulate": {"tissues": {"csf": 1, "gm": 2, "wm": [2, 3]}}}, "name each label once"),
    "field strength of text": ({"source_field_T": "low"}, "above 0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_description_ends_in_one_line_before_anything_is_written(
    fault: str, dataset: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = FAULTS[fault]
    description = dataset.dataset_json()
    simulate = change.get("simulate", {})
    if isinstance(simulate, dict):
        kept = {"source": "LF"} if fault == "missing entry" else {**description["uhf"]["simulate"], **simulate}
        change = {**change, "simulate": kept}
    description["uhf"].update(change)

    class UHFTeacherTrainerRefused(UHFTeacherTrainer):
        pass

    plans = {**dataset.plans(), "continue_training": False}
    if fault == "thick for the patch":
        plans["configurations"]["2d"]["patch_size"] = [32, 12]

    def make() -> None:
        UHFTeacherTrainerRefused(plans, "2d", 0, description, device=torch.device("cpu"))

    error = only_line(capsys, make)
    assert message in error
    assert "Dataset509_TinyHighField" in error
    assert not list(dataset.preprocessed.parents[1].glob("results/*/UHFTeacherTrainerRefused*"))


def test_a_dataset_of_two_channels_is_refused(dataset: TinyDataset, capsys: pytest.CaptureFixture[str]) -> None:
    description = {**dataset.dataset_json(), "channel_names": {"0": "HF", "1": "LF"}}
    plans = {**dataset.plans(), "continue_training": False}
    error = only_line(capsys, lambda: UHFTeacherTrainer(plans, "2d", 0, description, device=torch.device("cpu")))
    assert "a dataset of one channel, this one has 2" in error


def test_a_case_without_grey_matter_is_named_before_training(
    dataset: TinyDataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer(UHFTeacherTrainer, dataset, "2d")
    trainer.initialize()
    original = trainer.dataset_class.load_case

    def without(self: Any, case: str) -> Any:
        data, labels, previous, properties = original(self, case)
        labels = np.asarray(labels)
        return data, np.where((labels == 2) & (case == "case_03"), 1, labels), previous, properties

    monkeypatch.setattr(trainer.dataset_class, "load_case", without)
    error = only_line(capsys, trainer.on_train_start)
    assert "case case_03" in error
    assert "no voxel has grey matter" in error


def test_a_training_does_not_continue_with_another_simulation(
    keeper: Any, dataset: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    description = dataset.dataset_json()
    description["uhf"]["simulate"]["ratios"] = [2]
    plans = {**dataset.plans(), "continue_training": True}
    again = UHFKeeperTrainer(plans, "2d", 0, description, device=torch.device("cpu"))
    checkpoint = str(Path(keeper.output_folder) / "checkpoint_final.pth")
    assert "another uhf.simulate" in only_line(capsys, lambda: again.load_checkpoint(checkpoint))
