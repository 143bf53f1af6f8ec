"""Images of a chosen field strength from label maps: relaxation times, signal equations, partial volume, bias field.

Imports `low_field` for the tables of tissues, and `imageio`.
"""

from nnunet_uhf.preprocessing.synthesis.anatomy import Anatomy, SimulatedStructure, vary_structures
from nnunet_uhf.preprocessing.synthesis.image import bias_field, rician, structure_signals, synthesise_image
from nnunet_uhf.preprocessing.synthesis.relaxation import (
    FIELDS_T,
    PROTON_DENSITY,
    SOURCES,
    t1_seconds,
    t2_seconds,
    t2_star_seconds,
)
from nnunet_uhf.preprocessing.synthesis.signal import (
    Sequence,
    inversion_recovery,
    spin_echo,
    spoiled_gradient_echo,
)

__all__ = [
    "FIELDS_T",
    "PROTON_DENSITY",
    "SOURCES",
    "Anatomy",
    "Sequence",
    "SimulatedStructure",
    "bias_field",
    "inversion_recovery",
    "rician",
    "spin_echo",
    "spoiled_gradient_echo",
    "structure_signals",
    "synthesise_image",
    "t1_seconds",
    "t2_seconds",
    "t2_star_seconds",
    "vary_structures",
]
