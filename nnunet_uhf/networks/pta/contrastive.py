"""One-directional contrastive translation: places stay recognisable (CUT, arXiv 2007.15651; extension).

In place of the way back and its judge, patches of the made image are compared with those of the input in the
generator's own maps: two whole passes of a generator and four halves, in place of six. Its authors warn that it may
invent more where the groups differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.pta.generators import ResnetTrunk, TanhHead, initialise_normal, to_unit
from nnunet_uhf.networks.pta.image_pool import Drawn
from nnunet_uhf.networks.pta.losses import distance_to_label
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.training import JudgeScores, judged_by

PLACES, WIDTH, TEMPERATURE = 256, 256, 0.07
"""Of every map: how many places are compared, in how many numbers each, and how strictly (CUT)."""
CUT_WEIGHTS: Mapping[str, float] = {"adversarial": 1.0, "contrastive": 1.0, "judge": 0.5}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Unit vectors `(B, N, E)` of the same places of two images, by map; those of the input are constant."""

    made: Sequence[Tensor]
    given: Sequence[Tensor]


@dataclass(kw_only=True)
class CUTOutput:
    """One training pass.

    Attributes:
        made_target: from -1 to 1, `(B, 1, H, W)`.
        scores: of the judge.
        translated: places of the made image and of the source.
        same: places of what is made of a high-field image, and of that image; it is to stay as it is.
    """

    made_target: Tensor
    scores: JudgeScores
    translated: Compared
    same: Compared


class PlaceHeads(nn.Module):
    """A head for every map: its channels at a place -> a unit vector, by two layers (CUT's `mlp_sample`)."""

    def __init__(self, channels: Sequence[int], *, width: int = WIDTH) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(one, width), nn.ReLU(), nn.Linear(width, width)) for one in channels
        )
        initialise_normal(self)

    def forward(self, maps: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Vectors `(B, N, width)` of places `(N,)`, numbers of pixels, of every map `(B, C, H, W)`."""
        return [
            F.normalize(head(one.flatten(2)[:, :, chosen].transpose(1, 2)).float(), dim=2)
            for head, one, chosen in zip(self.heads, maps, places, strict=True)
        ]


class CUTNet(nn.Module):
    """The translation as keeper and decoder, its judge, and the heads of the comparison.

    Args:
        forwards: low field to high field; its trunk is a :class:`ResnetTrunk`.
        judge_target: of high-field images.
        width: of the vectors that places are compared by.
    """

    def __init__(self, forwards: EnhancementNet, judge_target: PatchGAN, *, width: int = WIDTH) -> None:
        super().__init__()
        if not isinstance(forwards.keeper, ResnetTrunk):
            raise ValueError("places are compared in the maps of the generator resnet alone")
        assert isinstance(forwards.decoder, TanhHead)
        self.keeper, self.decoder = forwards.keeper, forwards.decoder
        self.judge_target = judge_target
        self.heads = PlaceHeads(self.keeper.encoded_channels, width=width)

    def generators(self) -> list[nn.Module]:
        """What the player of the generator moves."""
        return [self.keeper, self.decoder, self.heads]

    def judges(self) -> list[nn.Module]:
        """What the player of the judge moves."""
        return [self.judge_target]

    def forward(
        self, source: Tensor, target: Tensor | None = None, earlier_target: Drawn | None = None
    ) -> Tensor | CUTOutput:
        """The high-field-like image ``(B, 1, H, W)`` of a source; with a target, all that the losses need.

        Args:
            source: z-scores ``(B, 1, H, W)``.
            target: z-scores of the other domain, of other subjects.
            earlier_target: earlier made images that the judge sees in the place of some of this pass.
        """
        if target is None:
            image: Tensor = self.decoder(self.keeper.features(source), source.shape[2:])
            return image
        low = to_unit(source, self.keeper.source_range)
        high = to_unit(target, self.decoder.target_range)
        made, same = (self.decoder.unit(self.keeper.translated(one), one.shape[2:]) for one in (low, high))
        fake = made.detach() if earlier_target is None else earlier_target.mixed(made)
        return CUTOutput(
            made_target=made,
            scores=judged_by(self.judge_target, high, fake, made),
            translated=self._compared(made, low),
            same=self._compared(same, high),
        )

    def _compared(self, made: Tensor, given: Tensor) -> Compared:
        maps = self.keeper.encoded(made)
        with torch.no_grad():
            before = self.keeper.encoded(given)
        counts = [one.shape[2] * one.shape[3] for one in maps]
        places = [torch.randperm(count, device=made.device)[:PLACES] for count in counts]
        given_places = [vector.detach() for vector in self.heads(before, places)]
        return Compared(made=self.heads(maps, places), given=given_places)


def place_contrast(compared: Compared, *, temperature: float = TEMPERATURE) -> Tensor:
    """Cross-entropy of finding each place of the made image among all compared places of the same input (PatchNCE)."""
    losses = []
    for made, given in zip(compared.made, compared.given, strict=True):
        scores = made @ given.transpose(1, 2) / temperature
        own = torch.arange(made.shape[1], device=made.device).expand(made.shape[0], -1)
        losses.append(F.cross_entropy(scores.flatten(0, 1), own.flatten()))
    return torch.stack(losses).mean()


def cut_losses(output: CUTOutput, *, weights: Mapping[str, float]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weighted terms of the generator, and those of the judge, which says 1 of real and 0 of made images."""
    scores, half = output.scores, 0.5 * weights["contrastive"]
    assert scores.deceived is not None
    generator = {
        "adversarial_target": weights["adversarial"] * distance_to_label(scores.deceived, 1.0),
        "contrastive_source": half * place_contrast(output.translated),
        "contrastive_target": half * place_contrast(output.same),
    }
    wrong = distance_to_label(scores.real, 1.0) + distance_to_label(scores.fake, 0.0)
    return generator, {"judge_target": weights["judge"] * wrong}
