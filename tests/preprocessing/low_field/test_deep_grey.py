from __future__ import annotations

import nibabel
import numpy as np
import pytest

from helpers.support import shared_data
from nnunet_uhf.preprocessing.low_field import LowFieldSimulator, find_preset, profile_for_ratio, tissues_from_labels
from nnunet_uhf.preprocessing.low_field.deep_grey import REACH_MM, local_mean, mixed_by_intensity

NUMBERS = {"csf": 1, "gm": 2, "wm": 3}
REGIONS = {"cortex": (3, 4), "thalamus": (11, 12), "putamen": (15, 16), "pallidum": (17, 18)}


def test_grey_as_bright_as_white_is_white_and_the_total_stays() -> None:
    labels = np.full((24, 24, 24), 2)
    labels[8:16] = 3
    image = np.choose(labels, [0.0, 0.0, 60.0, 100.0])
    image[:2] = 100.0  # deep grey
    image[22:] = 90.0  # between, nearer to white
    tissues = tissues_from_labels(labels, NUMBERS)
    mixed = mixed_by_intensity(image, tissues, (4.0, 4.0, 4.0))
    assert mixed.wm[0].mean() == pytest.approx(1, abs=0.05)
    assert mixed.wm[23].mean() == pytest.approx(0.5, abs=0.1)
    assert mixed.wm[6].mean() == pytest.approx(0, abs=0.1)
    assert np.allclose(mixed.total(), tissues.total())


def test_a_scan_without_contrast_keeps_its_maps() -> None:
    labels = np.full((8, 8, 8), 2)
    labels[4:] = 3
    tissues = tissues_from_labels(labels, NUMBERS)
    assert mixed_by_intensity(np.full(labels.shape, 50.0), tissues, (1.0, 1.0, 1.0)) is tissues


@pytest.mark.parametrize("number", range(3))
def test_deep_grey_of_real_subjects_stays_between_grey_and_white_of_its_place(number: int) -> None:
    folder = shared_data() / "ixi_hh_2mm"
    case = sorted(path.name for path in (folder / "images").glob("*.nii.gz"))[number]
    scan = nibabel.load(folder / "images" / case)
    image = scan.get_fdata(dtype=np.float32)
    labels = np.asarray(nibabel.load(folder / "labels_tissue" / case).dataobj)
    regions = np.asarray(nibabel.load(folder / "labels_region" / case).dataobj)
    tissues = tissues_from_labels(labels, NUMBERS)
    spacing = tuple(map(float, scan.header.get_zooms()[:3]))
    axis = int(np.argmax(np.abs(scan.affine[2, :3])))
    simulator = LowFieldSimulator(
        snr=find_preset("t1w_0.36T_probable").snr,
        profiles=(profile_for_ratio(2),),
        noise_scale=(0.0, 0.0),
        axes=(axis,),
    )
    draw = simulator.draw(np.random.default_rng(number))

    def of_white(volume: np.ndarray) -> dict[str, float]:
        """Median of each region as a part of the white matter around it."""
        white = local_mean(volume, (labels == 3).astype(np.float32), REACH_MM, spacing)
        relative = volume / np.maximum(white, 1e-3)
        return {name: float(np.median(relative[np.isin(regions, values)])) for name, values in REGIONS.items()}

    scanned, mixed = of_white(image), mixed_by_intensity(image, tissues, spacing)
    before, after = (of_white(simulator.apply(image, maps, draw).image) for maps in (tissues, mixed))
    for name in ("thalamus", "putamen", "pallidum"):
        assert after["cortex"] < after[name] < before[name], (name, before, after)
        assert after[name] < scanned[name] + 0.04, (name, scanned, after)
    assert before["thalamus"] > scanned["thalamus"] + 0.08  # what was wrong
    assert abs(after["cortex"] - before["cortex"]) < 0.07  # its own contrast, no longer mixed with deep grey's
