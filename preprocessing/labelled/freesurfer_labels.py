"""Label numbers of FreeSurfer's subcortical segmentation (aseg.mgz).

Source of every number: `FreeSurferColorLUT.txt` of FreeSurfer (https://github.com/freesurfer/freesurfer, folder
`distribution`). Which number belongs to which of the 27 structures:

- inferior lateral ventricles and choroid plexus are part of the lateral ventricles, as in FreeSurfer's own
  ventricle volume with choroid plexus;
- white matter hypointensities and the corpus callosum (251 to 255) are cerebral white matter, as in FreeSurfer's own
  white matter volume; where the number has no side, that of the nearest white matter voxel (ours);
- FreeSurfer has no vermis of its own: it is cerebellar cortex here, other than in the MICCAI 2012 data;
- accumbens, vessels, optic chiasm, 5th ventricle, non-white hypointensities and CSF are none of the 27: background.
"""

from __future__ import annotations

from nnunet_uhf.preprocessing.labelled.label_table import LabelTable
from nnunet_uhf.preprocessing.labelled.structures import STRUCTURES

NUMBERS: dict[int, str | None] = {
    1: None,  # Left-Cerebral-Exterior
    2: "Left-Cerebral-White-Matter",
    3: "Left-Cerebral-Cortex",
    4: "Left-Lateral-Ventricle",
    5: "Left-Lateral-Ventricle",  # Left-Inf-Lat-Vent
    6: None,  # Left-Cerebellum-Exterior, the space around it
    7: "Left-Cerebellum-White-Matter",
    8: "Left-Cerebellum-Cortex",
    9: "Left-Thalamus",  # unused since Thalamus-Proper
    10: "Left-Thalamus",
    11: "Left-Caudate",
    12: "Left-Putamen",
    13: "Left-Pallidum",
    14: "3rd-Ventricle",
    15: "4th-Ventricle",
    16: "Brain-Stem",
    17: "Left-Hippocampus",
    18: "Left-Amygdala",
    24: None,  # CSF
    26: None,  # Left-Accumbens-area
    28: "Left-VentralDC",
    30: None,  # Left-vessel
    31: "Left-Lateral-Ventricle",  # Left-choroid-plexus
    40: None,  # Right-Cerebral-Exterior
    41: "Right-Cerebral-White-Matter",
    42: "Right-Cerebral-Cortex",
    43: "Right-Lateral-Ventricle",
    44: "Right-Lateral-Ventricle",  # Right-Inf-Lat-Vent
    45: None,  # Right-Cerebellum-Exterior
    46: "Right-Cerebellum-White-Matter",
    47: "Right-Cerebellum-Cortex",
    48: "Right-Thalamus",
    49: "Right-Thalamus",
    50: "Right-Caudate",
    51: "Right-Putamen",
    52: "Right-Pallidum",
    53: "Right-Hippocampus",
    54: "Right-Amygdala",
    58: None,  # Right-Accumbens-area
    60: "Right-VentralDC",
    62: None,  # Right-vessel
    63: "Right-Lateral-Ventricle",  # Right-choroid-plexus
    72: None,  # 5th-Ventricle
    77: "Cerebral-White-Matter",  # WM-hypointensities
    78: "Left-Cerebral-White-Matter",  # Left-WM-hypointensities
    79: "Right-Cerebral-White-Matter",  # Right-WM-hypointensities
    80: None,  # non-WM-hypointensities
    81: None,  # Left-non-WM-hypointensities
    82: None,  # Right-non-WM-hypointensities
    85: None,  # Optic-Chiasm
    251: "Cerebral-White-Matter",  # CC_Posterior
    252: "Cerebral-White-Matter",  # CC_Mid_Posterior
    253: "Cerebral-White-Matter",  # CC_Central
    254: "Cerebral-White-Matter",  # CC_Mid_Anterior
    255: "Cerebral-White-Matter",  # CC_Anterior
}
FREESURFER_TABLE = LabelTable(STRUCTURES, NUMBERS)
