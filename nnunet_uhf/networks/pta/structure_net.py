"""Local structure correction: a small residual U-Net that puts turned and missing blocks right (PTA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64, 128, 256)
_STEPS = 2 ** (len(WIDTHS) - 1)


class StructureNet(nn.Module):
    """Corrupted slice in, whole slice out: ``(B, 1, H, W) -> (B, 1, H, W)`` (1,624,843 parameters).

    A residual U-Net of five levels, two convolutions a block. The original normalises its one output channel, too,
    which fixes mean and contrast of every image; `norm_last` does so (1,624,844), and is off (ours).
    """

    def __init__(self, *, widths: Sequence[int] = WIDTHS, norm_last: bool = False) -> None:
        super().__init__()
        if len(widths) != len(WIDTHS):
            raise ValueError(f"widths must be {len(WIDTHS)} numbers, got {len(widths)}")
        self.widths, self.norm_last = tuple(widths), norm_last
        inputs = (1, *self.widths)
        *steps, _ = (2,) * len(self.widths)
        self.down = nn.ModuleList(
            _Residual(one, other, stride=stride)
            for one, other, stride in zip(inputs, self.widths, (*steps, 1), strict=False)
        )
        ups = []
        below = self.widths[-1]
        for level in reversed(range(len(self.widths) - 1)):
            outputs = self.widths[level - 1] if level else 1
            ups.append(_Up(self.widths[level] + below, outputs, plain=level == 0 and not norm_last, last=level == 0))
            below = outputs
        self.up = nn.ModuleList(ups)

    def forward(self, image: Tensor) -> Tensor:
        """The slice with its structure put right; sizes that 16 does not divide are padded and cropped."""
        height, width = image.shape[2:]
        x = F.pad(image, (0, -width % _STEPS, 0, -height % _STEPS), mode="replicate")
        maps = []
        for block in self.down:
            x = block(x)
            maps.append(x)
        x = maps.pop()
        for block in self.up:
            x = block(torch.cat([maps.pop(), x], dim=1))
        return x[..., :height, :width]

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {"widths": list(self.widths), "norm_last": self.norm_last}


def _norm_and_act(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.PReLU()]


class _Residual(nn.Module):
    """Two 3x3 convolutions, each with instance norm and PReLU; the way past them has a convolution where it must."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
            *_norm_and_act(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            *_norm_and_act(outputs),
        )
        kernel = 3 if stride > 1 else 1
        self.past = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.past(x) + self.body(x)


class _Up(nn.Module):
    """A transposed convolution to twice the size, and a residual one."""

    def __init__(self, inputs: int, outputs: int, *, plain: bool, last: bool) -> None:
        super().__init__()
        widen = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.widen = nn.Sequential(widen, *([] if plain else _norm_and_act(outputs)))
        self.body = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1), *([] if last else _norm_and_act(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        return x + self.body(x)
