"""Feature maps of a scan.

The method in one script: a teacher learns to encode high-field slices, a keeper learns to make the teacher's maps of
their simulated low field, and a keeper file shows what it has learnt, on a subject that neither has seen. It takes half
a minute on phantoms of the ICBM template, far too little to be of use: the coarser maps are hardly learnt. A keeper to
guide by is made by `nnunet-uhf pretrain`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from nnunet_uhf import KeeperHeader, KnowledgeKeeper, UHFTeacher, feature_maps, simulate_low_field
from nnunet_uhf.demo.subjects import make_subject
from nnunet_uhf.keepers.file import write_keeper
from nnunet_uhf.networks.distillation.losses import distillation_loss, teacher_loss
from nnunet_uhf.networks.distillation.training import DistillationNet

STEPS, BATCH, SHAPE, SPACING_MM = 100, 2, (64, 80, 64), 2.75


def slices(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Axial slices (Z, Y, X) of a phantom: low field and high field, both as z-scores of the whole scan."""
    subject = make_subject(f"phantom {seed}", seed=seed, shape=SHAPE, spacing_mm=SPACING_MM)
    low = simulate_low_field(subject.image, subject.labels, ratio=3, axis=1, noise_scale=3, seed=seed)
    low, high = ((scan - scan.mean()) / scan.std() for scan in (low, subject.image))
    return low.T[16:48].copy(), high.T[16:48].copy()


def train(network: torch.nn.Module, loss_of: Callable[[Tensor, Tensor], dict[str, Tensor]], seed: int) -> None:
    """Adam on random slices of the training subjects."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(STEPS):
        chosen = rng.choice(len(training[0]), BATCH, replace=False)
        low, high = (torch.from_numpy(scans[chosen])[:, None] for scans in training)
        loss = torch.stack([*loss_of(low, high).values()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"{type(network).__name__}: {loss.item():.1f}")


torch.manual_seed(0)
subjects = [slices(seed) for seed in range(3)]
training = [np.concatenate(scans) for scans in zip(*subjects, strict=True)]
low_field, high_field = slices(seed=10)  # seen by nobody

teacher = UHFTeacher(dim=2, base_features=8)
train(teacher, lambda _, high: teacher_loss(teacher(high, return_features=True), high), seed=0)

keeper = KnowledgeKeeper(dim=2, base_features=8, kernel_size=3)
both = DistillationNet(keeper, teacher)
train(both, lambda low, high: distillation_loss(both(low, high), high), seed=1)

header = KeeperHeader(
    architecture=keeper.config(),
    decoder_architecture=teacher.decoder.config(),
    dim=2,
    channel="T1w",
    spacing_mm=(SPACING_MM, SPACING_MM),
    transpose_forward=(0, 1, 2),
    patch_size=SHAPE[:2],
    normalisation="ZScoreNormalization",
    use_mask_for_norm=False,
    target_intensity={"mean": 0.0, "std": 1.0},
    source_field_T=0.36,
    target_field_T=None,
    route="simulated",
    dataset="phantoms",
    fold=0,
    configuration="2d",
    training_cases=[f"phantom {seed}" for seed in range(3)],
    validation_cases=[],
    metrics={},
)
file = Path("phantom_keeper.safetensors")
write_keeper(file, header=header, keeper_state=keeper.state_dict(), decoder_state=teacher.decoder.state_dict())

middle = 16
learnt = feature_maps(low_field[middle], file, normalised=True)
with torch.no_grad():
    known = [maps[0].numpy() for maps in teacher.eval().encode(torch.from_numpy(high_field[middle])[None, None])]

figure, axes = plt.subplots(2, 4, figsize=(10, 6.2), layout="constrained")
for row, name, image, maps in zip(
    axes,
    ("teacher, of high field", "keeper, of low field"),
    (high_field[middle], learnt.image),
    (known, learnt.maps),
    strict=True,
):
    row[0].imshow(image[::-1], cmap="gray")
    row[0].set_title(f"{name}: input", fontsize="medium")
    for level in range(3):
        channel = int(np.argmax([one.std() for one in known[level]]))
        agreement = np.corrcoef(known[level].ravel(), learnt.maps[level].ravel())[0, 1]
        row[level + 1].imshow(maps[level][channel][::-1], cmap="magma")
        row[level + 1].set_title(f"level {level + 1}, channel {channel}", fontsize="medium")
        if maps is learnt.maps:
            row[level + 1].set_xlabel(f"correlation of all channels {agreement:.2f}", fontsize="small")
for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "feature_maps_of_a_scan.png", dpi=90)
