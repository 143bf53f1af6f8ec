"""What the networks of PTA learn in seconds on drawn heads of different subjects: none is seen in both domains."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.drawn_heads import slices
from nnunet_uhf.networks.pta.corruption import corrupted
from nnunet_uhf.networks.pta.kind import pta_generator
from nnunet_uhf.networks.pta.losses import PTA_PRESETS, generator_losses, judge_losses
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.structure_net import StructureNet
from nnunet_uhf.networks.pta.training import PTANet

BATCH = 4
RANGE = (-1.0, 1.0)
BRAIN = 0.1
"""How bright drawn tissue is at least."""
BETAS = (0.5, 0.999)


def heads(count: int, generator: torch.Generator) -> Tensor:
    return slices(torch.rand(count, generator=generator), low_field=False, generator=generator)


def inverted(image: Tensor, generator: torch.Generator) -> Tensor:
    """Bright becomes dark within the head, and noise is added: a low field whose map is known."""
    noise = 0.1 * torch.randn(image.shape, generator=generator)
    return torch.where(image > -1, (0.4 - image + noise).clamp(-0.99, 1), image)


def two_domains(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of low-field heads and of high-field heads of other subjects."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield inverted(heads(BATCH, generator), generator), heads(BATCH, generator)


def translation() -> PTANet:
    torch.manual_seed(0)
    features = 4

    def generator() -> nn.Module:
        trunk = {"source_range": RANGE, "features": features, "blocks": 1}
        return pta_generator("resnet", trunk, {"generator": "resnet", "features": features, "target_range": RANGE})

    judges = PatchGAN(judge_features=features), PatchGAN(judge_features=features)
    return PTANet(generator(), generator(), *judges, StructureNet(widths=(4, 4, 4, 8, 8)))  # type: ignore[arg-type]


def losses_of(network: PTANet, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of the generators and of the judges, by the weights of the authors' code."""
    output, weights = network(source, target), PTA_PRESETS["code"].weights
    parts = generator_losses(output, weights=weights), judge_losses(output, weights=weights)
    generator, judge = (torch.stack(list(part.values())).sum() for part in parts)
    return generator, judge


def moved(parts: list[nn.Module]) -> list[nn.Parameter]:
    return [parameter for part in parts for parameter in part.parameters()]


def test_a_known_contrast_is_learnt_from_heads_of_other_subjects() -> None:
    network, batches = translation(), two_domains(1)
    players = [{"params": moved(part)} for part in (network.generators(), network.judges())]
    optimiser = torch.optim.Adam(players, lr=4e-3, betas=BETAS)
    for _, (source, target) in zip(range(75), batches, strict=False):
        optimiser.zero_grad()
        torch.stack(losses_of(network, source, target)).sum().backward()
        optimiser.step()
    generator = torch.Generator().manual_seed(2)
    truth = heads(64, generator)
    source = inverted(truth, generator)
    with torch.no_grad():
        made = network.eval()(source)
    assert float(F.l1_loss(made, truth)) < 0.75 * float(F.l1_loss(source, truth))


def test_broken_blocks_are_put_right() -> None:
    torch.manual_seed(0)
    network, generator = StructureNet(widths=(8, 16, 16, 16, 16)), torch.Generator().manual_seed(1)
    rate, steps = 1e-2, 75
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        image = heads(16, generator)
        optimiser.zero_grad()
        F.l1_loss(network(corrupted(image, generator=generator)[0]), image).backward()
        optimiser.step()
    truth = heads(64, generator)
    broken, _ = corrupted(truth, generator=generator)
    with torch.no_grad():
        right = network.eval()(broken)
    assert float(F.l1_loss(right, truth)) < float(F.l1_loss(broken, truth))
    brain = truth > BRAIN
    before, after = ((image - truth)[brain].square().mean() for image in (broken, right))
    assert float(10 * torch.log10(before / after)) > 3


def test_one_adam_of_two_groups_moves_the_players_as_two_would() -> None:
    network, batches = translation(), two_domains(1)
    apart = deepcopy(network)
    players = [{"params": moved(part)} for part in (network.generators(), network.judges())]
    together = torch.optim.Adam(players, lr=1e-3, betas=BETAS)
    alone = [torch.optim.Adam(moved(part), lr=1e-3, betas=BETAS) for part in (apart.generators(), apart.judges())]
    for step, (source, target) in zip(range(3), batches, strict=False):
        torch.manual_seed(step)  # of the blocks that are broken
        together.zero_grad()
        torch.stack(losses_of(network, source, target)).sum().backward()
        together.step()
        torch.manual_seed(step)
        found = [
            torch.autograd.grad(loss, optimiser.param_groups[0]["params"], retain_graph=True)
            for loss, optimiser in zip(losses_of(apart, source, target), alone, strict=True)
        ]
        for gradients, optimiser in zip(found, alone, strict=True):
            for parameter, gradient in zip(optimiser.param_groups[0]["params"], gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()
    for (name, one), other in zip(network.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5, msg=name)
