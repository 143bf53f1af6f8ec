"""Time, memory, parameters and FLOPs of networks side by side: plain and guided, or part by part.

FLOPs are those of convolutions and matrix products, two per multiplication with addition. Memory is

- saved activations: bytes of the distinct storages autograd keeps for the backward pass, parameters left out;
- peak memory of a forward and backward pass, weights and gradients included: on CUDA the largest allocation, else the
  weights and the largest sum of living tensors, without what a library takes inside one operation.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_uhf.guidance.memory import LiveTensors, tensors_of
from nnunet_uhf.networks.guided.network import UHFGuidedNet

PARTS = ("plain", "guided", "keeper", "fusions")
MEASURED = ("reference", "efficient", "light")
"""Presets whose cost is worth a column: the fusions of `paper` are the reference's but for a factor a channel."""


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    patch: tuple[int, ...]
    batch: int
    in_channels: int
    spacing_mm: tuple[float, ...] | None


@dataclass(frozen=True)
class Call:
    """A network, and how it is run; one that is never trained has no backward pass."""

    network: nn.Module
    run: Callable[[], Any]
    trained: bool = True


@dataclass
class Cost:
    """Cost of one call. Times are in seconds, one per repeat."""

    parameters: int = 0
    forward_flop: int = 0
    training_flop: int = 0
    saved_bytes: int = 0
    peak_bytes: int = 0
    forward_s: list[float] = field(default_factory=list)
    training_s: list[float] = field(default_factory=list)


def backward(output: Any) -> None:
    """A cheap loss that reaches every output."""
    torch.stack([y.float().square().mean() for y in tensors_of(output)]).sum().backward()


class SavedActivations(torch.autograd.graph.saved_tensors_hooks):
    """Bytes of the distinct storages that forward passes in this context keep for their backward, no parameters."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self.bytes = 0
        self._weights = {id(p.untyped_storage()) for p in network.parameters()}
        self._held: dict[int, torch.UntypedStorage] = {}  # held, or an identity could be given to the next one

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in self._weights and id(storage) not in self._held:
            self._held[id(storage)] = storage
            self.bytes += storage.nbytes()
        return tensor

    def __enter__(self) -> SavedActivations:
        """Start to count."""
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of the storages."""
        super().__exit__(*error)
        self._held.clear()


class Bench:
    """Calls to compare on one device."""

    def __init__(
        self,
        calls: Mapping[str, Call],
        *,
        device: torch.device,
        precision: str = "fp32",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.calls, self.device, self.clock = calls, device, clock
        self.dtype = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision as nnU-Net trains on CUDA; nothing in fp32."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def forward(self, name: str) -> None:
        """One forward pass without gradient."""
        with torch.no_grad(), self.autocast():
            self.calls[name].run()

    def train(self, name: str) -> None:
        """One forward and backward pass; forward only of what is never trained."""
        with self.autocast():
            output = self.calls[name].run()
        if self.calls[name].trained:
            backward(output)

    def drop_gradients(self) -> None:
        """Of all networks."""
        for call in self.calls.values():
            call.network.zero_grad(set_to_none=True)

    def seconds(self, run: Callable[[str], None], name: str) -> float:
        """Time of one pass; gradients of the last one are dropped outside the measurement."""
        self.drop_gradients()
        self.wait()
        start = self.clock()
        run(name)
        self.wait()
        return self.clock() - start

    def wait(self) -> None:
        """CUDA works ahead of Python."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def count(self, name: str) -> Cost:
        """All that needs no repeats, in one pass (on CUDA a second one for the peak)."""
        call = self.calls[name]
        self.drop_gradients()
        cost = Cost(parameters=sum(p.numel() for p in call.network.parameters()))
        with FlopCounterMode(display=False) as counter, LiveTensors() as memory:
            with self.autocast(), SavedActivations(call.network) as saved:
                output = call.run()
            cost.forward_flop, cost.saved_bytes = counter.get_total_flops(), saved.bytes
            if call.trained:
                backward(output)
        cost.training_flop = counter.get_total_flops()
        weights = {id(p.untyped_storage()): p.untyped_storage().nbytes() for p in call.network.parameters()}
        cost.peak_bytes = memory.peak_bytes + sum(weights.values())
        if self.device.type == "cuda":
            self.drop_gradients()
            torch.cuda.reset_peak_memory_stats()
            self.train(name)
            cost.peak_bytes = torch.cuda.max_memory_allocated()
        return cost


def parts_bench(
    plain: nn.Module,
    guided: UHFGuidedNet,
    setting: Setting,
    *,
    device: torch.device,
    precision: str = "fp32",
    compiled: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Bench:
    """Plain and guided network, and the guided one's keeper and fusions alone, on inputs such as they get."""
    plain, guided = plain.to(device), guided.to(device)
    image = torch.randn(setting.batch, setting.in_channels, *setting.patch, device=device)
    bench = Bench({}, device=device, precision=precision, clock=clock)
    with torch.no_grad(), bench.autocast():
        guides, skips = guided.guides(image), guided.encoder(image)
    run_plain = torch.compile(plain) if compiled else plain
    run_guided = torch.compile(guided) if compiled else guided
    leaves = [skip.detach().requires_grad_() for skip in skips]
    bench.calls = {
        "plain": Call(plain, lambda: run_plain(image)),
        "guided": Call(guided, lambda: run_guided(image)),
        "keeper": Call(guided.keeper, lambda: guided.guides(image), trained=False),
        "fusions": Call(
            guided.fusions, lambda: [f(skip, guides) for f, skip in zip(guided.fusions, leaves, strict=True)]
        ),
    }
    return bench


def measure(bench: Bench, *, repeats: Iterable[int]) -> dict[str, Cost]:
    """Costs of every call: counted once, then timed in interleaved repeats."""
    costs = {name: bench.count(name) for name in bench.calls}
    time_in_turn(bench, costs, repeats=repeats)
    return costs


def time_in_turn(bench: Bench, costs: Mapping[str, Cost], *, repeats: Iterable[int]) -> None:
    """Add the times of interleaved repeats to the costs."""
    for _ in repeats:
        for name, cost in costs.items():
            cost.forward_s.append(bench.seconds(bench.forward, name))
        for name, cost in costs.items():
            cost.training_s.append(bench.seconds(bench.train, name))


def counted(network: nn.Module, setting: Setting) -> Cost:
    """What a network costs but for time, on the meta device: as on a CPU, without computing anything."""
    empty, device = network.to("meta"), torch.device("meta")
    image = torch.empty(setting.batch, setting.in_channels, *setting.patch, device=device)
    return Bench({"": Call(empty, lambda: empty(image))}, device=device).count("")


def time_ratio(times: list[float], plain: list[float]) -> str:
    """Ratio within each repeat: median (smallest-largest)."""
    ratios = [one / other for one, other in zip(times, plain, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows, head first, as a Markdown table with aligned columns: the first one left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        [word.rjust(w) if i else word.ljust(w) for i, (word, w) in enumerate(zip(r, widths, strict=True))] for r in rows
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(words) + " |" for words in (lines[0], rule, *lines[1:]))
