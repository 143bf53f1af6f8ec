"""The SAM prior: images shall look alike to the image encoder of Segment Anything (Kirillov et al. 2023).

The encoder is timm's; its weights are the user's file, which is not part of this package.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.errors import UHFError, first_line
from nnunet_uhf.imageio.output import file_sha256

VARIABLE = "nnUNet_UHF_SAM"
"""Environment variable that names the file of weights."""
ENCODER = "samvit_base_patch16"
PATCH = 16  # pixels of a patch of the encoder
# of the images that it was trained on, 0 to 255
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


class _Encoder(Protocol):
    def forward_features(self, x: Tensor) -> Tensor: ...


class SAMPrior:
    """Mean absolute difference of two images in the embedding of SAM's image encoder, which does not learn.

    No module: its weights are neither saved with a training nor shared between ranks.

    Attributes:
        sha256: of the file of weights.
    """

    def __init__(self, encoder: nn.Module, *, sha256: str) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.sha256 = sha256

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Both `(B, 1, H, W)` about -1 to 1 and clipped there -> a scalar; gradients reach the image only."""
        self.encoder.to(image.device)
        with torch.no_grad():
            wanted = self._embedding(target)
        return F.l1_loss(self._embedding(image), wanted)

    def _embedding(self, image: Tensor) -> Tensor:
        size = [max(PATCH, -(-length // PATCH) * PATCH) for length in image.shape[2:]]
        bright = (image.float().clamp(-1, 1) + 1) * 127.5
        grown = F.pad(bright, (0, size[1] - image.shape[3], 0, size[0] - image.shape[2]))
        mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (_MEAN, _STD))
        encoder: Any = self.encoder
        return encoder.forward_features((grown - mean) / std).float()


def read_sam(path: str | Path, *, make: Callable[[], nn.Module] | None = None) -> SAMPrior:
    """The prior from `sam_vit_b_01ec64.pth`, its safetensors copy, timm's file, or others with the same keys.

    Args:
        path: of the weights; a `.pth` is read without running anything that is in it.
        make: the encoder with random weights, by default timm's SAM ViT-B.

    Raises:
        UHFError: no such file, not weights, or those of another encoder.
    """
    from timm.models.vision_transformer_sam import checkpoint_filter_fn

    path = Path(path).expanduser()
    if not path.is_file():
        raise UHFError(f"{path} does not exist; give the file of SAM's weights ({VARIABLE}), or unset the variable")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise UHFError(
            f"{path} ({VARIABLE}) holds no weights that can be read safely ({first_line(error)}); fetch it anew"
        ) from error
    encoder = _made() if make is None else make()
    try:
        encoder.load_state_dict(checkpoint_filter_fn(state, encoder), strict=True)
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise UHFError(
            f"{path} ({VARIABLE}) are not the weights of SAM's ViT-B image encoder; take sam_vit_b_01ec64.pth"
        ) from error
    return SAMPrior(encoder, sha256=file_sha256(path))


def _made() -> nn.Module:
    import timm

    encoder: nn.Module = timm.create_model(ENCODER, pretrained=False, num_classes=0)
    return encoder
