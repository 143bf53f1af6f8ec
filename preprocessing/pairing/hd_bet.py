"""Brain masks by HD-BET (Isensee et al., Human Brain Mapping 40, 2019), which runs as a program of its own.

It is optional (`pip install "nnunet-uhf[brain]"`), downloads its weights when it first runs, and is trained on heads at
1.5 T and 3 T: look at what it makes of other fields.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import Volume, read_volume, write_volume
from nnunet_uhf.types import Mask

PROGRAM = "hd-bet"


def brain_by_hd_bet(scan: Volume) -> Mask:
    """The brain (X, Y, Z) of a scan with skull, on a GPU where there is one.

    Raises:
        UHFError: HD-BET is not installed, fails, or finds no brain.
    """
    beside_python = Path(sys.executable).with_name(PROGRAM)
    program = str(beside_python) if beside_python.is_file() else shutil.which(PROGRAM)
    if program is None:
        raise UHFError(
            f'{scan.path}: {PROGRAM} is not installed; pip install "nnunet-uhf[brain]", or give brain masks (--masks)'
        )
    with tempfile.TemporaryDirectory(prefix="hd_bet_") as folder:
        image, brain = Path(folder) / "scan.nii.gz", Path(folder) / "brain.nii.gz"
        write_volume(image, scan.data, header=scan.header)
        device = ("cuda",) if torch.cuda.is_available() else ("cpu", "--disable_tta")
        command = [program, "-i", image, "-o", brain, "--save_bet_mask", "--no_bet_image", "-device", *device]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        made = brain.with_name("brain_bet.nii.gz")
        if done.returncode != 0 or not made.is_file():
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            raise UHFError(f"{scan.path}: {PROGRAM} failed: {said[-1].strip()}; or give brain masks (--masks)")
        mask: Mask = read_volume(made).data > 0
    if mask.shape != scan.data.shape or not mask.any():
        raise UHFError(f"{scan.path}: {PROGRAM} found no brain; give brain masks (--masks), or --mask head")
    return np.ascontiguousarray(mask)
