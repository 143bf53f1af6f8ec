"""nnunet-uhf: ultra-high-field guidance for nnU-Net.

The names below are what a script or notebook needs: ``from nnunet_uhf import feature_maps``. Each is imported when it
is first asked for and not before: this file runs at every start of Python in an environment with nnunet-uhf.
"""

from __future__ import annotations

__version__ = "0.2.0"

TYPE_CHECKING = False  # what type checkers take for true; `typing` itself would cost milliseconds at every start
if TYPE_CHECKING:
    from nnunet_uhf.errors import KeeperFileError, MatchError, UHFError
    from nnunet_uhf.evaluation.image_metrics import psnr, ssim
    from nnunet_uhf.inference.arrays import FeatureMaps, enhance_array, feature_maps
    from nnunet_uhf.inference.enhance import enhance
    from nnunet_uhf.inference.input_check import check_inputs
    from nnunet_uhf.keepers.file import KeeperFile, read_header, read_keeper
    from nnunet_uhf.keepers.header import KeeperHeader
    from nnunet_uhf.keepers.load import load_keeper
    from nnunet_uhf.keepers.untrained import write_untrained_keeper
    from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
    from nnunet_uhf.networks.distillation.teacher import UHFTeacher
    from nnunet_uhf.networks.guided.guide import guide
    from nnunet_uhf.networks.guided.network import UHFGuidedNet
    from nnunet_uhf.networks.siqt.unet import AnisotropicKeeper, AnisotropicUNet
    from nnunet_uhf.networks.space_to_depth.keeper import SpaceToDepthKeeper
    from nnunet_uhf.preprocessing.low_field.arrays import simulate_low_field
    from nnunet_uhf.preprocessing.low_field.simulator import LowFieldSimulator
    from nnunet_uhf.preprocessing.low_field.tissues import TissueMaps, tissues_from_labels
    from nnunet_uhf.report.compare import compare

_HOMES = {
    "AnisotropicKeeper": "networks.siqt.unet",
    "AnisotropicUNet": "networks.siqt.unet",
    "FeatureMaps": "inference.arrays",
    "KeeperFile": "keepers.file",
    "KeeperFileError": "errors",
    "KeeperHeader": "keepers.header",
    "KnowledgeKeeper": "networks.distillation.keeper",
    "LowFieldSimulator": "preprocessing.low_field.simulator",
    "MatchError": "errors",
    "SpaceToDepthKeeper": "networks.space_to_depth.keeper",
    "TissueMaps": "preprocessing.low_field.tissues",
    "UHFError": "errors",
    "UHFGuidedNet": "networks.guided.network",
    "UHFTeacher": "networks.distillation.teacher",
    "check_inputs": "inference.input_check",
    "compare": "report.compare",
    "enhance": "inference.enhance",
    "enhance_array": "inference.arrays",
    "feature_maps": "inference.arrays",
    "guide": "networks.guided.guide",
    "load_keeper": "keepers.load",
    "psnr": "evaluation.image_metrics",
    "read_header": "keepers.file",
    "read_keeper": "keepers.file",
    "simulate_low_field": "preprocessing.low_field.arrays",
    "ssim": "evaluation.image_metrics",
    "tissues_from_labels": "preprocessing.low_field.tissues",
    "write_untrained_keeper": "keepers.untrained",
}

__all__ = [
    "AnisotropicKeeper",
    "AnisotropicUNet",
    "FeatureMaps",
    "KeeperFile",
    "KeeperFileError",
    "KeeperHeader",
    "KnowledgeKeeper",
    "LowFieldSimulator",
    "MatchError",
    "SpaceToDepthKeeper",
    "TissueMaps",
    "UHFError",
    "UHFGuidedNet",
    "UHFTeacher",
    "__version__",
    "check_inputs",
    "compare",
    "enhance",
    "enhance_array",
    "feature_maps",
    "guide",
    "load_keeper",
    "psnr",
    "read_header",
    "read_keeper",
    "simulate_low_field",
    "ssim",
    "tissues_from_labels",
    "write_untrained_keeper",
]


if not TYPE_CHECKING:  # type checkers would take any name for one that is here

    def __getattr__(name: str) -> object:
        """Import a public name from its room, once (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
