"""Low field of an image in memory, in one call; :class:`LowFieldSimulator` has every parameter."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from nnunet_uhf.preprocessing.low_field.mixture import tissues_from_mixture
from nnunet_uhf.preprocessing.low_field.presets import find_preset, profile_for_ratio
from nnunet_uhf.preprocessing.low_field.simulator import LowFieldSimulator
from nnunet_uhf.preprocessing.low_field.tissues import TISSUE_VALUES, TissueLabels, TissueMaps, tissues_from_labels
from nnunet_uhf.types import FloatArray


def simulate_low_field(
    image: npt.NDArray[np.number],
    tissues: TissueMaps | npt.NDArray[np.number] | None = None,
    *,
    labels: TissueLabels = TISSUE_VALUES,
    preset: str = "t1w_0.36T_probable",
    ratio: int = 4,
    axis: int = -1,
    noise_scale: float = 1.0,
    grid: Literal["native", "regrid"] = "regrid",
    seed: int = 0,
) -> FloatArray:
    """Simulate a low-field scan of a high-field one: tissue contrast, thick slices, noise (SIQT).

    Args:
        image: skull-stripped high-field image ``(*S)``, 2D or 3D, raw intensities (brain > 0, not z-scored).
        tissues: label map ``(*S)``, or tissue maps; None estimates them from the intensities of a T1w image.
        labels: label value or values of ``csf``, ``gm`` and ``wm`` in a label map; others count as outside the brain.
        preset: contrast and SNR, a name (``nnunet-uhf simulate --help`` lists them) or a JSON file of measurements.
        ratio: slice distance in voxels: 1 (no thick slices), 2, 3, 4, 6 or 8.
        axis: that the slices lie along.
        noise_scale: factor on the noise; above 1 is noisier than the preset says.
        grid: ``regrid`` fills the slices to the input's grid, ``native`` keeps them thick.
        seed: of SNR and noise; the same seed gives the same scan.

    Returns:
        ``(*S)`` float32 in the input's intensity units; in ``native`` with S / ratio slices along ``axis``.

    Raises:
        UHFError: unequal shapes, no such preset, ratio or axis, labels without grey or white matter, z-scores.

    Source: Lin et al., Medical Image Analysis 2023, re-implemented; defaults are ours.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import simulate_low_field
        >>> labels = np.zeros((16, 16, 16), dtype=int)
        >>> labels[2:14, 2:14, 2:14], labels[4:12, 4:12, 4:12] = 2, 3  # grey matter around white matter
        >>> high_field = np.choose(labels, [0, 30, 60, 90])
        >>> low_field = simulate_low_field(high_field, labels, ratio=2, seed=1)
        >>> low_field.shape
        (16, 16, 16)
        >>> bool((low_field == simulate_low_field(high_field, labels, ratio=2, seed=1)).all())
        True
        >>> simulate_low_field(high_field, labels, ratio=2, grid="native").shape
        (16, 16, 8)
    """
    if tissues is None:
        tissues = tissues_from_mixture(np.asarray(image), seed=seed)
    elif not isinstance(tissues, TissueMaps):
        tissues = tissues_from_labels(tissues, labels)
    simulator = LowFieldSimulator(
        snr=find_preset(preset).snr,
        profiles=(profile_for_ratio(ratio),),
        axes=(axis + image.ndim if axis < 0 else axis,),
        noise_scale=(noise_scale, noise_scale),
        grid=grid,
    )
    return simulator.apply(image, tissues, simulator.draw(np.random.default_rng(seed))).image
