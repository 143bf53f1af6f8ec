"""What a network would cost on a graphics card, told from the operations it runs, without a card (ours).

A pass runs on torch's meta device in half precision, where tensors have sizes but no content. Every operation becomes a
kernel with a time on the card; Python launches one after the other, and the pass ends when the later of the two has.
FLOPs alone say little there. What counts as well:

- bytes read and written;
- the kernel of an instance normalisation, which gives a sample's channel one thread block, however large its map: at
  128x128x128 that takes 3 ms, of one channel as of thirty-two;
- convolutions that miss the tensor cores, their channels being no multiples of 8;
- the gradient of the weight of a 1x1 convolution that is computed as a matrix product over all voxels of a map;
- the number of kernels, where maps are small.

The constants of :data:`H100` were fitted to one set of measurements (docs/BENCHMARKS.md), which the model gives back
within 30 %, as it foretold what an H200 took in 3D; training steps in 2D it puts 29 to 43 % too low, since casts, loss
and optimizer are launched, too. It knows nothing of compiled networks.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from costs import Setting
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_uhf.guidance.memory import tensors_of
from nnunet_uhf.networks.guided.network import UHFGuidedNet

TENSOR_CORE_MULTIPLE = 8  # channels, in half precision
LONG = 20_000  # voxels that a matrix product sums over: more is a product over a map, not over channels
FREE = {
    *("view", "_unsafe_view", "_reshape_alias", "reshape", "expand", "slice", "split", "split_with_sizes", "select"),
    *("detach", "alias", "t", "transpose", "permute", "unsqueeze", "squeeze", "as_strided", "unfold"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
}
"""Operations that launch nothing."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A graphics card and the Python process that feeds it; times in seconds.

    Attributes:
        bandwidth: bytes a second.
        launch: what every kernel takes at least.
        host: what Python takes to launch one.
        wait: what a measured pass takes beside that, to wait for the card.
        tensor_flop: seconds per FLOP of convolutions and products on tensor cores.
        narrow_flop: of convolutions that miss them, per FLOP with channels rounded up to a multiple of 8.
        norm_voxel: seconds per voxel of a batch normalisation, for all channels that find a multiprocessor each.
        long_voxel: of a matrix product that sums over the voxels of a map.
        multiprocessors: thread blocks that run at once.
    """

    bandwidth: float
    launch: float
    host: float
    wait: float
    tensor_flop: float
    narrow_flop: float
    norm_voxel: float
    long_voxel: float
    multiprocessors: int


H100 = Card(
    bandwidth=3e12,
    launch=5e-6,
    host=27e-6,
    wait=0.45e-3,
    tensor_flop=1.6e-15,
    narrow_flop=13e-15,
    norm_voxel=1.65e-9,
    long_voxel=1.9e-9,
    multiprocessors=132,
)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One operation.

    Attributes:
        name: of the operation.
        bytes: read and written.
        voxels: spatial size of the largest map it touches.
        launches: kernels, with those that turn its weights into half precision.
        flop: of convolutions and products, channels rounded up.
        narrow: a convolution that misses the tensor cores.
        serial: voxels of a normalisation that are read one thread block after the other.
        long: voxels that a matrix product sums over.
    """

    name: str
    bytes: int
    voxels: int
    launches: int = 1
    flop: float = 0.0
    narrow: bool = False
    serial: int = 0
    long: int = 0

    def seconds(self, card: Card) -> float:
        """Its time on the card."""
        compute = self.flop * (card.narrow_flop if self.narrow else card.tensor_flop)
        special = self.serial * card.norm_voxel + self.long * card.long_voxel
        return self.launches * card.launch + self.bytes / card.bandwidth + compute + special


