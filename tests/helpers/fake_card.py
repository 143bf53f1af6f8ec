"""A graphics card without one: torch's fake tensors say they are on it, have no values, and refuse those of the CPU.

What a trainer keeps on the CPU, or makes there in a step, is found; kernels, half precision and backward passes are
not tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

CARD = torch.device("cuda")
CHOSEN = 4
"""Voxels that a mask chooses."""
OURS = ("nnunet_uhf", "nnunetv2")


def step_on_fake_card(trainer: Any) -> None:
    """A training and a validation step of a trainer that has been made on the CPU; it is of no use afterwards.

    Raises:
        RuntimeError: a tensor of the CPU meets one of the card.
    """
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    batches = [next(loader) for loader in (trainer.dataloader_train, trainer.dataloader_val)]
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True) as mode:
        answer_without_values(patch)
        for module in modules_of(trainer, set()):
            move(module)
        trainer.device = CARD
        training, validation = tree_map_only(Tensor, mode.from_tensor, batches)
        trainer.train_step(training)
        trainer.on_validation_epoch_start()
        with torch.no_grad():
            trainer.validation_step(validation)


def answer_without_values(patch: pytest.MonkeyPatch) -> None:
    """Let steps run that look at values, and leave out what a card's driver would have to do."""
    index = Tensor.__getitem__

    def chosen(tensor: Tensor, key: Any) -> Tensor:
        if not (isinstance(key, Tensor) and key.dtype == torch.bool):
            return index(tensor, key)
        if key.device != tensor.device:
            raise RuntimeError(f"a mask of {key.device} and a tensor of {tensor.device}")
        return tensor.new_empty(CHOSEN, *tensor.shape[key.ndim :])

    def gradients(_: Any, inputs: Any, **__: Any) -> list[Tensor]:
        return [torch.ones_like(one) for one in ([inputs] if isinstance(inputs, Tensor) else inputs)]

    answers = {
        "__getitem__": chosen,
        "backward": lambda *_, **__: None,
        "numpy": lambda tensor, **_: np.zeros(tuple(tensor.shape)),
        "tolist": lambda tensor: np.zeros(tuple(tensor.shape)).tolist(),
        "item": lambda _: 0.5,
        "__float__": lambda _: 0.5,
        "__int__": lambda _: 1,
        "__bool__": lambda _: True,
    }
    for name, answer in answers.items():
        patch.setattr(Tensor, name, answer)
    patch.setattr(torch.autograd, "grad", gradients)


def modules_of(thing: Any, seen: set[int]) -> Iterator[nn.Module]:
    """Networks and losses that an object holds, however deep."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        yield thing
        return
    inner: list[Any] = []
    if isinstance(thing, dict):
        inner = list(thing.values())
    elif isinstance(thing, list | tuple | set):
        inner = list(thing)
    elif type(thing).__module__.startswith(OURS) and hasattr(thing, "__dict__"):
        inner = list(vars(thing).values())
    for one in inner:
        yield from modules_of(one, seen)


def move(module: nn.Module) -> None:
    """As `to` does, which does not know fake tensors."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(parameter.detach().to(CARD), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(CARD)
