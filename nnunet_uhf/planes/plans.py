"""Plans whose 2D configuration slices in a chosen anatomical plane: axial, coronal or sagittal.

nnU-Net slices 2D along the first axis after ``transpose_forward``, which holds for whole plans. So every plane gets
plans of its own: nnU-Net's own planner, with the plane's normal put first. Three planes: arXiv:2402.08409.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.plans import checked_plans_name, guided_plans, write_new_plans
from nnunet_uhf.imageio.nifti import read_grid
from nnunet_uhf.imageio.planes import PLANES, slice_axis
from nnunet_uhf.nnunet.files import PLAN_FIRST, READERS, dataset_name, read_json, root_folder

#: Readers that turn images to right, anterior, superior first.
_REORIENTING = ("SimpleITKIOWithReorient", "NibabelIOWithReorient")


def write_plane_plans(
    dataset: str | int,
    plane: str,
    *,
    keepers: Sequence[str | Path] = (),
    source_plans: str = "nnUNetPlans",
    output_name: str | None = None,
    preset: str | None = None,
    fusion_rate: float | None = None,
    reserve: bool = False,
) -> Path:
    """Write plans with one ``2d`` configuration that slices in a plane; with keepers, also plans that carry one.

    Patch size, spacing, median size, batch size and network are planned anew for the plane, by the planner that made
    the source plans and at the target spacing of their ``3d_fullres``. ``data_identifier`` is the plane's own: the data
    have to be preprocessed for it once, with or without keeper.

    Args:
        dataset: id or name.
        plane: ``axial``, ``coronal`` or ``sagittal``.
        keepers: keeper files or folders of them; the one that fits is attached.
        source_plans: name of plans of whole volumes.
        output_name: of the plans that shall be used for training; by default the source's and the plane, and for
            keepers ``_KKN_`` and 8 digits.
        preset: of the fusion modules, see :func:`nnunet_uhf.guidance.plans.write_plans`.
        fusion_rate: of theirs, too, see there.
        reserve: make room for the guidance, see there.

    Returns:
        The path of the plans to train with.

    Raises:
        UHFError: no such dataset or plans, a case whose axes run in another order, a keeper that does not fit, or other
            plans of that name.
    """
    name = dataset_name(dataset)
    folder = root_folder("nnUNet_preprocessed") / name
    plain_name = f"{source_plans}_{plane}"
    if not keepers and output_name:
        plain_name = output_name
    plain, dataset_json = _planned(name, plane, source_plans=source_plans, plans_name=checked_plans_name(plain_name))
    if not keepers:
        return write_new_plans(folder, plain)
    guided = guided_plans(
        plain,
        ["2d"],
        keepers,
        dataset_json=dataset_json,
        source_plans=plain_name,
        output_name=output_name,
        preset=preset,
        fusion_rate=fusion_rate,
        reserve=reserve,
    )
    write_new_plans(folder, plain)
    return write_new_plans(folder, guided)


def normal_axis(plane: str, *, reader: str, images: Mapping[str, Path]) -> int:
    """Return the axis, of arrays as nnU-Net reads them, that runs across a plane's slices.

    Args:
        plane: ``axial``, ``coronal`` or ``sagittal``; of an oblique scan, the stored axis nearest to its normal.
        reader: nnU-Net's reader of the images.
        images: one image of every case.

    Raises:
        UHFError: cases whose axes run in different orders, or a reader without anatomy.
    """
    if plane not in PLANES:
        raise UHFError(f"plane {plane!r}: choose among {', '.join(PLANES)}")
    if reader in _REORIENTING:
        return 2 - PLANES[plane].normal
    if reader not in READERS:
        raise UHFError(f"images read by {reader} have no anatomical planes: convert the dataset to NIfTI")
    axes = {case: 2 - slice_axis(read_grid(path)[1], plane) for case, path in images.items()}
    (first, axis), *others = axes.items()
    for case, other in others:
        if other != axis:
            raise UHFError(
                f"{images[case]} stores its axes in another order than case {first}: {plane} slices would be cut in "
                "different planes. Reorient all images and labels alike, or let nnU-Net do it "
                "('overwrite_image_reader_writer': 'SimpleITKIOWithReorient' in dataset.json, and plan again)"
            )
    return axis


def _planned(name: str, plane: str, *, source_plans: str, plans_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plans of a plane, and the dataset.json they were made for."""
    raw = root_folder("nnUNet_raw") / name
    preprocessed = root_folder("nnUNet_preprocessed") / name
    source_file = preprocessed / f"{source_plans}.json"
    source = read_json(source_file, advice=PLAN_FIRST)
    dataset_json = read_json(raw / "dataset.json", advice="the raw dataset is needed to plan")
    read_json(preprocessed / "dataset_fingerprint.json", advice=PLAN_FIRST)
    if "3d_fullres" not in source["configurations"]:
        raise UHFError(f"{source_file} has no 3d_fullres, so no planes to choose: name plans of whole volumes (-p)")
    manager = PlansManager(source)
    fullres = manager.get_configuration("3d_fullres")
    planner = manager.experiment_planner_class
    if planner is None:
        raise UHFError(
            f"{source_file} was made by {source['experiment_planner_used']}, which nnU-Net does not have: name plans "
            "of one of its planners (-p)"
        )
    cases = get_filenames_of_train_images_and_targets(str(raw), dataset_json)
    images = {case: Path(files["images"][0]) for case, files in cases.items()}
    if not images:
        raise UHFError(f"{raw / 'imagesTr'} holds no training cases: {PLAN_FIRST}")
    axis = normal_axis(plane, reader=source["image_reader_writer"], images=images)
    spacing = np.asarray(fullres.spacing, float)[manager.transpose_backward]
    with redirect_stdout(io.StringIO()):  # planners print whole plans, and of configurations that are not kept
        plans = type("PlanePlanner", (PlanePlanner, planner), {"axis": axis})(
            name,
            plans_name=plans_name,
            preprocessor_name=fullres.preprocessor_name,
            overwrite_target_spacing=[float(step) for step in spacing],
        ).plan_experiment()
    plans["configurations"] = {"2d": plans["configurations"]["2d"]}
    plans["experiment_planner_used"] = source["experiment_planner_used"]  # one that nnU-Net can find by name
    plans["plane"] = plane
    return plans, dataset_json


class PlanePlanner(ExperimentPlanner):
    """Put in front of one of nnU-Net's planners: puts ``axis`` first, plans 2D only, leaves writing to the caller."""

    axis: int

    def determine_transpose(self) -> tuple[list[int], list[int]]:
        """Transpose forward and backward."""
        forward = [self.axis, *(other for other in range(3) if other != self.axis)]
        return forward, [forward.index(other) for other in range(3)]

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Name of the preprocessed data; some planners share those of nnUNetPlans, sliced in another plane."""
        return f"{self.plans_identifier}_{configuration_name}"

    def get_plans_for_configuration(self, spacing: Any, median_shape: Any, *rest: Any) -> dict[str, Any]:
        """Plan 2D as the planner does. Planning 3D takes minutes and is not kept."""
        if len(spacing) == 3:
            return {"patch_size": median_shape, "spacing": spacing}  # the whole image: asks for no 3d_lowres
        planned: dict[str, Any] = super().get_plans_for_configuration(spacing, median_shape, *rest)
        return planned

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Turn numpy numbers into plain ones, in place."""
        recursive_fix_for_json_export(plans)
