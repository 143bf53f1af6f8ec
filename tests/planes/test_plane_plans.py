"""Plans per plane on a made dataset: anisotropic, flipped, its axes stored as (posterior, superior, right)."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.experiment_planning import plan_and_preprocess_api as api
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from helpers.support import fit, predict_folder, tiny_keeper, tiny_trainer
from helpers.tiny_data import DatasetSpec, TinyDataset, shrink_plans, write_raw_dataset
from helpers.workspace import Workspace, environment, plan, threaded_pools
from nnunet_uhf.errors import MatchError, UHFError
from nnunet_uhf.guidance.plans import write_plans
from nnunet_uhf.imageio.nifti import require_same_grid
from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.planes.aggregation import aggregate_views
from nnunet_uhf.planes.plans import normal_axis, write_plane_plans

# voxels from left to right, back to front, foot to head
SPEC = DatasetSpec(520, "Planes", shape=(40, 36, 14), spacing_mm=(0.8, 0.9, 3.0))
STORED = "PSR"
# nnU-Net's arrays hold the file's axes in reverse: (right, superior, posterior)
NORMALS = {"sagittal": 0, "axial": 1, "coronal": 2}
WORLD = {"sagittal": 0, "coronal": 1, "axial": 2}


def store_as(path: Path, axcodes: str) -> None:
    image = nibabel.load(path)
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(axcodes)))
    data = np.asarray(turned.dataobj).copy()
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(data, turned.affine), path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, nnunet_module: Workspace) -> Iterator[TinyDataset]:
    """The made dataset, planned by nnU-Net, then for every plane; nothing is preprocessed."""
    root = tmp_path_factory.mktemp("planes")
    raw = write_raw_dataset(root / "raw", SPEC, training_cases=3)
    for path in raw.rglob("*.nii.gz"):
        store_as(path, STORED)
    Workspace(root, root / "results", {}).activate()
    made = TinyDataset(SPEC, raw, root / "preprocessed" / SPEC.name)
    # building networks of full size to weigh their memory takes most of the time; every patch is small here
    light = mock.patch.object(ExperimentPlanner, "static_estimate_VRAM_usage", staticmethod(lambda *_: 1e7))
    plan(SPEC.number)
    with light, threaded_pools(), redirect_stdout(io.StringIO()), environment(nnUNet_n_proc_DA="1"):
        for plane in NORMALS:
            assert write_plane_plans(SPEC.number, plane) == made.preprocessed / f"nnUNetPlans_{plane}.json"
        yield made


@pytest.mark.parametrize("plane", NORMALS)
def test_the_planes_normal_comes_first_and_2d_is_planned_for_the_other_axes(dataset: TinyDataset, plane: str) -> None:
    plans = dataset.plans(f"nnUNetPlans_{plane}")
    axis = NORMALS[plane]
    others = [other for other in range(3) if other != axis]
    assert plans["transpose_forward"] == [axis, *others]
    assert [plans["transpose_forward"][i] for i in plans["transpose_backward"]] == [0, 1, 2]
    assert list(plans["configurations"]) == ["2d"]
    assert (plans["plans_name"], plans["plane"]) == (f"nnUNetPlans_{plane}", plane)
    flat = PlansManager(plans).get_configuration("2d")
    assert flat.data_identifier == f"nnUNetPlans_{plane}_2d"
    spacing = np.array([0.8, 3.0, 0.9])[others]
    np.testing.assert_allclose(flat.spacing, spacing, rtol=0.01)
    # cropping to the brain takes a few voxels off the made images' sides
    np.testing.assert_allclose(flat.median_image_size_in_voxels, np.array([40, 14, 36])[others], atol=6)
    assert all(patch >= size for patch, size in zip(flat.patch_size, flat.median_image_size_in_voxels, strict=True))
    strides = np.prod(flat.pool_op_kernel_sizes, axis=0)
    assert (flat.patch_size % strides == 0).all()
    assert PlansManager(plans).experiment_planner_class.__name__ == "ExperimentPlanner"


def test_for_the_plane_that_nnunet_slices_in_anyway_its_own_2d_plan_comes_out(dataset: TinyDataset) -> None:
    plain, axial = dataset.plans(), dataset.plans("nnUNetPlans_axial")
    assert plain["transpose_forward"] == axial["transpose_forward"]
    theirs, ours = (plans["configurations"].pop("2d") for plans in (plain, axial))
    assert ours.pop("data_identifier") != theirs.pop("data_identifier")
    assert ours == theirs
    assert axial.pop("plane") == "axial"
    assert {**axial, "plans_name": "", "configurations": {}} == {**plain, "plans_name": "", "configurations": {}}


@pytest.mark.slow
def test_three_planes_are_preprocessed_trained_predicted_and_aggregated(dataset: TinyDataset, tmp_path: Path) -> None:
    views = []
    for plane, world in WORLD.items():
        name = f"nnUNetPlans_{plane}"
        full_size = dataset.plans(name)
        try:
            dataset.write_plans(shrink_plans(dataset.plans(name)))
            with redirect_stdout(io.StringIO()):
                api.preprocess([SPEC.number], name, ["2d"], num_processes=[1], show_progress_bar=False)
            check_normal_comes_first(dataset, f"{name}_2d", world)
            model = train_guided(dataset, name, tmp_path) if plane == "coronal" else train(dataset, name)
        finally:
            dataset.write_plans(full_size)
        with environment(nnUNet_extTrainer=trainer_path()):
            images, output = dataset.raw / "imagesTs", tmp_path / plane
            predict_folder(model, images, output, fold="all", save_probabilities=True)
        require_same_grid(images / "case_03_0000.nii.gz", output / "case_03.nii.gz")
        views.append(output)
    # the planes are known from the plans that nnU-Net puts beside its predictions, whatever the order
    (written,) = aggregate_views(views, tmp_path / "mean", num_processes=1)
    require_same_grid(dataset.raw / "imagesTs" / "case_03_0000.nii.gz", written)
    record = json.loads((tmp_path / "mean" / "aggregation.json").read_text())["views"]
    assert {view["plane"]: view["weight"] for view in record} == {"axial": 0.4, "coronal": 0.4, "sagittal": 0.2}


def train(dataset: TinyDataset, plans: str, trainer: str = "nnUNetTrainer") -> Path:
    """Two iterations; returns the model folder."""
    return Path(fit(tiny_trainer(trainer, dataset, "2d", fold="all", plans=plans)).output_folder_base)


def train_guided(dataset: TinyDataset, plans: str, folder: Path) -> Path:
    keeper = coronal_keeper(dataset, folder)
    guided = write_plans(dataset.id, ["2d"], [keeper], source_plans=plans, output_name="guided")
    try:
        with environment(nnUNet_UHF_KKN=str(keeper)):
            return train(dataset, "guided", "UHFTrainer")
    finally:
        guided.unlink()


def coronal_keeper(dataset: TinyDataset, folder: Path) -> Path:
    """A keeper as if trained on the coronal plans."""
    mask = dataset.plans("nnUNetPlans_coronal")["configurations"]["2d"]["use_mask_for_norm"][0]
    return tiny_keeper(folder, 2, spacing_mm=(0.8, 3.0), transpose_forward=(2, 0, 1), use_mask_for_norm=mask)


def check_normal_comes_first(dataset: TinyDataset, identifier: str, world: int) -> None:
    """Foreground per preprocessed slice is that of the anatomy along the plane's normal; case_00 is not resampled."""
    _, labels, _, _ = nnUNetDatasetBlosc2(str(dataset.preprocessed / identifier), ["case_00"]).load_case("case_00")
    counts = np.trim_zeros((labels[0] > 0).sum(axis=(1, 2)))
    image = nibabel.as_closest_canonical(nibabel.load(dataset.raw / "labelsTr" / "case_00.nii.gz"))
    across = tuple(axis for axis in range(3) if axis != world)
    anatomy = np.trim_zeros((np.asarray(image.dataobj) > 0).sum(axis=across))
    flipped = STORED["PSR".index({0: "R", 1: "P", 2: "S"}[world])] == "P"
    np.testing.assert_array_equal(counts, anatomy[::-1] if flipped else anatomy)


