"""How much memory a training step of a network takes, found without data or device (ours).

The step runs on torch's meta device, where tensors have sizes but no content: exact in what torch's own operations
allocate, blind to the workspace of convolution libraries and to fragmentation. Meant for ratios between networks.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FLOAT_BYTES = 4


class LiveTensors(TorchDispatchMode):
    """Bytes of the distinct storages that operations inside this context have made and that are still alive.

    Storages made before it do not count; memory that a single operation uses inside and gives back is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it allocated."""
        given = {id(tensor.untyped_storage()) for tensor in tensors_of((args, kwargs))}
        output = func(*args, **(kwargs or {}))
        for tensor in tensors_of(output):
            storage = tensor.untyped_storage()
            if id(storage) not in given and id(storage) not in self._known:
                self._count(storage)
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._known.add(key)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live_bytes -= size


def tensors_of(nested: Any) -> Iterator[Tensor]:
    """All tensors of nested lists, tuples and dicts."""
    return (leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor))


def training_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Estimate the peak memory of a training step on an image of ``shape`` (B, C, *S), in bytes.

    As nnU-Net trains on CUDA: maps in half precision, weights and momentum in single; a gradient counts as in half
    precision, which leaves out that it is held in single but also the copy of its weight in half.

    Args:
        network: on the meta device; it is turned to half precision.
        shape: of the input.
    """
    parameters = list(network.parameters())
    held = sum(p.numel() * FLOAT_BYTES * (2 if p.requires_grad else 1) for p in parameters)
    network.half().zero_grad(set_to_none=True)
    with LiveTensors() as memory:
        image = torch.zeros(*shape, dtype=torch.half, device="meta")
        outputs = [output.mean() for output in tensors_of(network(image))]
        torch.stack(outputs).sum().backward()
    return held + memory.peak_bytes
