"""The 27 structures of the whole-brain task, and what becomes of them where sides cannot be told apart.

The list is the one of QuickNAT (Roy et al., NeuroImage 186, 2019) and of arXiv 2402.08409: twelve structures on either
side and three in the middle. In sagittal slices left and right look alike, so that plane is trained with the sides
merged: 15 structures and the background, 16 classes.
"""

from __future__ import annotations

LEFT, RIGHT = "Left-", "Right-"
#: Structure names in the order of their label values 1 to 27.
STRUCTURES = (
    "Left-Cerebral-White-Matter",
    "Right-Cerebral-White-Matter",
    "Left-Cerebral-Cortex",
    "Right-Cerebral-Cortex",
    "Left-Lateral-Ventricle",
    "Right-Lateral-Ventricle",
    "Left-Cerebellum-White-Matter",
    "Right-Cerebellum-White-Matter",
    "Left-Cerebellum-Cortex",
    "Right-Cerebellum-Cortex",
    "Left-Thalamus",
    "Right-Thalamus",
    "Left-Caudate",
    "Right-Caudate",
    "Left-Putamen",
    "Right-Putamen",
    "Left-Pallidum",
    "Right-Pallidum",
    "3rd-Ventricle",
    "4th-Ventricle",
    "Brain-Stem",
    "Left-Hippocampus",
    "Right-Hippocampus",
    "Left-Amygdala",
    "Right-Amygdala",
    "Left-VentralDC",
    "Right-VentralDC",
)


def without_side(structure: str) -> str:
    """Name of a structure without its side: ``Left-Putamen`` -> ``Putamen``."""
    return structure.removeprefix(LEFT).removeprefix(RIGHT)
