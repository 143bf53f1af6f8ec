"""Simulate low field of an array.

A phantom head of the ICBM template, of which low-field scans are simulated: with thicker slices, and with more noise.
Nothing here was acquired, and what it is called, simulated, it should be called wherever it is shown.
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np

from nnunet_uhf import psnr, simulate_low_field
from nnunet_uhf.demo.subjects import TISSUES, make_subject

subject = make_subject("phantom", seed=1, shape=(96, 112, 96), spacing_mm=2.0)
labels = {"csf": TISSUES["CSF"], "gm": TISSUES["GM"], "wm": TISSUES["WM"]}

scans = {"high field": subject.image}
for ratio, noise_scale in ((2, 1.0), (4, 1.0), (4, 6.0)):
    title = f"slices of {2 * ratio} mm, noise x {noise_scale:g}"
    scans[title] = simulate_low_field(
        subject.image, subject.labels, labels=labels, ratio=ratio, noise_scale=noise_scale, seed=1
    )

figure, axes = plt.subplots(2, len(scans), figsize=(12, 6.4), layout="constrained")
for column, (title, scan) in zip(axes.T, scans.items(), strict=True):
    sagittal, axial = scan[40], scan[:, :, 50]
    for axis, image in zip(column, (sagittal, axial), strict=True):
        axis.imshow(np.rot90(image), cmap="gray", vmin=0, vmax=1.2)
        axis.set_axis_off()
    column[0].set_title(title)
    if scan is not subject.image:
        column[1].set_title(f"PSNR {psnr(subject.image, scan):.1f} dB", fontsize="medium")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "simulate_low_field.png", dpi=90)
