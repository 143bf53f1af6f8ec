"""Pictures of the held-out subjects, as PNG data URIs for the report."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nnunet_uhf.demo.settings import MODELS, NAMES, DemoSettings, Folders
from nnunet_uhf.demo.subjects import TISSUES
from nnunet_uhf.evaluation.image_metrics import linear_fit, psnr, ssim
from nnunet_uhf.imageio.planes import PLANES, Slice, box_around, cut, standard_axes, standard_spacing
from nnunet_uhf.pages.colours import GREEN, ORANGE, SKY_BLUE, YELLOW
from nnunet_uhf.types import Affine

Array = npt.NDArray[np.float32]
TISSUE_COLOURS = {"CSF": SKY_BLUE, "GM": ORANGE, "WM": GREEN}


@dataclass(frozen=True)
class Panels:
    """What is shown of one subject: volumes (X, Y, Z), RAS, on one grid."""

    low_field: Array
    """Intensities after the best linear fit to the truth."""
    enhanced: Array
    truth: Array
    labels: Array
    predicted: dict[str, Array]
    """Label map by model, in the order in which they are shown."""
    affine: Affine


@dataclass(frozen=True)
class SubjectPicture:
    """One subject of the report."""

    name: str
    uri: str
    low_field_psnr: float
    low_field_ssim: float
    enhanced_psnr: float
    enhanced_ssim: float


def read_panels(name: str, configuration: str, folders: Folders) -> Panels:
    """Read everything the chain made of one held-out subject."""

    def read(folder: Path, ending: str = ".nii.gz") -> Array:
        return np.asarray(nib.load(folder / f"{name}{ending}").get_fdata(dtype=np.float32))

    affine = nib.load(folders.phantoms("labels") / f"{name}.nii.gz").affine

    truth, labels = read(folders.phantoms("high_field")), read(folders.phantoms("labels"))
    return Panels(
        low_field=linear_fit(truth, read(folders.phantoms("low_field"))).astype(np.float32),
        enhanced=read(folders.enhanced(configuration), "_0000.nii.gz"),  # the name of the image in imagesTs
        truth=truth,
        labels=labels,
        predicted={NAMES[model]: read(folders.prediction(model, configuration)) for model in MODELS},
        affine=affine,
    )


def picture_subjects(settings: DemoSettings, folders: Folders) -> list[SubjectPicture]:
    """One picture for every held-out subject, with the image quality of what it shows."""
    pictures = []
    for name in settings.test:
        panels = read_panels(name, settings.shown, folders)
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
    """Draw an axial and a coronal slice of every panel, the patient's right at the left; returns a PNG as data URI."""
    spacing = standard_spacing(panels.affine, panels.labels.shape)
    box = box_around(panels.labels > 0, spacing)
    size = [part.stop - part.start for part in box]
    where = (Slice("axial", int(0.52 * size[2])), Slice("coronal", int(0.42 * size[1])))
    window = float(np.percentile(panels.truth[panels.labels > 0], 99.5))

    def slices(volume: Array) -> list[Array]:
        turned = standard_axes(volume, panels.affine)[0][box]
        return [cut(turned, one) for one in where]

    images = {"low field": panels.low_field, "enhanced": panels.enhanced, "high field (truth)": panels.truth}
    maps = {"true tissues": panels.labels, **panels.predicted}
    heights = [plane.shape[0] / plane.shape[1] for plane in slices(panels.truth)]
    columns = len(images) + len(maps)
    figure = Figure(figsize=(2.1 * columns, 2.1 * sum(heights) + 0.4), facecolor="black")
    axes = figure.subplots(2, columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    colours = ListedColormap([TISSUE_COLOURS[name] for name in TISSUES])
    background = slices(panels.low_field)
    grey = {"cmap": "gray", "vmin": 0, "vmax": window, "interpolation": "bicubic"}
    for column, (title, volume) in enumerate({**images, **maps}.items()):
        for row, plane in enumerate(slices(volume)):
            axis = axes[row, column]
            axis.set_axis_off()
            axis.imshow(plane if title in images else background[row], **grey)
            if title in maps:
                tissues = np.ma.masked_equal(plane, 0)
                axis.imshow(tissues, cmap=colours, vmin=0.5, vmax=3.5, alpha=0.75, interpolation="nearest")
            _mark(axis, PLANES[where[row].plane].marks)
        axes[0, column].set_title(title.replace(" by a ", "\nby a "), fontsize=10, color="white", pad=4)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.91, wspace=0.02, hspace=0.02)
    return encode(figure)


def _mark(axis: Axes, marks: tuple[str, str, str, str]) -> None:
    """The letters of the directions at the borders of a panel."""
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.98, "center", "top"),
              (0.5, 0.02, "center", "bottom"))  # fmt: skip
    for letter, (x, y, across, up) in zip(marks, places, strict=True):
        axis.text(x, y, letter, transform=axis.transAxes, color=YELLOW, fontsize=9, fontweight="bold", ha=across, va=up)


def encode(figure: Figure) -> str:
    """A figure as a PNG data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
