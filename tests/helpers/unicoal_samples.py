"""Tiny Uni-COAL networks and questions to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

from helpers.keeper_samples import make_header
from nnunet_uhf.keepers.file import write_keeper
from nnunet_uhf.networks.unicoal.discriminator import Discriminator
from nnunet_uhf.networks.unicoal.modalities import Modalities
from nnunet_uhf.networks.unicoal.network import UniCOAL, architecture_of, decoder_of
from nnunet_uhf.networks.unicoal.presets import SIZES
from nnunet_uhf.networks.unicoal.question import FEATURES, Question, encoded

CODE = 3


def made_generator(
    preset: str = "tiny", *, sources: int = 4, code: int = CODE, numbers: int = FEATURES, **options: Any
) -> UniCOAL:
    """A generator with random weights."""
    sizes = SIZES[preset].as_json()
    architecture = architecture_of(sizes, sources=sources, code=code, numbers=numbers, **options)
    return UniCOAL(architecture, decoder_of(architecture))


def made_discriminator(preset: str = "tiny", *, numbers: int = FEATURES) -> Discriminator:
    """A discriminator with random weights."""
    sizes = {name: SIZES[preset].as_json()[name] for name in ("size", "base_channels", "max_channels", "embedding")}
    return Discriminator(in_channels=5, code=CODE, numbers=numbers, **sizes)


def small_encoder() -> nn.Module:
    """An encoder of SAM's kind that is quick."""
    return VisionTransformerSAM(
        img_size=64, patch_size=16, embed_dim=32, depth=2, num_heads=2, num_classes=0, window_size=2, use_abs_pos=True,
        use_rel_pos=True, global_attn_indexes=(1,), neck_chans=16,
    )  # fmt: skip


def asked(delta: list[float], *, sources: int = 4, seed: int = 0) -> Question:
    """A question for every place between two slices."""
    made = torch.Generator().manual_seed(seed)
    batch = len(delta)
    code = torch.eye(CODE)[:1].expand(batch, -1)
    return Question(
        condition=torch.cat([code, encoded(torch.tensor(delta)[:, None])], dim=1),
        noise=torch.randn(batch, SIZES["tiny"].embedding, generator=made),
        place=torch.zeros(batch, 2),
        weights=torch.zeros(batch, sources),
    )


def decibels(truth: torch.Tensor, error: torch.Tensor) -> float:
    """PSNR of an error, by the range of the truth."""
    reach = truth.max() - truth.min()
    return float(10 * torch.log10(reach.square() / error.square().mean()))


def write_unicoal_keeper(
    path: Path, *, modalities: Modalities | None = None, described: dict[str, Any] | None = None, **changes: Any
) -> Path:
    """A keeper file of a tiny network with random weights; of T1w and T2w at 1 to 4 slices of one by default."""
    known = modalities or Modalities(
        tesla={"T1w": 3.0, "T2w": 3.0}, sources=("T1w", "T2w"), targets=("T1w", "T2w"), ratio=(1.0, 4.0)
    )
    torch.manual_seed(0)
    sizes = {**SIZES["tiny"].as_json(), "layers": 6, "max_channels": 8, "latent": 16, "image_features": 16}
    architecture = architecture_of(sizes, sources=known.in_channels, code=known.code, numbers=known.numbers)
    network = UniCOAL(architecture, decoder_of(architecture))
    intensity = {target: [10.0, 210.0] for target in known.targets}
    header = make_header(
        network="unicoal",
        architecture=network.keeper.config(),
        decoder_architecture=network.decoder.config(),
        channel=known.sources[0],
        patch_size=(32, 32),
        use_mask_for_norm=True,
        route="unicoal",
        modalities=described or {**known.as_json(), "sam_sha256": None, "intensity": intensity},
        **changes,
    )
    write_keeper(
        path, header=header, keeper_state=network.keeper.state_dict(), decoder_state=network.decoder.state_dict()
    )
    return path
