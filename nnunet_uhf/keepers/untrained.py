"""A keeper file whose weights have learnt nothing: to try the software, to size memory and time (ours)."""

from __future__ import annotations

from pathlib import Path

import torch

from nnunet_uhf.keepers.file import write_keeper
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.teacher import TeacherDecoder

UNTRAINED = "untrained"


def write_untrained_keeper(
    path: str | Path,
    *,
    dim: int,
    base_features: int = 4,
    channel: str = "T1w",
    spacing_mm: float = 1.0,
    patch_size: int = 32,
    orientation: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a keeper file with random weights and a decoder; its header says ``untrained`` wherever it can.

    Everything that takes a keeper file takes it. What comes out has the shapes of the real thing and no meaning.

    Args:
        path: of the file, must end in ``.safetensors``.
        dim: 2 or 3.
        base_features: channels of the finest maps, a multiple of 4; the paper has 16.
        channel: name of the channel it would be for.
        spacing_mm: the same along all axes.
        patch_size: voxels along all axes.
        orientation: of the scans it would have learnt from, like "LAS": files are turned to it; None: read as stored.
        seed: of the weights.

    Returns:
        The path.

    Raises:
        KeeperFileError: wrong suffix, or a folder that cannot be written to.

    Examples:
        >>> from nnunet_uhf import read_header, write_untrained_keeper
        >>> header = read_header(write_untrained_keeper("keeper.safetensors", dim=3))
        >>> header.dataset, header.spacing_mm
        ('untrained', (1.0, 1.0, 1.0))
    """
    path = Path(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        keeper = KnowledgeKeeper(dim=dim, base_features=base_features)
        decoder = TeacherDecoder(dim=dim, base_features=base_features)
    header = KeeperHeader(
        architecture=keeper.config(),
        decoder_architecture=decoder.config(),
        dim=dim,
        channel=channel,
        spacing_mm=(spacing_mm,) * dim,
        transpose_forward=(0, 1, 2),
        patch_size=(patch_size,) * dim,
        normalisation="ZScoreNormalization",
        use_mask_for_norm=False,
        target_intensity={"mean": 0.0, "std": 1.0},
        source_field_T=None,
        target_field_T=None,
        route="paired",
        dataset=UNTRAINED,
        fold=0,
        configuration="2d" if dim == 2 else "3d_fullres",
        training_cases=[],
        validation_cases=[],
        metrics={"note": "random weights: nothing was trained"},
        orientation=orientation,
    )
    write_keeper(path, header=header, keeper_state=keeper.state_dict(), decoder_state=decoder.state_dict())
    return path
