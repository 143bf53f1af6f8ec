"""Sliding-window prediction of images (not labels) on top of nnU-Net's predictor."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from rich.progress import track
from torch import Tensor, nn
from torch._dynamo import OptimizedModule


class ImagePredictor(nnUNetPredictor):
    """nnU-Net's predictor for a network that maps patches (1, C, *P) to image patches (1, 1, *P).

    Padding, patch positions, Gaussian weighting and mirroring are nnU-Net's. What differs: patches are added
    up in float32 (nnU-Net: half precision, enough for an argmax, not for an intensity), networks run without
    autocast, mirroring is off unless asked for (an average of flipped predictions smooths an image), and
    convolution algorithms are chosen deterministically, so that the same image gives the same file.
    """

    def __init__(
        self,
        *,
        tile_step_size: float = 0.5,
        use_gaussian: bool = True,
        use_mirroring: bool = False,
        perform_everything_on_device: bool = True,
        device: torch.device | str = "cuda",
        verbose: bool = False,
        allow_tqdm: bool = False,
    ) -> None:
        device = torch.device(device)
        benchmark = torch.backends.cudnn.benchmark  # the base class switches it on for the whole process
        with contextlib.redirect_stdout(io.StringIO()):  # on a CPU the base class prints advice, asked or not
            super().__init__(
                tile_step_size=tile_step_size,
                use_gaussian=use_gaussian,
                use_mirroring=use_mirroring,
                perform_everything_on_device=perform_everything_on_device and device.type == "cuda",
                device=device,
                verbose=verbose,
                allow_tqdm=allow_tqdm,
            )
        torch.backends.cudnn.benchmark = benchmark

    def set_network(
        self,
        network: nn.Module,
        configuration_manager: ConfigurationManager,
        *,
        parameters: Sequence[Mapping[str, Tensor]] | None = None,
        mirroring_axes: Sequence[int] | None = None,
        stretch: Sequence[int] | None = None,
        outputs: int = 1,
    ) -> None:
        """Give network and patch size; ``parameters``: one state dict per fold, whose images are averaged.

        ``stretch``: voxels of the output per voxel of the input along each of the three axes, 1 by default. The patch
        size of the configuration is that of the output then, a multiple of it. ``outputs``: images the network gives.
        """
        self.network = network
        self.stretch = tuple(stretch or (1, 1, 1))
        self.outputs = outputs
        if any(step != 1 for step in self.stretch):
            patch = configuration_manager.patch_size
            thin = [size // step for size, step in zip(patch, self.stretch[-len(patch) :], strict=True)]
            configuration_manager = ConfigurationManager({**configuration_manager.configuration, "patch_size": thin})
        self.configuration_manager = configuration_manager
        self.list_of_parameters = None if parameters is None else list(parameters)
        self.allowed_mirroring_axes = None if not mirroring_axes else tuple(mirroring_axes)

    @torch.inference_mode()
    def predict_image(self, data: Tensor, *, on_patch: Callable[[int, int], None] | None = None) -> Tensor:
        """Preprocessed volume (C, Z, Y, X) -> image (1, Z, Y, X), float32 on the CPU; stretched and more on request.

        Patches of a 2d configuration run over the slices of the first spatial axis. ``on_patch(done, total)``
        is called after every patch. Raises ValueError on a wrong number of axes, RuntimeError on NaN output.
        """
        if data.ndim != 4:
            raise ValueError(f"expected a volume of shape (C, Z, Y, X), got {tuple(data.shape)}")
        network = self.network.to(self.device)
        network.eval()
        plain: Any = network._orig_mod if isinstance(network, OptimizedModule) else network
        folds: Sequence[Mapping[str, Tensor] | None] = self.list_of_parameters or [None]
        image: Tensor | None = None
        for index, parameters in enumerate(folds):
            if parameters is not None:
                plain.load_state_dict(parameters)
            report = None if on_patch is None else _shifted(on_patch, index, len(folds))
            one = self._slide(data.float(), report)
            image = one if image is None else image + one
        assert image is not None
        image = image / len(folds)
        if not torch.isfinite(image).all():
            raise RuntimeError("the network predicted NaN or infinite intensities: broken weights or input")
        return image

    def _slide(self, data: Tensor, on_patch: Callable[[int, int], None] | None) -> Tensor:
        patch_size = self.configuration_manager.patch_size
        padded, unpad = pad_nd_image(data, patch_size, "constant", {"value": 0}, True, None)
        slicers = self._internal_get_sliding_window_slicers(padded.shape[1:])
        store = self.device if self.perform_everything_on_device else torch.device("cpu")
        padded = padded.to(store)
        shape = [size * step for size, step in zip(padded.shape[1:], self.stretch, strict=True)]
        total = torch.zeros((self.outputs, *shape), dtype=torch.float32, device=store)
        weights = torch.zeros((1, *shape), dtype=torch.float32, device=store)
        filled = tuple(size * step for size, step in zip(patch_size, self.stretch[-len(patch_size) :], strict=True))
        weight = torch.ones(filled, device=store)
        if self.use_gaussian:
            weight = compute_gaussian(
                filled, sigma_scale=1 / 8, value_scaling_factor=10, dtype=torch.float32, device=store
            )
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            for index, where in enumerate(track(slicers, "patches", disable=not self.allow_tqdm)):
                patch = padded[where][None].contiguous().to(self.device)
                predicted = self._internal_maybe_mirror_and_predict(patch)[0].float()
                if predicted.shape != (self.outputs, *filled):
                    raise ValueError(
                        f"expected {self.outputs} output channel(s) of {filled}, got shape {tuple(predicted.shape)}"
                    )
                there = self._stretched(where)
                total[there] += predicted.to(store) * weight
                weights[there] += weight
                if on_patch is not None:
                    on_patch(index + 1, len(slicers))
        return (total / weights).cpu()[self._stretched((slice(None), *unpad[1:]))]

    def _stretched(self, where: Sequence[Any]) -> tuple[Any, ...]:
        """The place in the output of a place `(channels, *S)` in the input."""
        places = zip(where[1:], self.stretch, strict=True)
        return (where[0], *(_times(place, step) for place, step in places))


def _times(place: slice | int, step: int) -> slice | int:
    if isinstance(place, slice):
        return slice(place.start * step, place.stop * step)
    return place  # the slice of a 2d configuration: nothing is stretched across slices


def _shifted(on_patch: Callable[[int, int], None], index: int, folds: int) -> Callable[[int, int], None]:
    """The progress of one fold told as that of all folds."""
    return lambda done, total: on_patch(index * total + done, folds * total)