@dataclass
class GpuCost:
    """Kernels of a pass."""

    kernels: list[Kernel] = field(default_factory=list)

    @property
    def launches(self) -> int:
        """Kernels launched."""
        return sum(kernel.launches for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def narrow(self) -> int:
        """Convolutions that miss the tensor cores."""
        return sum(kernel.narrow for kernel in self.kernels)

    def bytes_by_size(self) -> dict[int, int]:
        """Bytes read and written by the voxels of the largest map that was touched, largest first."""
        total: dict[int, int] = defaultdict(int)
        for kernel in self.kernels:
            total[kernel.voxels] += kernel.bytes
        return dict(sorted(total.items(), reverse=True))

    def seconds(self, card: Card = H100) -> float:
        """When the last kernel has ended: the card waits for Python, and a kernel for the one before."""
        issued = ended = 0.0
        for kernel in self.kernels:
            issued += kernel.launches * card.host
            ended = max(issued, ended) + kernel.seconds(card)
        return ended + card.wait


class KernelStream(TorchDispatchMode):
    """Writes down the kernels of all operations in this context.

    Args:
        multiprocessors: of the card, which decide how many normalisations run at once.
    """

    def __init__(self, multiprocessors: int = H100.multiprocessors) -> None:
        super().__init__()
        self.multiprocessors = multiprocessors
        self.cost = GpuCost()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and write it down."""
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in FREE:
            touched = [*tensors_of((args, kwargs)), *tensors_of(output)]
            size = {
                "bytes": sum(t.numel() * t.element_size() for t in touched),
                "voxels": max((math.prod(t.shape[2:]) for t in touched if t.ndim > 2), default=1),
            }
            self.cost.kernels.append(Kernel(name=name, **{**size, **self._special(name, args, output)}))
        return output

    def _special(self, name: str, args: Sequence[Any], output: Any) -> dict[str, Any]:
        if name in ("convolution", "convolution_backward"):
            return _convolution(name, args, output)
        if name in ("bmm", "baddbmm"):
            left, right = args[-2:] if name == "bmm" else args[1:3]
            long = left.shape[2] if left.shape[2] > LONG else 0
            flop = 2 * left.shape[0] * left.shape[1] * left.shape[2] * right.shape[2]
            # the product's weight is turned into half precision; not the gradient of one
            return {"flop": flop, "long": long, "launches": 1 if long else 2}
        if "batch_norm" in name:
            backward = name.endswith("backward")
            map_ = args[1] if backward else args[0]
            turns = math.ceil(map_.shape[1] / self.multiprocessors)
            voxels = map_.numel() // map_.shape[1]
            return {"serial": voxels * turns * (2 if backward else 1)}
        return {}


def _convolution(name: str, args: Sequence[Any], output: Any) -> dict[str, Any]:
    """FLOPs of a convolution or of its two gradients, and the kernels that turn weight and bias into half precision."""
    if name == "convolution":
        source, weight, bias, *_, transposed, _, groups = args
        result, passes = output, 1
    else:
        result, source, weight, bias, *_, transposed, _, groups, wanted = args
        passes = int(wanted[0]) + int(wanted[1])
    dense = source if transposed else result
    first, second = weight.shape[:2]
    padded = _round_up(first) * _round_up(second)
    voxels = dense.shape[0] * math.prod(dense.shape[2:])
    return {
        "flop": 2.0 * passes * voxels * padded * math.prod(weight.shape[2:]),
        "narrow": groups > 1 or first % TENSOR_CORE_MULTIPLE > 0 or second % TENSOR_CORE_MULTIPLE > 0,
        "launches": passes + 1 + (bias is not None),
    }


def _round_up(channels: int) -> int:
    return math.ceil(channels / TENSOR_CORE_MULTIPLE) * TENSOR_CORE_MULTIPLE


def forward_cost(run: Callable[[], Any]) -> GpuCost:
    """Kernels of a forward pass without gradient, of networks in half precision on the meta device."""
    with torch.no_grad(), KernelStream() as stream:
        run()
    return stream.cost


def training_cost(run: Callable[[], Any]) -> GpuCost:
    """Kernels of a forward and backward pass, of networks in half precision on the meta device."""
    with KernelStream() as stream:
        outputs = [output.float().square().mean() for output in _with_gradient(run())]
        torch.stack(outputs).sum().backward()
    return stream.cost


def _with_gradient(output: Any) -> Iterator[Tensor]:
    return (tensor for tensor in tensors_of(output) if tensor.requires_grad)


def parts_costs(plain: nn.Module, guided: UHFGuidedNet, setting: Setting) -> dict[str, tuple[GpuCost, GpuCost]]:
    """Forward, and forward and backward, of plain and guided network, and of the guided one's keeper and fusions."""
    empty, net = deepcopy(plain).to("meta").half(), deepcopy(guided).to("meta").half()
    image = torch.empty(setting.batch, setting.in_channels, *setting.patch, device="meta").half()
    with torch.no_grad():
        guides = net.guides(image)
        skips = [skip.detach().requires_grad_() for skip in net.encoder(image)]
    runs: dict[str, Callable[[], Any]] = {
        "plain": lambda: empty(image),
        "guided": lambda: net(image),
        "fusions": lambda: [fusion(skip, guides) for fusion, skip in zip(net.fusions, skips, strict=True)],
    }
    costs = {name: (forward_cost(run), training_cost(run)) for name, run in runs.items()}
    keeper = forward_cost(lambda: net.guides(image))
    return {**costs, "keeper": (keeper, keeper)}


def rows_of(costs: Mapping[str, tuple[GpuCost, GpuCost]], setting: Setting) -> list[list[str]]:
    """A table, head first: what FLOPs do not say, by part, and guided / plain."""
    parts = ("plain", "guided", "keeper", "fusions")
    full = math.prod(setting.patch)
    quantities: dict[str, Callable[[GpuCost], float]] = {
        "kernels": lambda cost: cost.launches,
        "moved, GB": lambda cost: cost.bytes / 1e9,
        "at full resolution, GB": lambda cost: cost.bytes_by_size().get(full, 0) / 1e9,
        "convolutions off tensor cores": lambda cost: cost.narrow,
        "H100 by the model, ms": lambda cost: 1e3 * cost.seconds(),
    }
    rows = [["", *parts, "guided / plain"]]
    for kind, title in enumerate(("forward", "+ backward")):
        for name, quantity in quantities.items():
            values = [quantity(costs[part][kind]) for part in parts]
            shown = [f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}" for value in values]
            rows.append([f"{title}: {name}", *shown, f"{values[1] / values[0]:.2f}" if values[0] else ""])
    return rows
