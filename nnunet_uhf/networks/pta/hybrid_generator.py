"""The generator `hybrid`: attention among foreground tokens, in windows elsewhere (UNest, arXiv 2406.18967, in PTA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.networks.pta.generators import Trunk, initialise_normal, repeat_borders

PATCH = 16
WINDOW = 2
WIDTH, DEPTH, HEADS = 768, 4, 12
THRESHOLD = 0.25
"""Probability above which a token is foreground: the value that the original's training really takes."""
_MLP = 4


class HybridTrunk(Trunk):
    """Tokens of 16x16 pixels through four blocks; their maps go up to the image (40,345,828 with head, at 224 pixels).

    A head of its own says which tokens show the body: they attend to each other across the image, all others within
    windows of 2x2 tokens. The original works at 224 pixels alone; here positions are those of the plan's patch, resized
    for others, and the tokens padded to whole windows (ours).

    Attributes:
        patch_size: pixels of a patch, for which positions are learnt.
    """

    kind = "hybrid"

    def __init__(
        self,
        *,
        dim: int = 2,
        in_channels: int = 1,
        features: int = 16,
        width: int = WIDTH,
        heads: int = HEADS,
        patch_size: Sequence[int] = (224, 224),
        threshold: float = THRESHOLD,
        source_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(dim=dim, in_channels=in_channels, source_range=source_range)
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.features_in, self.width, self.heads, self.threshold = features, width, heads, threshold
        self.patch_size = tuple(int(size) for size in patch_size)
        self.features_out = features
        self.channels, self.strides = (features,), ((1, 1),)
        tokens = [-(-size // PATCH) for size in self.patch_size]
        self.embed = nn.Conv2d(in_channels, width, PATCH, stride=PATCH)
        self.positions = nn.Parameter(torch.empty(1, width, *tokens))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(width)
        self.foreground = ForegroundHead(width)
        self.stem = _ResidualBlock(in_channels, features)
        self.lift = nn.ModuleList(_Lift(width, 2**level * features, doublings=4 - level) for level in (1, 2, 3))
        self.rise = nn.ModuleList(
            _Rise(inputs, outputs)
            for inputs, outputs in ((width, 8 * features), *((2 * n * features, n * features) for n in (4, 2, 1)))
        )
        initialise_normal(self)
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.probability: Tensor | None = None

    def translated(self, unit: Tensor) -> Tensor:
        """One map of the input's size, padded to whole tokens; `probability` holds that of the foreground after it."""
        image = repeat_borders(unit, PATCH, PATCH)
        tokens = self.embed(image)
        size = tokens.shape[2:]
        positions: Tensor = self.positions
        if positions.shape[2:] != size:
            positions = F.interpolate(positions, size=size, mode="bicubic", align_corners=False)
        tokens = tokens + positions.to(tokens.dtype)
        self.probability = self.foreground(tokens)
        steered = self.probability > self.threshold
        x, maps = tokens.permute(0, 2, 3, 1), []
        for block in self.blocks:
            x = block(x, steered[:, 0])
            maps.append(x.permute(0, 3, 1, 2))
        skips = [self.stem(image), *(lift(one) for lift, one in zip(self.lift, maps[1:], strict=True))]
        y = self.norm(x).permute(0, 3, 1, 2)
        for rise in self.rise:
            y = rise(y, skips.pop())
        return y

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {
            "dim": self.dim,
            "in_channels": self.in_channels,
            "features": self.features_in,
            "width": self.width,
            "heads": self.heads,
            "patch_size": list(self.patch_size),
            "threshold": self.threshold,
            "source_range": list(self.source_range),
        }


class ForegroundHead(nn.Module):
    """Which tokens show the body: ``(B, width, h, w) -> (B, 1, h, w)``, probabilities (313,475 parameters)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((width, 32), (32, 64), (64, 128)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                _SafeInstanceNorm(),
                nn.PReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(128, 1, 1, bias=False))

    def forward(self, tokens: Tensor) -> Tensor:
        """Probabilities."""
        return torch.sigmoid(self.layers(tokens).float())


class _SafeInstanceNorm(nn.Module):
    """Instance norm of maps that may be a single token, which then becomes 0."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        variance = x.var(dim=(2, 3), keepdim=True, unbiased=False)
        return (x - mean) * torch.rsqrt(variance + 1e-5)


class _Attention(nn.Module):
    """Attention of several heads; no bias where queries, keys and values are made."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, N, width)`` to the same; ``mask`` is added to the scores ``(B, heads, N, N)``, or says which count."""
        batch, number, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, number, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.out(attended.transpose(1, 2).reshape(batch, number, width))


class _WindowAttention(nn.Module):
    """Attention within windows of 2x2 tokens, with a learnt bias for each displacement and head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = _Attention(width, heads)
        self.bias = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * WINDOW - 1) ** 2, heads), std=0.02))
        place = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
        moved = place[:, :, None] - place[:, None] + WINDOW - 1
        self.displacement: Tensor
        self.register_buffer("displacement", moved[0] * (2 * WINDOW - 1) + moved[1], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, h, w, width)`` to the same, h and w even."""
        batch, height, width, channels = tokens.shape
        split = tokens.view(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels).transpose(2, 3)
        windows = split.reshape(-1, WINDOW * WINDOW, channels)
        bias = self.bias[self.displacement].permute(2, 0, 1)[None].to(tokens.dtype)
        attended = self.attention(windows, bias).view(split.shape).transpose(2, 3)
        return attended.reshape(tokens.shape)


class _Block(nn.Module):
    """Attention among the foreground or within windows, by token; then one MLP for both."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_global, self.norm_window, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.attention = _Attention(width, heads)
        self.window = _WindowAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, _MLP * width), nn.GELU(), nn.Linear(_MLP * width, width))

    def forward(self, tokens: Tensor, foreground: Tensor) -> Tensor:
        """Tokens ``(B, h, w, width)`` and which of them are foreground ``(B, h, w)``."""
        height, width = tokens.shape[1:3]
        even = F.pad(self.norm_window(tokens), (0, 0, 0, width % WINDOW, 0, height % WINDOW))
        local = self.window(even)[:, :height, :width]
        chosen = foreground.flatten(1)
        # keys are the foreground; where there is none the result is thrown away, but must not be NaN
        keys = chosen | ~chosen.any(dim=1, keepdim=True)
        far = self.attention(self.norm_global(tokens).flatten(1, 2), keys[:, None, None]).view(tokens.shape)
        tokens = tokens + torch.where(foreground[..., None], far, local)
        mixed: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return mixed


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm and LeakyReLU, and a 1x1 past them where channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.past = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None
        self.norm = _SafeInstanceNorm()

    def forward(self, x: Tensor) -> Tensor:
        past = x if self.past is None else self.norm(self.past(x))
        y = F.leaky_relu(self.norm(self.first(x)), 0.01)
        return F.leaky_relu(self.norm(self.second(y)) + past, 0.01)


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)


class _Lift(nn.Module):
    """Tokens as a map of 2^doublings times their resolution."""

    def __init__(self, inputs: int, outputs: int, *, doublings: int) -> None:
        super().__init__()
        steps: list[nn.Module] = [_doubling(inputs, outputs)]
        for _ in range(doublings - 1):
            steps += [_doubling(outputs, outputs), _ResidualBlock(outputs, outputs)]
        self.steps = nn.Sequential(*steps)

    def forward(self, tokens: Tensor) -> Tensor:
        lifted: Tensor = self.steps(tokens)
        return lifted


class _Rise(nn.Module):
    """One doubling of the decoder, joined with a map of that resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.widen = _doubling(inputs, outputs)
        self.join = _ResidualBlock(2 * outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.join(torch.cat([self.widen(x), skip], dim=1))
        return joined
