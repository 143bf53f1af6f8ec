"""Write contract.json anew: python tests/nnunet/make_contract.py, after a look at what changed in nnU-Net."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
CONTRACT = Path(__file__).with_name("contract.json")
PACKAGES = ("nnunetv2", "batchgenerators", "batchgeneratorsv2", "dynamic_network_architectures", "acvl_utils")
PLANS = "nnunetv2.utilities.plans_handling.plans_handler"
LABELS = "nnunetv2.utilities.label_handling.label_handling"
PREDICTOR = "nnunetv2.inference.predict_from_raw_data"
#: What is called, read or overridden of the classes that are imported, apart from hooks of nnUNetTrainer.
MEMBERS = {
    (PLANS, "PlansManager"): (
        "get_configuration", "get_label_manager", "dataset_name", "plans_name", "transpose_forward",
        "transpose_backward",
        "image_reader_writer_class", "experiment_planner_class", "foreground_intensity_properties_per_channel",
    ),
    (PLANS, "ConfigurationManager"): (
        "patch_size", "spacing", "batch_size", "normalization_schemes", "use_mask_for_norm", "previous_stage_name",
        "resampling_fn_seg", "resampling_fn_data", "network_arch_class_name", "network_arch_init_kwargs",
        "network_arch_init_kwargs_req_import",
    ),
    (LABELS, "LabelManager"): (
        "has_regions", "ignore_label", "foreground_regions", "all_labels", "convert_probabilities_to_segmentation",
        "num_segmentation_heads",
    ),
    (PREDICTOR, "nnUNetPredictor"): (
        "initialize_from_trained_model_folder", "_internal_get_sliding_window_slicers",
        "_internal_maybe_mirror_and_predict",
    ),
    ("nnunetv2.training.logging.nnunet_logger", "MetaLogger"): ("log", "log_summary", "get_value", "plot_progress_png"),
    ("nnunetv2.imageio.simpleitk_reader_writer", "SimpleITKIO"): ("read_images", "read_seg", "write_seg"),
    ("nnunetv2.imageio.nibabel_reader_writer", "NibabelIO"): ("read_images", "read_seg", "write_seg"),
}  # fmt: skip


def imported() -> set[tuple[str, str]]:
    """Module and name of everything that the package imports of nnU-Net and its own packages."""
    found = set()
    for folder in ("nnunet_uhf", "trainers", "preprocessing"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                    found |= {(str(node.module), alias.name) for alias in node.names}
    return found


def hooks() -> set[str]:
    """Methods of nnUNetTrainer that a trainer of ours overrides."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    import nnunet_uhf.trainers

    ours = [value for value in vars(nnunet_uhf.trainers).values() if isinstance(value, type)]
    classes = {base for one in ours for base in one.__mro__ if base.__module__.startswith("nnunet_uhf")}
    return {name for one in classes for name in vars(one) if callable(getattr(nnUNetTrainer, name, None))} - {"__doc__"}


def parameters(thing: Any) -> list[str] | None:
    """Its parameters, `name` or `name=` where there is a default; None of what is not called."""
    if isinstance(thing, property) or not callable(thing):
        return None
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [
        f"{marks.get(one.kind, '')}{name}{'' if one.default is inspect.Parameter.empty else '='}"
        for name, one in signature.parameters.items()
    ]


def names() -> Iterator[tuple[str, Any]]:
    """What the package relies on, `module:name` or `module:class.member`, and where that is."""
    for module, name in sorted(imported() | set(MEMBERS)):
        yield f"{module}:{name}", (module, name)
        for member in MEMBERS.get((module, name), ()):
            yield f"{module}:{name}.{member}", (module, name, member)
    trainer = ("nnunetv2.training.nnUNetTrainer.nnUNetTrainer", "nnUNetTrainer")
    for hook in sorted(hooks()):
        yield f"{trainer[0]}:{trainer[1]}.{hook}", (*trainer, hook)


def resolve(place: tuple[str, ...]) -> Any:
    """The thing at a place; AttributeError or ImportError where it is no more."""
    thing: Any = importlib.import_module(place[0])
    for name in place[1:]:
        thing = inspect.getattr_static(thing, name) if isinstance(thing, type) else getattr(thing, name)
    return thing.__func__ if isinstance(thing, staticmethod | classmethod) else thing


if __name__ == "__main__":
    table = {name: parameters(resolve(place)) for name, place in names()}
    CONTRACT.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
