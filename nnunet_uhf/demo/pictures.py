"""Pictures of the held-out subjects, as PNG data URIs for the report."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nnunet_uhf.demo.settings import DemoSettings, Folders
from nnunet_uhf.demo.subjects import TISSUES
from nnunet_uhf.evaluation.image_metrics import linear_fit, psnr, ssim
from nnunet_uhf.pages.colours import GREEN, ORANGE, SKY_BLUE

Array = npt.NDArray[np.float32]
SHOWN_CONFIGURATION = "3d_fullres"
TISSUE_COLOURS = {"CSF": SKY_BLUE, "GM": ORANGE, "WM": GREEN}
MARGIN_VOXELS = 2


@dataclass(frozen=True)
class Panels:
    """What is shown of one subject: volumes (X, Y, Z), RAS, on one grid."""

    low_field: Array
    """Intensities after the best linear fit to the truth."""
    enhanced: Array
    truth: Array
    labels: Array
    plain: Array
    guided: Array


@dataclass(frozen=True)
class SubjectPicture:
    """One subject of the report."""

    name: str
    uri: str
    low_field_psnr: float
    low_field_ssim: float
    enhanced_psnr: float
    enhanced_ssim: float


def read_panels(name: str, folders: Folders) -> Panels:
    """Read everything the chain made of one held-out subject."""

    def read(folder: Path, ending: str = ".nii.gz") -> Array:
        return np.asarray(nib.load(folder / f"{name}{ending}").get_fdata(dtype=np.float32))

    truth, labels = read(folders.phantoms("high_field")), read(folders.phantoms("labels"))
    return Panels(
        low_field=linear_fit(truth, read(folders.phantoms("low_field"))).astype(np.float32),
        enhanced=read(folders.enhanced(SHOWN_CONFIGURATION), "_0000.nii.gz"),  # the name of the image in imagesTs
        truth=truth,
        labels=labels,
        plain=read(folders.prediction("plain", "ensemble")),
        guided=read(folders.prediction("guided", "ensemble")),
    )


def picture_subjects(settings: DemoSettings, folders: Folders) -> list[SubjectPicture]:
    """One picture for every held-out subject, with the image quality of what it shows."""
    pictures = []
    for name in settings.test:
        panels = read_panels(name, folders)
        pictures.append(
            SubjectPicture(
                name=name,
                uri=draw(panels),
                low_field_psnr=psnr(panels.truth, panels.low_field),
                low_field_ssim=ssim(panels.truth, panels.low_field),
                enhanced_psnr=psnr(panels.truth, panels.enhanced),
                enhanced_ssim=ssim(panels.truth, panels.enhanced),
            )
        )
    return pictures


def draw(panels: Panels) -> str:
    """Draw an axial and a coronal slice of every panel; returns a PNG as data URI."""
    brain = np.argwhere(panels.labels > 0)
    low = np.maximum(brain.min(axis=0) - MARGIN_VOXELS, 0)
    high = np.minimum(brain.max(axis=0) + MARGIN_VOXELS + 1, panels.labels.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    middle = [int(n * part) for n, part in zip(high - low, (0.5, 0.42, 0.52), strict=True)]
    window = float(np.percentile(panels.truth[panels.labels > 0], 99.5))

    def slices(volume: Array) -> list[Array]:
        cropped = volume[box]
        return [cropped[:, :, middle[2]].T, cropped[:, middle[1], :].T]

    images = {"low field": panels.low_field, "enhanced": panels.enhanced, "high field (truth)": panels.truth}
    maps = {"true tissues": panels.labels, "plain nnU-Net": panels.plain, "guided nnU-Net": panels.guided}
    heights = [s.shape[0] / s.shape[1] for s in slices(panels.truth)]
    figure = Figure(figsize=(12.6, 2.1 * sum(heights) + 0.25), facecolor="black")
    axes = figure.subplots(2, 6, squeeze=False, gridspec_kw={"height_ratios": heights})
    colours = ListedColormap([TISSUE_COLOURS[name] for name in TISSUES])
    background = slices(panels.low_field)
    for column, (title, volume) in enumerate({**images, **maps}.items()):
        for row, plane in enumerate(slices(volume)):
            axis = axes[row, column]
            axis.set_axis_off()
            if title in images:
                axis.imshow(plane, origin="lower", cmap="gray", vmin=0, vmax=window, interpolation="bicubic")
            else:
                grey = {"origin": "lower", "cmap": "gray", "vmin": 0, "vmax": window, "interpolation": "bicubic"}
                axis.imshow(background[row], **grey)
                tissues = np.ma.masked_equal(plane, 0)
                axis.imshow(
                    tissues, origin="lower", cmap=colours, vmin=0.5, vmax=3.5, alpha=0.75, interpolation="nearest"
                )
        axes[0, column].set_title(title, fontsize=11, color="white", pad=4)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.94, wspace=0.02, hspace=0.02)
    return encode(figure)


def encode(figure: Figure) -> str:
    """A figure as a PNG data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
