"""N4 bias field correction (Tustison 2010) with SimpleITK."""

from __future__ import annotations

import dataclasses

import numpy as np
import SimpleITK as sitk

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import Volume
from nnunet_uhf.preprocessing.pairing.foreground import foreground
from nnunet_uhf.preprocessing.pairing.geometry import to_sitk

ITERATIONS = (40, 40, 30)
#: The field is smooth: it is estimated on at least this many voxels an axis and drawn out to all.
COARSE_SIZE = 48


def without_bias_field(scan: Volume) -> Volume:
    """The scan divided by the smooth field that N4 finds in its foreground.

    Raises:
        UHFError: N4 fails on the scan.
    """
    image = to_sitk(scan.data, scan.affine)
    mask = to_sitk(foreground(scan.data).astype(np.uint8), scan.affine)
    factors = [max(1, size // COARSE_SIZE) for size in image.GetSize()]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(ITERATIONS)
    try:
        corrector.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
        field = corrector.GetLogBiasFieldAsImage(image)
    except RuntimeError as error:
        raise UHFError(f"N4 fails on {scan.path}: leave out --n4 or correct the scan with another tool") from error
    corrected = scan.data / np.exp(sitk.GetArrayFromImage(field).T)
    if not np.isfinite(corrected).all():
        raise UHFError(f"N4 finds no field in {scan.path}: leave out --n4 or correct the scan with another tool")
    return dataclasses.replace(scan, data=corrected.astype(np.float32))