def test_plans_of_a_residual_encoder_do_not_share_the_data_of_another_plane(dataset: TinyDataset) -> None:
    with redirect_stdout(io.StringIO()):
        api.plan_experiments([SPEC.number], "nnUNetPlannerResEncM")
    plans = json.loads(write_plane_plans(dataset.id, "coronal", source_plans="nnUNetResEncUNetMPlans").read_text())
    flat = plans["configurations"]["2d"]
    assert flat["data_identifier"] == "nnUNetResEncUNetMPlans_coronal_2d"
    assert "ResidualEncoderUNet" in flat["architecture"]["network_class_name"]
    assert plans["experiment_planner_used"] == "nnUNetPlannerResEncM"


def test_planning_twice_is_no_error_and_a_name_may_be_chosen(dataset: TinyDataset) -> None:
    assert write_plane_plans(dataset.id, "axial").stem == "nnUNetPlans_axial"
    chosen = write_plane_plans(dataset.id, "axial", output_name="mine")
    assert json.loads(chosen.read_text())["configurations"]["2d"]["data_identifier"] == "mine_2d"
    with pytest.raises(UHFError, match="exists and differs"):
        write_plane_plans(dataset.id, "coronal", output_name="mine")


def test_a_keeper_of_the_same_plane_is_attached_and_shares_the_planes_data(
    dataset: TinyDataset, tmp_path: Path
) -> None:
    flat = dataset.plans("nnUNetPlans_coronal")["configurations"]["2d"]
    keeper = coronal_keeper(dataset, tmp_path)
    path = write_plane_plans(dataset.id, "coronal", keepers=[keeper])
    assert path.stem.startswith("nnUNetPlans_coronal_KKN_")
    guided = json.loads(path.read_text())
    block = guided["configurations"]["2d"].pop("uhf")
    assert block["spacing_ratio"] == [1.0, 1.0]
    assert block["source_plans"] == "nnUNetPlans_coronal"
    assert guided["configurations"]["2d"] == flat
    before = sorted(file.name for file in dataset.preprocessed.iterdir())
    with pytest.raises(MatchError, match="transpose_forward"):
        write_plane_plans(dataset.id, "sagittal", keepers=[keeper])
    assert sorted(file.name for file in dataset.preprocessed.iterdir()) == before


