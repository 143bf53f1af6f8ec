"""Time, memory, parameters and FLOPs of a plain and a guided network, part by part.

FLOPs are those of convolutions and matrix products, two per multiplication with addition. Memory is

- saved activations: bytes of the distinct storages autograd keeps for the backward pass, parameters left out, on
  every device;
- peak memory, on CUDA only: the largest allocation of a forward and backward pass, weights and gradients included.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_uhf.networks.guided import UHFGuidedNet

PARTS = ("plain", "guided", "keeper", "fusions")


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    patch: tuple[int, ...]
    batch: int
    in_channels: int
    spacing_mm: tuple[float, ...] | None


@dataclass
class Cost:
    """Cost of one part. Times are in seconds, one per repeat; a part that is never trained has no backward pass."""

    parameters: int = 0
    forward_flop: int = 0
    training_flop: int = 0
    saved_bytes: int = 0
    peak_bytes: int = 0
    forward_s: list[float] = field(default_factory=list)
    training_s: list[float] = field(default_factory=list)


def tensors_of(output: Any) -> Iterator[Tensor]:
    """All tensors of a nested output."""
    if isinstance(output, Tensor):
        yield output
    else:
        for part in output:
            yield from tensors_of(part)


def backward(output: Any) -> None:
    """A cheap loss that reaches every output."""
    torch.stack([y.float().square().mean() for y in tensors_of(output)]).sum().backward()


def saved_activations(run: Callable[[], Any], network: nn.Module) -> int:
    """Bytes of the distinct storages that a forward pass keeps for its backward pass, without parameters."""
    known = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}
    held = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(storage)  # or its address could be given to the next tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


class Bench:
    """Plain and guided network on one device, with the inputs that each part needs."""

    def __init__(
        self,
        plain: nn.Module,
        guided: UHFGuidedNet,
        setting: Setting,
        *,
        device: torch.device,
        precision: str,
        compiled: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.device, self.clock = device, clock
        self.networks: dict[str, nn.Module] = {"plain": plain.to(device), "guided": guided.to(device)}
        self.networks |= {"keeper": guided.keeper, "fusions": guided.fusions}
        self.dtype = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
        image = torch.randn(setting.batch, setting.in_channels, *setting.patch, device=device)
        with torch.no_grad(), self.autocast():
            guides, skips = guided.guides(image), guided.encoder(image)
        run_plain = torch.compile(plain) if compiled else plain
        run_guided = torch.compile(guided) if compiled else guided
        leaves = [skip.detach().requires_grad_() for skip in skips]
        self.calls: dict[str, Callable[[], Any]] = {
            "plain": lambda: run_plain(image),
            "guided": lambda: run_guided(image),
            "keeper": lambda: guided.guides(image),
            "fusions": lambda: [f(skip, guides) for f, skip in zip(guided.fusions, leaves, strict=True)],
        }

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision as nnU-Net trains on CUDA; nothing in fp32."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def forward(self, part: str) -> None:
        """One forward pass without gradient."""
        with torch.no_grad(), self.autocast():
            self.calls[part]()

    def train(self, part: str) -> None:
        """One forward and backward pass; the keeper, which is frozen, runs forward only."""
        with self.autocast():
            output = self.calls[part]()
        if part != "keeper":
            backward(output)

    def seconds(self, run: Callable[[str], None], part: str) -> float:
        """Time of one pass; gradients of the last one are dropped outside the measurement."""
        for network in self.networks.values():
            network.zero_grad(set_to_none=True)
        self.wait()
        start = self.clock()
        run(part)
        self.wait()
        return self.clock() - start

    def wait(self) -> None:
        """CUDA works ahead of Python."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def count(self, part: str) -> Cost:
        """All that needs no repeats."""
        cost = Cost(parameters=sum(p.numel() for p in self.networks[part].parameters()))
        with FlopCounterMode(display=False) as counter:
            self.forward(part)
        cost.forward_flop = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            self.train(part)
        cost.training_flop = counter.get_total_flops()
        with self.autocast():
            cost.saved_bytes = saved_activations(self.calls[part], self.networks[part])
        if self.device.type == "cuda":
            self.seconds(self.train, part)
            torch.cuda.reset_peak_memory_stats()
            self.seconds(self.train, part)
            cost.peak_bytes = torch.cuda.max_memory_allocated()
        return cost


def measure(bench: Bench, *, repeats: Iterable[int]) -> dict[str, Cost]:
    """Costs of every part: counted once, then timed in interleaved repeats."""
    costs = {part: bench.count(part) for part in PARTS}
    for _ in repeats:
        for part in PARTS:
            costs[part].forward_s.append(bench.seconds(bench.forward, part))
        for part in PARTS:
            costs[part].training_s.append(bench.seconds(bench.train, part))
    return costs
