"""Local equalisation as the paper does with IBSR, on request."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from skimage.exposure import equalize_adapthist

from nnunet_uhf.cli import main
from nnunet_uhf.preprocessing.labelled.clahe import equalised

SHAPE = (20, 25, 15)


def scan() -> np.ndarray:
    image = np.random.default_rng(0).uniform(50, 900, SHAPE)
    image[:4] = 0
    return image.astype(np.float32)


def test_it_is_scikit_images_with_a_fifth_of_the_image_as_kernel_and_a_clip_of_a_fifth() -> None:
    image = scan()
    expected = equalize_adapthist(image / image.max(), kernel_size=(4, 5, 3), clip_limit=0.2)
    made = equalised(image)
    inside = image > 0
    np.testing.assert_allclose(made[inside], expected[inside], atol=1e-6)
    assert made.dtype == np.float32
    assert (made > 0).tolist() == inside.tolist()  # the background stays 0, and nothing else is


def test_an_axis_of_three_slices_is_no_colour_and_an_image_of_one_value_no_error() -> None:
    image = np.random.default_rng(0).uniform(1, 9, (20, 15, 3))
    expected = equalize_adapthist(
        np.moveaxis((image - image.min()) / np.ptp(image), 0, -1), kernel_size=(3, 1, 4), clip_limit=0.2
    )
    np.testing.assert_allclose(equalised(image), np.moveaxis(expected, -1, 0), atol=1e-6)
    assert not equalised(np.full((3, 3, 3), 7)).any()


@pytest.mark.parametrize("asked", [True, False])
def test_convert_ibsr_does_it_when_it_is_asked_and_says_so_in_the_record(tmp_path: Path, asked: bool) -> None:
    for number in ("01", "02"):
        folder = tmp_path / "in" / f"IBSR_{number}"
        folder.mkdir(parents=True)
        labels = (scan() > 0).astype(np.uint8) * np.random.default_rng(1).integers(1, 4, SHAPE).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(scan(), np.eye(4)), folder / f"IBSR_{number}_ana_strip.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / f"IBSR_{number}_segTRI_ana.nii.gz")
    out = tmp_path / "Dataset111_IBSR"
    words = ["convert", "ibsr", "-i", str(tmp_path / "in"), "-o", str(out), *(["--clahe"] if asked else [])]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    written = nibabel.load(out / "imagesTr" / "IBSR_01_0000.nii.gz").get_fdata()
    np.testing.assert_allclose(written, equalised(scan()) if asked else scan(), atol=1e-6)
    record = json.loads((out / "conversion.json").read_text())
    assert record.get("clahe", {}).get("clip_limit") == (0.2 if asked else None)
