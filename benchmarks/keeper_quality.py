"""Keepers trained as long as each other, by steps and by time, and how close their images come to the high field.

2D, whole axial slices, without nnU-Net: one teacher, then each keeper on the same batches. Subjects are split; the low
field is simulated. Judged is the image in the brain of held-out subjects, after the best linear fit, as is the low
field itself. The time is what this process computed (CPU) or the wall's (CUDA), without the making of batches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import nibabel
import numpy as np
import torch
import typer
from costs import markdown
from jobs import Places
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.evaluation.image_metrics import linear_fit, psnr, ssim
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.losses import discriminator_loss, distillation_loss, teacher_loss
from nnunet_uhf.networks.distillation.teacher import UHFTeacher
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.preprocessing.low_field.arrays import simulate_low_field
from nnunet_uhf.trainers.distillation.students import STUDENTS, build_folded

CROP = (96, 80)  # the brain in a 2 mm scan, first two axes
RATE = 1e-3  # of the trainers
CLIP = 12.0
RATIO, NOISE = 3, 4.0

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Slices:
    """Axial slices of some subjects, z-scored in the brain: `(N, 1, *S)` each, and which subject each is of."""

    low: Tensor
    high: Tensor
    brain: Tensor
    subject: NDArray[np.int64]


def load(places: Places, cases: list[str], *, seed: int) -> Slices:
    """Slices with brain of all cases; the low field of each case is simulated once."""
    parts: list[tuple[Any, Any, Any]] = []
    for number, case in enumerate(track(cases, "simulating", console=console, transient=True)):
        image = np.asarray(nibabel.load(places.of("images", [case])[case]).dataobj, dtype=np.float32)
        tissues = np.asarray(nibabel.load(places.of("labels_tissue", [case])[case]).dataobj).astype(int)
        low = simulate_low_field(image, tissues, ratio=RATIO, axis=1, noise_scale=NOISE, seed=seed + number)
        brain = tissues > 0
        kept = [z for z in range(image.shape[2]) if brain[:, :, z].mean() > 0.05]
        parts.append((_slices(low, brain, kept), _slices(image, brain, kept), _slices(brain, None, kept)))
    subject = np.concatenate([[number] * len(part[0]) for number, part in enumerate(parts)])
    low, high, inside = (torch.cat([part[kind] for part in parts]) for kind in range(3))
    return Slices(low, high, inside > 0, subject)


def _slices(volume: Any, brain: Any, kept: list[int]) -> Tensor:
    values = np.asarray(volume, dtype=np.float32)
    if brain is not None:
        values = np.where(brain, (values - values[brain].mean()) / values[brain].std(), 0).astype(np.float32)
    corner = [max(0, (n - m) // 2) for n, m in zip(values.shape, CROP, strict=False)]
    cut = values[corner[0] : corner[0] + CROP[0], corner[1] : corner[1] + CROP[1]]
    padded = np.pad(cut, [*((0, m - n) for n, m in zip(cut.shape, CROP, strict=False)), (0, 0)])
    return torch.from_numpy(np.ascontiguousarray(padded[:, :, kept].transpose(2, 0, 1)[:, None]))


def batches(slices: Slices, *, size: int, seed: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Random slices, low and high field, some of them mirrored; the same for every keeper of a seed."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        index = torch.randint(len(slices.low), (size,), generator=generator)
        flipped = bool(torch.randint(2, (), generator=generator))
        pair = (slices.low[index], slices.high[index])
        low, high = (x.flip(2) if flipped else x for x in pair)
        yield low.to(device), high.to(device)


@dataclass
class Training:
    """A network with its optimiser, and the seconds it has computed for."""

    network: nn.Module
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
    clock: Callable[[], float]
    seconds: float = 0.0
    steps: int = 0
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(learning, lr=RATE)

    def step(self, low: Tensor, high: Tensor, *, share: float) -> None:
        """One step with this share of the training behind it, by nnU-Net's schedule."""
        start = self.clock()
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * (1 - min(share, 0.999)) ** 0.9
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.network, low, high).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.steps += 1
        self.seconds += self.clock() - start


def distilled(network: nn.Module, low: Tensor, high: Tensor) -> Tensor:
    """The losses of the keeper's trainer."""
    output = network(low, high)
    terms = {**distillation_loss(output, high), **discriminator_loss(output)}
    return torch.stack(list(terms.values())).sum()


def direct(network: nn.Module, low: Tensor, high: Tensor) -> Tensor:
    """The image alone."""
    return 100 * F.l1_loss(network(low), high)


def taught(network: nn.Module, _: Tensor, high: Tensor) -> Tensor:
    """The losses of the teacher's trainer."""
    return torch.stack(list(teacher_loss(network(high, return_features=True), high).values())).sum()


