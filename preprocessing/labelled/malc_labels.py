"""Label numbers of the MICCAI 2012 multi-atlas labelling data (Neuromorphometrics, BrainCOLOR protocol).

Source of every number, unless a line says otherwise: `tpm/labels_Neuromorphometrics.xml` of SPM12
(https://github.com/spm/spm12), the table that SPM distributes with its atlas made of these data ("MICCAI 2012 Grand
Challenge and Workshop on Multi-Atlas Labeling"; labels provided by Neuromorphometrics, Inc., under academic
subscription). Cortical regions are 100 to 207, even numbers right, odd numbers left; the numbers that are left out
here do not occur in that table. The remapping of QuickNAT (`remap_labels`, configuration "Neo") reads the same
numbers the same way: 210 for even and 211 for odd numbers from 100 on, beside 44 and 45, the white matter.

Which number belongs to which of the 27 structures:

- inferior lateral ventricles are part of the lateral ventricles (ours: they are the same cavity);
- "Cerebellum Exterior" is the cerebellar cortex;
- accumbens, basal forebrain, vermis, optic chiasm, vessels and extra-ventricular CSF are none of the 27: background.

Beware of the files of NiftySeg/GIF, which number the same structures one higher.
"""

from __future__ import annotations

from nnunet_uhf.preprocessing.labelled.label_table import LabelTable
from nnunet_uhf.preprocessing.labelled.structures import STRUCTURES

# cortical numbers that the table of SPM12 does not have
_UNUSED_CORTEX = (110, 111, 126, 127, 130, 131, 158, 159, 188, 189)
CORTEX: dict[int, str | None] = {
    number: "Left-Cerebral-Cortex" if number % 2 else "Right-Cerebral-Cortex"
    for number in range(100, 208)
    if number not in _UNUSED_CORTEX
}
NUMBERS: dict[int, str | None] = {
    4: "3rd-Ventricle",
    11: "4th-Ventricle",
    23: None,  # Right Accumbens Area
    30: None,  # Left Accumbens Area
    31: "Right-Amygdala",
    32: "Left-Amygdala",
    35: "Brain-Stem",
    36: "Right-Caudate",
    37: "Left-Caudate",
    38: "Right-Cerebellum-Cortex",  # Right Cerebellum Exterior
    39: "Left-Cerebellum-Cortex",  # Left Cerebellum Exterior
    40: "Right-Cerebellum-White-Matter",
    41: "Left-Cerebellum-White-Matter",
    44: "Right-Cerebral-White-Matter",
    45: "Left-Cerebral-White-Matter",
    46: None,  # CSF
    47: "Right-Hippocampus",
    48: "Left-Hippocampus",
    49: "Right-Lateral-Ventricle",  # Right Inf Lat Vent
    50: "Left-Lateral-Ventricle",  # Left Inf Lat Vent
    51: "Right-Lateral-Ventricle",
    52: "Left-Lateral-Ventricle",
    55: "Right-Pallidum",
    56: "Left-Pallidum",
    57: "Right-Putamen",
    58: "Left-Putamen",
    59: "Right-Thalamus",  # Right Thalamus Proper
    60: "Left-Thalamus",  # Left Thalamus Proper
    61: "Right-VentralDC",
    62: "Left-VentralDC",
    63: None,  # Right vessel
    64: None,  # Left vessel
    69: None,  # Optic Chiasm
    71: None,  # Cerebellar Vermal Lobules I-V
    72: None,  # Cerebellar Vermal Lobules VI-VII
    73: None,  # Cerebellar Vermal Lobules VIII-X
    75: None,  # Left Basal Forebrain
    76: None,  # Right Basal Forebrain
    **CORTEX,
}
MALC_TABLE = LabelTable(STRUCTURES, NUMBERS)
