"""Whole volumes from Uni-COAL, slice by slice, at any places between the slices that are given (ours; E6).

One z for all slices, and waves that follow the place of a window in the slice: no flicker, no seams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor, nn

from nnunet_uhf.inference.predictor import ImagePredictor
from nnunet_uhf.networks.unicoal.modalities import Modalities, Slices
from nnunet_uhf.networks.unicoal.network import UniCOAL
from nnunet_uhf.networks.unicoal.question import SLICES, Question
from nnunet_uhf.types import FloatArray

NOISE_SEED = 0


def fixed_noise(length: int, batch: int = 1) -> Tensor:
    """The z of every image that is kept: `(batch, length)`, each row the same."""
    made = torch.Generator().manual_seed(NOISE_SEED)
    return torch.randn(1, length, generator=made).expand(batch, -1)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A volume that is asked for.

    Attributes:
        target: its modality.
        slices: how those of the sources lie.
        spacing_mm: between its own slices.
    """

    target: str
    slices: Slices
    spacing_mm: float

    def places(self, count: int) -> list[float]:
        """Where its slices lie, counted in slices of the source: from the first to the last of ``count``."""
        step = self.spacing_mm / self.slices.distance_mm
        return [min(k * step, count - 1.0) for k in range(slice_count_of(count, step))]


def slice_count_of(count: int, step: float) -> int:
    """Slices at distance ``step`` from the first to the last of ``count`` slices at distance 1; rounding forgiven."""
    return math.floor((count - 1) / step + 1e-6) + 1


class SliceVolumes:
    """Predicts volumes with a network of these modalities.

    Args:
        network: the network.
        modalities: what it knows.
        configuration: whose patch size is that of the windows.
        device: where to predict.
        parameters: state dicts of folds, whose images are averaged; None for those of the network.
    """

    def __init__(
        self,
        network: UniCOAL,
        modalities: Modalities,
        configuration: ConfigurationManager,
        *,
        device: torch.device,
        parameters: Sequence[Mapping[str, Tensor]] | None = None,
        tile_step_size: float = 0.5,
    ) -> None:
        self.modalities = modalities
        self.asked = _AtPlaces(network)
        self.size = network.keeper.plan.size
        self.predictor = ImagePredictor(device=device, tile_step_size=tile_step_size)
        state = None if parameters is None else [{f"network.{k}": v for k, v in one.items()} for one in parameters]
        self.predictor.set_network(self.asked, configuration, parameters=state)

    def predict(
        self,
        sources: Mapping[str, FloatArray],
        wanted: Wanted,
        *,
        places: Sequence[float] | None = None,
        on_slice: Callable[[int, int], None] | None = None,
    ) -> FloatArray:
        """A volume `(K, Y, X)`, about -1 to 1.

        Args:
            sources: slices of each source `(Z, Y, X)`, counted from the darkest, 0 to 2; all lie alike.
            wanted: the volume.
            places: of its slices, counted in slices of the sources; by default from the first to the last.
            on_slice: called as ``on_slice(done, total)``.
        """
        known = self.modalities
        stacks = {name: torch.from_numpy(np.ascontiguousarray(stack)) for name, stack in sources.items()}
        shape = next(iter(stacks.values())).shape
        chosen = wanted.places(shape[0]) if places is None else list(places)
        rows, columns = (
            (torch.arange(length, dtype=torch.float32) - (length - 1) / 2) / self.size for length in shape[1:]
        )
        if not known.position:
            rows, columns = rows * 0, columns * 0
        plane = torch.stack([rows[:, None].expand(shape[1:]), columns.expand(shape[1:])])
        half_pixel = 0.5 / self.size if known.position else 0.0
        made = []
        for done, place in enumerate(chosen):
            first = min(math.floor(place), shape[0] - 1)
            indices = [first + step - 1 for step in range(SLICES)]
            present = [0 <= index < shape[0] for index in indices]
            data = torch.zeros(known.in_channels + 2, *shape[1:])
            for name, stack in stacks.items():
                slot = SLICES * known.slot(name)
                for step, index in enumerate(indices):
                    if present[step]:
                        data[slot + step] = stack[index]
            if not data.any():  # between slices that hold nothing lies nothing
                made.append(np.full(shape[1:], -1, dtype=np.float32))
                continue
            data[-2:] = plane
            told = {"delta": place - first, "slices": wanted.slices, "spacing_mm": wanted.spacing_mm}
            self.asked.ask(
                known.condition(wanted.target, list(sources), **told),  # type: ignore[arg-type]
                known.weights(wanted.target, list(sources), present=present, **told),  # type: ignore[arg-type]
                half_pixel=half_pixel,
            )
            made.append(self.predictor.predict_image(data[:, None])[0, 0].numpy())
            if on_slice is not None:
                on_slice(done + 1, len(chosen))
        return np.stack(made)


class _AtPlaces(nn.Module):
    """The network under one question, for windows `(1, slices + 2, H, W)` whose last channels are their places."""

    def __init__(self, network: UniCOAL) -> None:
        super().__init__()
        self.network = network
        self.condition = self.weights = torch.zeros(0)
        self.half_pixel = 0.0

    def ask(self, condition: Tensor, weights: Tensor, *, half_pixel: float) -> None:
        """The question of the windows to come."""
        self.condition, self.weights, self.half_pixel = condition, weights, half_pixel

    def forward(self, window: Tensor) -> Tensor:
        """`(B, slices + 2, H, W) -> (B, 1, H, W)`."""
        batch, height, width = len(window), *window.shape[2:]
        # the pixel behind the middle: it is never padding
        place = window[:, -2:, height // 2, width // 2] - self.half_pixel
        noise = fixed_noise(self.network.decoder.noise, batch).to(window.device)
        condition, weights = (row.to(window.device).expand(batch, -1) for row in (self.condition, self.weights))
        question = Question(condition=condition, noise=noise, place=place, weights=weights)
        image: Tensor = self.network(window[:, :-2] - 1, question)
        return image