def judge(network: Callable[[Tensor], Tensor], slices: Slices, *, of_target: bool = False) -> list[tuple[float, float]]:
    """PSNR in dB and SSIM in the brain of every subject, after the best linear fit there."""
    device = next((p.device for p in network.parameters()), None) if isinstance(network, nn.Module) else None
    result = []
    with torch.no_grad():
        for number in range(int(slices.subject.max()) + 1):
            chosen = torch.from_numpy(slices.subject == number)
            source = (slices.high if of_target else slices.low)[chosen]
            image = network(source if device is None else source.to(device)).float().cpu()[:, 0].numpy()
            truth, inside = slices.high[chosen][:, 0].numpy(), slices.brain[chosen][:, 0].numpy()
            fitted = linear_fit(truth, image, inside)
            result.append((psnr(truth, fitted, mask=inside), ssim(truth, fitted, mask=inside)))
    return result


def keeper_net(name: str, teacher: UHFTeacher, *, dim: int = 2, adversarial: bool) -> nn.Module:
    """A keeper in training, as its trainer builds it: of a preset, or `direct` of the efficient one."""
    preset = PRESETS["efficient" if name == "direct" else name]
    student = STUDENTS[preset.network]
    architecture = student.keeper(dim=dim, **preset.keeper).config()
    if name == "direct":
        return build_folded(architecture)
    copy = UHFTeacher(**teacher.config())
    copy.load_state_dict(teacher.state_dict())
    discriminator = PatchDiscriminator(dim=dim, base_features=teacher.base_features) if adversarial else None
    return student.build(architecture, copy, discriminator)


EXAMPLES = """
Example:

python benchmarks/keeper_quality.py --data ../shared/data/ixi_hh_2mm --teacher-steps 600 --steps 300
"""


@app.command(epilog=EXAMPLES)
def main(
    data: Annotated[Path, typer.Option(help="Folder with images/ and labels_tissue/ of ixi_hh_2mm.")],
    teacher_steps: Annotated[int, typer.Option(help="Of the teacher.")] = 600,
    steps: Annotated[int, typer.Option(help="Of every keeper.")] = 300,
    batch: Annotated[int, typer.Option(help="Slices a step.")] = 8,
    subjects: Annotated[int, typer.Option(help="To train on.")] = 40,
    held_out: Annotated[int, typer.Option(help="To judge on.")] = 12,
    keepers: Annotated[
        str, typer.Option(help="The first sets the time; presets, and direct.")
    ] = "reference,efficient,direct",
    adversarial: Annotated[bool, typer.Option(help="Against a discriminator.")] = True,
    seconds: Annotated[
        float, typer.Option(help="Of every keeper, beside the steps; 0: as many as the first takes.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of weights and batches.")] = 0,
    device: Annotated[str, typer.Option("--device", "-device", help="cpu or cuda.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
) -> None:
    """Train a teacher and keepers; print PSNR and SSIM in the brain after the same steps and after the same time."""
    place = torch.device(device)
    clock = time.process_time if device == "cpu" else time.perf_counter
    places = Places(data, Path())
    training, test = places.groups(subjects, held_out)
    pool, unseen = load(places, training, seed=1000), load(places, test, seed=5000)
    torch.manual_seed(seed)
    teacher = Training(UHFTeacher(dim=2).to(place).train(), taught, clock)
    source = batches(pool, size=batch, seed=seed, device=place)
    for number in track(range(teacher_steps), "teacher", console=console, transient=True):
        teacher.step(*next(source), share=number / teacher_steps)
    seen = judge(teacher.network.eval(), unseen, of_target=True)
    rows = [["", "steps", "seconds", "PSNR dB, brain", "SSIM, brain", "minus fitted input, dB (worst)"]]
    results: dict[str, Any] = {"input": judge(lambda low: low, unseen), "teacher": seen}
    low_db = np.array([one[0] for one in results["input"]])

    def report(name: str, judged: list[tuple[float, float]], training_: Training | None = None) -> None:
        values = np.array(judged)
        gain = values[:, 0] - low_db
        took = ["", ""] if training_ is None else [str(training_.steps), f"{training_.seconds:.0f}"]
        spread = [f"{v.mean():.3f} ± {v.std(ddof=1):.3f}" for v in values.T]
        rows.append([name, *took, *spread, f"{gain.mean():+.2f} ({gain.min():+.2f})"])
        console.print(rows[-1])

    report("low field, fitted", results["input"])
    report("teacher, of the target", seen, teacher)
    limit = seconds
    for name in keepers.split(","):
        by_time = [False] if not limit else [False, True]
        for timed in by_time:
            torch.manual_seed(seed + 1)
            net = keeper_net(name, teacher.network, adversarial=adversarial).to(place).train()  # type: ignore[arg-type]
            one = Training(net, direct if name == "direct" else distilled, clock)
            source = batches(pool, size=batch, seed=seed + 1, device=place)
            while (one.seconds < limit) if timed else (one.steps < steps):
                one.step(*next(source), share=one.seconds / limit if timed else one.steps / steps)
            judged = judge(net.eval(), unseen)
            label = f"{name}, as many {'seconds' if timed else 'steps'}"
            results[label] = {"seconds": one.seconds, "steps": one.steps, "quality": judged}
            report(label, judged, one)
            limit = limit or one.seconds
    console.print(markdown(rows), soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    app()
