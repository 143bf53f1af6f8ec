"""Brain masks by HD-BET: how it is called, and what is said when it fails or is not there. The program is a fake."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.pair_samples import AFFINE, high_field, subject
from helpers.tiny_data import write_image
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import Volume, read_volume
from nnunet_uhf.preprocessing.pairing.hd_bet import PROGRAM, brain_by_hd_bet
from nnunet_uhf.preprocessing.pairing.masks import mask_labels, mask_of_scan

STAND_IN = """#!{python}
import sys
import nibabel as nib
import numpy as np
given = sys.argv[1:]
source, target = given[given.index("-i") + 1], given[given.index("-o") + 1]
assert "--save_bet_mask" in given and "--no_bet_image" in given and given[given.index("-device") + 1] in ("cpu", "cuda")
scan = nib.load(source)
{action}
"""
MAKES_A_MASK = """
mask = (np.asarray(scan.dataobj) > 30).astype(np.uint8)
nib.save(nib.Nifti1Image(mask, scan.affine), target.replace(".nii.gz", "_bet.nii.gz"))
"""


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    """A head with skull: nowhere zero."""
    path = tmp_path / "béla 2.nii.gz"
    write_image(path, high_field(subject(7)) + 1, AFFINE)
    return read_volume(path)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    program = folder / "bin" / PROGRAM
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable, action=action))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_its_mask_is_the_brain_on_the_grid_of_the_scan(
    scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, MAKES_A_MASK)
    before = scan.path.read_bytes()
    mask = mask_of_scan(scan, "hd-bet")
    np.testing.assert_array_equal(mask, scan.data > 30)
    assert 0.05 < mask.mean() < 0.95
    assert scan.path.read_bytes() == before
    assert mask_labels("hd-bet", given=False) == {"background": 0, "brain": 1}


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("sys.exit('no weights: offline')", "hd-bet failed: no weights: offline; or give brain masks"),
        ("pass", "hd-bet failed: exit status 0"),
        (MAKES_A_MASK.replace("> 30", "> 1e9"), "hd-bet found no brain"),
        (MAKES_A_MASK.replace("scan.dataobj)", "scan.dataobj)[1:]"), "hd-bet found no brain"),
    ],
)
def test_its_failures_are_one_line_that_names_the_scan(
    action: str, message: str, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, action)
    with pytest.raises(UHFError, match=message) as caught:
        brain_by_hd_bet(scan)
    assert str(scan.path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_it_is_not_installed_the_extra_is_named(
    scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UHFError, match=r'pip install "nnunet-uhf\[brain\]"'):
        brain_by_hd_bet(scan)
