"""A frozen segmentation model that judges images: are its features of a prediction those of the truth? (ours)

As winners of synthesis challenges do it: what matters to a segmentation network matters in an image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor

from nnunet_uhf.errors import UHFError, first_line
from nnunet_uhf.inference.map_source import MapSource, map_source
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.nnunet.files import root_folder

JUDGE_WEIGHT = 10.0
"""Of the judge's term, beside 100 times the mean absolute error of the image (ours)."""
SPACING_TOLERANCE = 0.1
"""How far, as a share, a judge's spacing may be from that of the images."""


class FeatureJudge:
    """The encoder of a finished nnU-Net, frozen. It is no part of the network that is trained, nor of its checkpoints.

    Attributes:
        record: which model it is, ready for JSON.
    """

    def __init__(self, source: MapSource) -> None:
        self._source = source
        source.network.eval().requires_grad_(requires_grad=False)
        self.record: dict[str, Any] = {
            "model": str(source.note["model"]),
            "dataset": str(source.note["trained_on"]),
            "fold": source.note["fold"],
            "sha256": weights_sha256(source.network.state_dict()),
        }

    def __repr__(self) -> str:
        """Without weights: nnU-Net writes every attribute of a trainer down."""
        return f"{self.record['dataset']}/{self.record['model']}, fold {self.record['fold']}"

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        """How far the features of an image `(B, 1, *S)` are from those of the target `(B, 1, *S)`, which is constant.

        The mean absolute difference at each level, as a share of the target's mean absolute feature there; the mean
        of the levels. 0 where they agree.
        """
        self._source.network.to(image.device)
        with torch.no_grad():
            wanted = self._source.maps(target)
        pairs = zip(self._source.maps(image), wanted, strict=True)
        shares = [(a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp_min(1e-6) for a, b in pairs]
        return torch.stack(shares).mean()


def find_judge(place: str, planned: ConfigurationManager, *, channel: int, dataset: str) -> FeatureJudge:
    """The judge that dataset.json names.

    Args:
        place: its model folder, whole or from nnUNet_results on.
        planned: the configuration of the images that it is to judge.
        channel: of the dataset, that of the target.
        dataset: its name, for errors.

    Raises:
        UHFError: no finished model, or one that reads other images than these.
    """
    where = f"uhf.judge in dataset.json of {dataset}"
    folder = Path(place).expanduser()
    folder = folder if folder.is_absolute() else root_folder("nnUNet_results") / folder
    if not folder.is_dir():
        raise UHFError(f"{where}: {folder} is no folder; name that of a finished nnU-Net segmentation model")
    source = map_source(folder)
    its = source.configuration
    dim = len(planned.patch_size)
    differing = {
        "channels": (source.channels, 1),
        "dimensions": (len(its.patch_size), dim),
        "normalisation": (its.normalization_schemes[0], planned.normalization_schemes[channel]),
        "mask of normalisation": (bool(its.use_mask_for_norm[0]), bool(planned.use_mask_for_norm[channel])),
    }
    for name, (have, need) in differing.items():
        if have != need:
            raise UHFError(f"{where}: {folder} has {name} {have}, the images need {need}; take another model")
    spacings = list(its.spacing)[-dim:], list(planned.spacing)[-dim:]
    if any(abs(a - b) > SPACING_TOLERANCE * b for a, b in zip(*spacings, strict=True)):
        raise UHFError(
            f"{where}: {folder} is of a spacing of {spacings[0]} mm, the images of {spacings[1]} mm; take a model that "
            "was planned with these plans"
        )
    judge = FeatureJudge(source)
    empty = torch.zeros(1, 1, *planned.patch_size)
    try:
        judge.distance(empty, empty)
    except (RuntimeError, ValueError) as error:
        raise UHFError(
            f"{where}: {folder} cannot read patches of {list(planned.patch_size)}: {first_line(error, kind=False)}; "
            "take a model that was planned for patches like these"
        ) from error
    return judge
