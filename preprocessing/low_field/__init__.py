"""Stochastic low-field simulator after SIQT (Lin et al., Medical Image Analysis 2023), re-implemented.

Parameters are drawn apart from being applied, and everything here is a pure function of numpy arrays, so that a
data loader can simulate each patch anew. `folder` does it with files. Imports `imageio`.
"""

from nnunet_uhf.preprocessing.low_field.artefacts import ArtefactDraw, Artefacts
from nnunet_uhf.preprocessing.low_field.contrast import SNRDistribution
from nnunet_uhf.preprocessing.low_field.freesurfer import FREESURFER_TISSUES, tissues_from_freesurfer
from nnunet_uhf.preprocessing.low_field.mixture import parse_brightness, tissues_from_mixture
from nnunet_uhf.preprocessing.low_field.on_the_fly import CaseIntensities, PairSimulation
from nnunet_uhf.preprocessing.low_field.presets import (
    PRESETS,
    LowFieldPreset,
    choose_profile,
    find_preset,
    profile_for_ratio,
)
from nnunet_uhf.preprocessing.low_field.simulator import (
    LowFieldDraw,
    LowFieldResult,
    LowFieldSimulator,
    TissueMeans,
    target_image,
    tissue_means,
)
from nnunet_uhf.preprocessing.low_field.slice_profile import SliceProfile
from nnunet_uhf.preprocessing.low_field.tissues import (
    TissueMaps,
    parse_tissue_labels,
    tissues_from_labels,
    tissues_from_probabilities,
)

__all__ = [
    "FREESURFER_TISSUES",
    "PRESETS",
    "ArtefactDraw",
    "Artefacts",
    "CaseIntensities",
    "LowFieldDraw",
    "LowFieldPreset",
    "LowFieldResult",
    "LowFieldSimulator",
    "PairSimulation",
    "SNRDistribution",
    "SliceProfile",
    "TissueMaps",
    "TissueMeans",
    "choose_profile",
    "find_preset",
    "parse_brightness",
    "parse_tissue_labels",
    "profile_for_ratio",
    "target_image",
    "tissue_means",
    "tissues_from_freesurfer",
    "tissues_from_labels",
    "tissues_from_mixture",
    "tissues_from_probabilities",
]
