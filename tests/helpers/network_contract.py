"""What every network of the package promises; a network's test class inherits these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from nnunet_uhf.networks.distillation.levels import level_strides

# every kind of patch nnU-Net plans that breaks a naive five-level network, and two ordinary ones
PATCHES: dict[int, list[tuple[int, ...]]] = {
    2: [(16, 16), (28, 28), (8, 40), (32, 48)],
    3: [(16, 16, 16), (8, 16, 16), (20, 40, 40), (24, 16, 32)],
}
SIZES = [(dim, size) for dim, sizes in PATCHES.items() for size in sizes]
USUAL = [(2, (32, 24)), (3, (16, 24, 32))]
ANISOTROPIC_STRIDES = level_strides(3, spacing=(4.0, 1.0, 1.0))


def tensors_of(output: Any) -> Iterator[Tensor]:
    """All tensors of a nested output."""
    if isinstance(output, Tensor):
        yield output
    elif output is not None:
        for part in output:
            yield from tensors_of(part)


def converted(arguments: tuple[Any, ...], change: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    """Positional arguments with every tensor changed, also those inside lists."""

    def convert(part: Any) -> Any:
        if isinstance(part, list):
            return [convert(item) for item in part]
        return change(part) if isinstance(part, Tensor) else part

    return tuple(convert(argument) for argument in arguments)


def wake(network: nn.Module) -> nn.Module:
    """Move parameters that start at zero off it: behind a zero factor no gradient can pass, and none should."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.add_(0.1 + 0.1 * torch.rand_like(parameter))
    return network


GUIDE_CHANNELS = (4, 8, 6, 4, 4)


class NetworkContract:
    """Inherit, and say how to make the network and its inputs."""

    # the network's forward pass is random in training
    random_in_training: ClassVar[bool] = False

    def make(self, dim: int, **options: Any) -> nn.Module:
        raise NotImplementedError

    def inputs(self, dim: int, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
        """Positional arguments of a forward pass."""
        return (torch.randn(batch, 1, *size),)

    def check_shapes(self, network: nn.Module, output: Any, *, batch: int, size: tuple[int, ...]) -> None:
        """Assert that an output has the shapes the network's docstring promises."""
        raise NotImplementedError

    def train_output(self, network: nn.Module, inputs: tuple[Any, ...]) -> Any:
        """The output that training uses, where it is more than a plain forward pass."""
        return network(*inputs)

    @pytest.mark.parametrize(("dim", "size"), SIZES)
    def test_any_plannable_patch_gives_the_promised_shapes(self, dim: int, size: tuple[int, ...]) -> None:
        network = self.make(dim)
        for training in (True, False):
            output = network.train(training)(*self.inputs(dim, size, batch=1))
            self.check_shapes(network, output, batch=1, size=size)

    @pytest.mark.parametrize(("dim", "size"), USUAL)
    def test_a_sample_does_not_see_the_rest_of_its_batch(self, dim: int, size: tuple[int, ...]) -> None:
        # in double precision: norms over two voxels magnify the rounding of single precision
        network = wake(self.make(dim)).eval().double()
        inputs = converted(self.inputs(dim, size, batch=3), Tensor.double)
        with torch.no_grad():
            together = tensors_of(network(*inputs))
            alone = tensors_of(network(*converted(inputs, lambda x: x[1:2])))
        for many, one in zip(together, alone, strict=True):
            torch.testing.assert_close(many[1:2], one, atol=1e-8, rtol=1e-6)

    @pytest.mark.parametrize(("dim", "size"), USUAL)
    def test_evaluation_is_deterministic(self, dim: int, size: tuple[int, ...]) -> None:
        network = self.make(dim).eval()
        inputs = self.inputs(dim, size)
        with torch.no_grad():
            pairs = zip(tensors_of(network(*inputs)), tensors_of(network(*inputs)), strict=True)
        assert all(torch.equal(first, second) for first, second in pairs)

    @pytest.mark.parametrize(("dim", "size"), USUAL)
    def test_a_twin_from_config_and_state_gives_the_same_numbers(self, dim: int, size: tuple[int, ...]) -> None:
        network = wake(self.make(dim))
        twin = self.rebuild(network)
        assert type(twin) is type(network)
        twin.load_state_dict(network.state_dict(), strict=True)
        inputs = self.inputs(dim, size)
        with torch.no_grad():
            outputs = (tensors_of(n.eval()(*inputs)) for n in (network, twin))
            assert all(torch.equal(first, second) for first, second in zip(*outputs, strict=True))

    def rebuild(self, network: Any) -> nn.Module:
        """A fresh network of the same architecture."""
        return type(network)(**network.config())

    @pytest.mark.parametrize(("dim", "size"), USUAL)
    def test_gradient_reaches_every_trainable_parameter(self, dim: int, size: tuple[int, ...]) -> None:
        network = wake(self.make(dim)).train()
        output = self.train_output(network, self.inputs(dim, size))
        # random weights, because the plain sum of an instance-normalised map does not depend on anything
        torch.stack([(t * torch.rand_like(t)).sum() for t in tensors_of(output) if t.requires_grad]).sum().backward()
        silent = [
            name
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
            and (parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any())
        ]
        assert not silent, silent

    @pytest.mark.parametrize(("dim", "size"), [(2, (48, 32)), (3, (32, 48, 32))])
    def test_double_precision_agrees_with_single(self, dim: int, size: tuple[int, ...]) -> None:
        network = wake(self.make(dim)).eval()
        inputs = self.inputs(dim, size, batch=1)
        with torch.no_grad():
            single_outputs = list(tensors_of(network(*inputs)))
            double_outputs = list(tensors_of(network.double()(*converted(inputs, Tensor.double))))
        for single, double in zip(single_outputs, double_outputs, strict=True):
            assert double.dtype == torch.float64
            assert (single - double).norm() < 1e-3 * double.norm()

    @pytest.mark.parametrize(("dim", "size"), [(2, (32, 24)), (3, (16, 16, 16))])
    def test_compiles_as_one_graph(self, dim: int, size: tuple[int, ...]) -> None:
        network = self.make(dim)
        network.train(not self.random_in_training)
        inputs = self.inputs(dim, size)
        torch.compiler.reset()
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        for one, other in zip(tensors_of(compiled(*inputs)), tensors_of(network(*inputs)), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


class StridedContract(NetworkContract):
    """For networks with a `strides` argument."""

    @pytest.mark.parametrize("size", [(8, 64, 64), (8, 16, 16), (12, 32, 48)])
    def test_anisotropic_strides_give_the_promised_shapes(self, size: tuple[int, ...]) -> None:
        network = self.make(3, strides=ANISOTROPIC_STRIDES)
        self.check_shapes(network, network(*self.inputs(3, size, batch=1)), batch=1, size=size)


class FusionContract(NetworkContract):
    """What every fusion module promises: name the class."""

    fusion: ClassVar[type[nn.Module]]

    def make(self, dim: int, **options: Any) -> nn.Module:
        return self.fusion(GUIDE_CHANNELS, 10, dim=dim, **options)

    def inputs(self, dim: int, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
        skip = torch.randn(batch, 10, *(max(2, n // 2) for n in size))
        grids = [tuple(max(1, n // 2**level) for n in size) for level in range(len(GUIDE_CHANNELS))]
        return skip, [torch.randn(batch, c, *grid) for c, grid in zip(GUIDE_CHANNELS, grids, strict=True)]

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 10, *(max(2, n // 2) for n in size))

    def rebuild(self, network: Any) -> nn.Module:
        return self.make(3 if isinstance(network.combine_skip, nn.Conv3d) else 2)