def test_a_case_with_its_axes_in_another_order_is_named(dataset: TinyDataset, tmp_path: Path) -> None:
    images = {path.name[:7]: path for path in sorted((dataset.raw / "imagesTr").iterdir())}
    for plane, axis in NORMALS.items():
        assert normal_axis(plane, reader="SimpleITKIO", images=images) == axis
    flipped, turned = (Path(shutil.copy(images["case_02"], tmp_path / f"{name}.nii.gz")) for name in ("f", "t"))
    store_as(flipped, "AIR")
    assert normal_axis("axial", reader="NibabelIO", images=images | {"case_02": flipped}) == 1
    store_as(turned, "RAS")
    with pytest.raises(UHFError, match=r"t\.nii\.gz stores its axes in another order than case case_00"):
        normal_axis("axial", reader="SimpleITKIO", images=images | {"case_02": turned})
    assert normal_axis("axial", reader="SimpleITKIOWithReorient", images=images | {"case_02": turned}) == 0
    with pytest.raises(UHFError, match="no anatomical planes"):
        normal_axis("axial", reader="Tiff3DIO", images=images)
    with pytest.raises(UHFError, match="choose among"):
        normal_axis("oblique", reader="SimpleITKIO", images=images)


def test_what_planning_lacks_is_told_in_one_line(dataset: TinyDataset) -> None:
    def refused(message: str, **options: Any) -> None:
        with pytest.raises(UHFError, match=message) as caught:
            write_plane_plans(dataset.id, "axial", **options)
        assert "\n" not in str(caught.value)

    refused(r"none\.json does not exist; run nnUNetv2_plan_and_preprocess", source_plans="none")
    refused("has no 3d_fullres", source_plans="nnUNetPlans_axial")
    refused("cannot be a plans name", output_name="a__b")
    own = dataset.plans() | {"plans_name": "own", "experiment_planner_used": "MyPlanner"}
    file = dataset.write_plans(own)
    refused("was made by MyPlanner", source_plans="own")
    file.unlink()
    with pytest.raises(UHFError, match="no dataset"):
        write_plane_plans(999, "axial")
    fingerprint = dataset.preprocessed / "dataset_fingerprint.json"
    content = fingerprint.read_bytes()
    fingerprint.unlink()
    refused("dataset_fingerprint")
    fingerprint.write_bytes(content)
    with environment(nnUNet_raw=None):
        refused("nnUNet_raw is not set")
