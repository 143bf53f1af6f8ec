"""One model that makes images of scans: reads a scan as the model does, and gives the image in the scan's geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from nnunet_uhf import __version__
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import read_volume
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.imageio.restore import restore_grid
from nnunet_uhf.inference.changes import change_map
from nnunet_uhf.inference.enhancer import Enhancer
from nnunet_uhf.inference.every_scan import Report
from nnunet_uhf.inference.input_check import InputCheck, check_for_enhancing, without_statistics
from nnunet_uhf.inference.inputs import Scan
from nnunet_uhf.inference.neighbours import with_neighbours
from nnunet_uhf.inference.notes import origin_of_image
from nnunet_uhf.inference.orientation import not_turned, stored_as, turn_of
from nnunet_uhf.inference.outputs import CHANGES, IMAGE, UNCERTAINTY, Outputs
from nnunet_uhf.inference.predictor import ImagePredictor
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.inference.thick_scans import SliceGeometry, slice_geometry, stretch_of
from nnunet_uhf.inference.uncertainty import with_spread, wrapped
from nnunet_uhf.keepers.trained_teacher import TEACHER
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.types import Affine, FloatArray


class ScanGeometry(NamedTuple):
    """What the header of a scan tells: the turn to the axes of the training, the geometry of thick slices."""

    turn: Turn | None
    geometry: SliceGeometry | None


@dataclass(frozen=True)
class ReadScan:
    """A scan as the network reads it, and what is needed to write its image; geometry: of thick slices."""

    scan: Scan
    stored: str
    turn: Turn | None
    data: NDArray[np.float32]
    mask: NDArray[np.bool_]
    properties: dict[str, Any]
    geometry: SliceGeometry | None
    check: InputCheck | None

    @property
    def step(self) -> Affine | None:
        """Voxel index of the image to voxel index of the scan; None on one grid."""
        return None if self.geometry is None else self.geometry.step


class ImageMaker:
    """Makes the images of scans by one model.

    Args:
        enhancer: the model.
        outputs: what is made of a scan beside its image.
        device: where to predict.
        console: for what is to be told.
        axis: of thick slices, where it is not the training's.
        mirroring: average over mirrored inputs.
        tile_step_size: between windows, over their size.

    Raises:
        UHFError: the model has no uncertainty, or makes slices that its input does not have, whose changes nothing
            tells.
    """

    def __init__(
        self,
        enhancer: Enhancer,
        outputs: Outputs,
        *,
        device: torch.device,
        console: Console,
        axis: str | None = None,
        mirroring: bool = False,
        tile_step_size: float = 0.5,
    ) -> None:
        self.enhancer, self.header, self.outputs = enhancer, enhancer.headers[0], outputs
        self.device, self.console, self.axis = device, console, axis
        header = self.header
        network: nn.Module = enhancer.network
        parameters: Sequence[Mapping[str, Tensor]] = enhancer.parameters
        stretch = stretch_of(header)
        if outputs.changes and any(factor != 1 for factor in stretch):
            raise UHFError(
                f"{enhancer.name} makes slices between those of its input, which has nothing to compare them with: "
                "leave --changes out"
            )
        if outputs.uncertainty:
            network = with_spread(network, header=header)
            parameters = [wrapped(one) for one in parameters]
        self.neighbours = KINDS[header.network].neighbours(header.architecture)
        self.predictor = ImagePredictor(device=device, tile_step_size=tile_step_size, use_mirroring=mirroring)
        self.predictor.set_network(
            network,
            managers(header)[1],
            parameters=parameters,
            # mirrored slices would not lie where the model expects their samples
            mirroring_axes=[n for n in range(header.dim) if stretch[n - header.dim] == 1] if mirroring else None,
            stretch=stretch,
            outputs=2 if outputs.uncertainty else 1,
        )

    def tell_of_inputs(self) -> None:
        """Say what of inputs is not checked and not turned."""
        header, notes = self.header, []
        if header.feature_statistics is None and not str(header.metrics.get("note", "")).startswith(TEACHER):
            notes.append(f"inputs are not checked: {without_statistics(header)}")
        turned = not_turned(header)
        if turned is not None:
            notes.append(turned)
        for note in notes:
            self.console.print(note, highlight=False, markup=False)

    def prepare(self, scan: Scan) -> ScanGeometry:
        """What the header of a scan tells; UHFError where its slices lie along another axis."""
        turn = turn_of(self.header, scan[0])
        return ScanGeometry(turn, slice_geometry(self.header, scan[0], axis=self.axis, turn=turn))

    def read(self, scan: Scan, prepared: ScanGeometry) -> ReadScan:
        """Read and check one scan; UHFError when it is none that can be enhanced."""
        turn, geometry = prepared
        if geometry is not None and geometry.warning:
            self.console.print(f"warning: {scan[0].name}: {geometry.warning}", highlight=False, markup=False)
        read = managers(self.header if geometry is None else geometry.header)
        data, mask, properties = preprocess_image(scan, *read, turn=turn)
        check = check_for_enhancing(self.header, self.enhancer.network, data, self.device, scan[0], self.console)
        return ReadScan(scan, stored_as(scan[0]), turn, data, mask, properties, geometry, check)

    def images(self, read: ReadScan, report: Report) -> dict[str, FloatArray]:
        """The image of a scan and what is asked for beside it, `(X, Y, Z)`, by their names in :mod:`.outputs`."""
        predicted = self.predictor.predict_image(
            with_neighbours(torch.from_numpy(read.data), self.neighbours), on_patch=report
        )
        intensity = self.header.target_intensity
        scales = {IMAGE: (intensity["mean"], intensity["std"]), UNCERTAINTY: (0.0, intensity["std"])}
        made = {
            name: self._restored(one, read, mean=mean, std=std)
            for one, (name, (mean, std)) in zip(predicted, scales.items(), strict=False)
        }
        if self.outputs.changes:
            made[CHANGES] = change_map(made[IMAGE], read_volume(read.scan[0]).data)
        return made

    def _restored(self, predicted: Tensor, read: ReadScan, *, mean: float, std: float) -> FloatArray:
        """A predicted image `(*S)` on the grid of the scan, or of its thin slices, `(X, Y, Z)`."""
        header, geometry, mask, properties = self.header, read.geometry, read.mask, read.properties
        shape, written = list(nibabel.load(read.scan[0]).shape[:3]), managers(header)
        if geometry is not None:
            written = managers(geometry.written_header)
            shape[geometry.file_axis] *= geometry.ratio
            mask, properties = geometry.mask(mask), geometry.properties(properties)
        inside = mask if header.use_mask_for_norm else None
        volume = restore_grid(predicted[None], properties, *written, mean=mean, std=std, mask=inside)
        volume = volume if read.turn is None else read.turn.back(volume)
        return volume.T.reshape(shape)

    def note(self, read: ReadScan) -> dict[str, Any]:
        """What the image says of itself."""
        header, scan, geometry, check = self.header, read.scan, read.geometry, read.check
        seen = read.stored if read.turn is None else header.orientation
        note: dict[str, Any] = {
            **origin_of_image(header, scan, self.enhancer),
            "simulation": header.simulation,
            "channel": header.channel if len(scan) == 1 else [one.channel for one in header.inputs],
            "source_field_T": header.source_field_T,
            "target_field_T": header.target_field_T,
            "orientation": {"stored": read.stored, "seen_by_the_model": seen},
            "input_check": None if check is None else check.note(),
            "nnunet_uhf_version": __version__,
        }
        if geometry is not None:
            note["slices"] = {
                "made_of_one": geometry.ratio,
                "array_axis": geometry.file_axis,
                "spacing_mm": geometry.spacing_mm / geometry.ratio,
                "trained_spacing_mm": geometry.trained_spacing_mm,
            }
        return note
