"""Generators of both directions, their judges and the frozen structure network as one network (PTA, section 3).

All images here have intensities from -1 to 1; :meth:`PTANet.forward` without a target takes and gives z-scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.constant import with_constant_weights
from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.frozen import KeepsFrozen
from nnunet_uhf.networks.pta.corruption import corrupted
from nnunet_uhf.networks.pta.generators import TanhHead, Trunk, to_unit
from nnunet_uhf.networks.pta.hybrid_generator import HybridTrunk
from nnunet_uhf.networks.pta.image_pool import Drawn
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.structure_net import StructureNet


class JudgeScores(NamedTuple):
    """What a judge says of real and made images, and of made ones for the generator to learn by: ``(B, 1, H', W')``."""

    real: Tensor
    fake: Tensor
    deceived: Tensor | None


@dataclass(kw_only=True)
class PTAOutput:
    """One training pass; images are ``(B, 1, H, W)`` from -1 to 1, absent ones None.

    Attributes:
        source, target: what was given, the middle slices.
        made_target, made_source: of the other domain's image.
        cycle_source, cycle_target: of what was made of them.
        same_source, same_target: what a generator makes of an image of the domain that it makes.
        scores: by what is judged: target, source, structure.
        foreground: probabilities of tokens by domain, of generators that steer by them.
    """

    source: Tensor
    target: Tensor
    made_target: Tensor
    made_source: Tensor
    cycle_source: Tensor | None
    cycle_target: Tensor | None
    same_source: Tensor | None
    same_target: Tensor | None
    scores: dict[str, JudgeScores] = field(default_factory=dict)
    foreground: dict[str, Tensor] = field(default_factory=dict)


class PTANet(KeepsFrozen):
    """The translation as keeper and decoder, the way back, a judge of each domain; the structure network is frozen.

    One forward pass gives what both players need; in a generator's terms the judges are constant (ours: simultaneous
    updates in place of alternating ones).

    Args:
        forwards: low field to high field.
        back: high field to low field.
        judge_target: of high-field images; of two channels it is shown the image put right beside each (`paper`).
        judge_source: of low-field images.
        structure: puts blocks right; None without it. Judged images are corrupted and put right by it.
        structure_in_generator: whether its term reaches the generator; in the authors' code it never does.
        identity, cycle: whether these images are computed.
    """

    frozen: ClassVar[tuple[str, ...]] = ("structure",)

    def __init__(
        self,
        forwards: EnhancementNet,
        back: EnhancementNet,
        judge_target: PatchGAN,
        judge_source: PatchGAN,
        structure: StructureNet | None = None,
        *,
        structure_in_generator: bool = True,
        identity: bool = True,
        cycle: bool = True,
    ) -> None:
        super().__init__()
        if judge_target.in_channels > 1 and structure is None:
            raise ValueError("a judge of two channels needs the structure network")
        self.keeper, self.decoder, self.back = forwards.keeper, forwards.decoder, back
        self.judge_target, self.judge_source = judge_target, judge_source
        self.structure = structure
        self.structure_in_generator, self.identity, self.cycle = structure_in_generator, identity, cycle
        self.freeze()

    def generators(self) -> list[nn.Module]:
        """What the player of both generators moves."""
        return [self.keeper, self.decoder, self.back]

    def judges(self) -> list[nn.Module]:
        """What the player of the judges moves."""
        return [self.judge_target, self.judge_source]

    def forward(
        self,
        source: Tensor,
        target: Tensor | None = None,
        earlier_target: Drawn | None = None,
        earlier_source: Drawn | None = None,
    ) -> Tensor | PTAOutput:
        """The high-field-like image ``(B, 1, H, W)`` of a source; with a target, all that the losses need.

        Args:
            source: z-scores ``(B, C, H, W)``; of several slices the middle one is translated.
            target: z-scores ``(B, C, H, W)`` of the other domain, of other subjects.
            earlier_target: earlier made images that the judge sees in the place of some of this pass.
            earlier_source: likewise.
        """
        if target is None:
            image: Tensor = self.decoder(self.keeper.features(source), source.shape[2:])
            return image
        slices_source = to_unit(source, _trunk(self).source_range)
        slices_target = to_unit(target, _head(self).target_range)
        output = self._translate(slices_source, slices_target)
        fake_target, fake_source = (
            made.detach() if earlier is None else earlier.mixed(made)
            for made, earlier in ((output.made_target, earlier_target), (output.made_source, earlier_source))
        )
        output.scores["source"] = judged_by(self.judge_source, output.source, fake_source, output.made_source)
        self._judge_targets(output, fake_target)
        return output

    def _translate(self, source: Tensor, target: Tensor) -> PTAOutput:
        middle = source.shape[1] // 2
        one_source, one_target = source[:, middle : middle + 1], target[:, middle : middle + 1]
        foreground: dict[str, Tensor] = {}
        made_target = _made(self, source)
        _note_foreground(self, foreground, "source")
        batch, slices = target.shape[:2]
        # every slice is translated back, so that the way there again has its neighbours, too
        back = _made(self.back, target.flatten(0, 1)[:, None]).view(batch, slices, *target.shape[2:])
        made_source = back[:, middle : middle + 1]
        if slices == 1:
            _note_foreground(self.back, foreground, "target")
        return PTAOutput(
            source=one_source,
            target=one_target,
            made_target=made_target,
            made_source=made_source,
            cycle_source=_made(self.back, made_target) if self.cycle else None,
            cycle_target=_made(self, back) if self.cycle else None,
            same_source=_made(self.back, one_source) if self.identity else None,
            same_target=_made(self, target) if self.identity else None,
            foreground=foreground,
        )

    def _judge_targets(self, output: PTAOutput, fake: Tensor) -> None:
        judge, made = self.judge_target, output.made_target
        if self.structure is None:
            output.scores["target"] = judged_by(judge, output.target, fake, made)
            return
        with torch.no_grad():
            right_real, right_fake = self.put_right(output.target), self.put_right(fake)
        if judge.in_channels == 2:
            right_made = self.put_right(made if self.structure_in_generator else made.detach())
            pairs = ((output.target, right_real), (fake, right_fake), (made, right_made))
            output.scores["target"] = judged_by(judge, *(torch.cat(pair, dim=1) for pair in pairs))
            return
        output.scores["target"] = judged_by(judge, output.target, fake, made)
        right_made_or_none = self.put_right(made) if self.structure_in_generator else None
        output.scores["structure"] = judged_by(judge, right_real, right_fake, right_made_or_none)

    def put_right(self, image: Tensor) -> Tensor:
        """What the structure network makes of an image whose blocks were turned and taken out."""
        assert self.structure is not None
        broken, _ = corrupted(image)
        restored: Tensor = self.structure(broken)
        return restored.clamp(-1, 1)


def judged_by(judge: PatchGAN, real: Tensor, fake: Tensor, made: Tensor | None) -> JudgeScores:
    """What a judge says of real and earlier made images, and of made ones, for which it is constant."""
    deceived = None if made is None else with_constant_weights(judge, made)
    return JudgeScores(judge(real), judge(fake), deceived)


Translator = EnhancementNet | PTANet


def _trunk(network: Translator) -> Trunk:
    assert isinstance(network.keeper, Trunk)
    return network.keeper


def _head(network: Translator) -> TanhHead:
    assert isinstance(network.decoder, TanhHead)
    return network.decoder


def _made(network: Translator, unit: Tensor) -> Tensor:
    return _head(network).unit(_trunk(network).translated(unit), unit.shape[2:])


def _note_foreground(network: Translator, found: dict[str, Tensor], domain: str) -> None:
    trunk = _trunk(network)
    if isinstance(trunk, HybridTrunk) and trunk.probability is not None:
        found[domain] = trunk.probability
