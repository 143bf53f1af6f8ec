"""What a backward pass of the reference generator keeps, counted without a number of it in memory."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.unicoal_samples import CODE, made_generator
from nnunet_uhf.networks.unicoal.network import UniCOAL
from nnunet_uhf.networks.unicoal.question import FEATURES, Question

BATCH, PIXELS = 16, 256
GB = 1e9


def counted(network: UniCOAL, source: Tensor, question: Question) -> dict[str, float]:
    """GB that a pass keeps in all, what comes into its layers, and the most that one layer keeps."""
    kept: dict[int, Tensor] = {parameter.untyped_storage()._cdata: parameter for parameter in network.parameters()}
    ours = set(kept)
    inputs, layers = [], []

    def size(keys: set[int]) -> float:
        return sum(kept[key].untyped_storage().nbytes() for key in keys) / GB

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        inputs.append(given[0].numel() * given[0].element_size() / GB)
        module.known = set(kept)

    def behind(module: nn.Module, *_: Any) -> None:
        layers.append(size(set(kept) - module.known))  # type: ignore[operator]

    for layer in (*network.keeper.layers, *network.decoder.layers):
        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(behind)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(source, question)
    return {"all": size(set(kept) - ours), "inputs": sum(inputs), "layer": max(layers)}


@pytest.mark.parametrize("half", [False, True])
def test_recomputed_layers_leave_room_on_a_card_of_24_gb(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # there is none of meta tensors
    with torch.device("meta"):
        network = made_generator("reference")
        source = torch.empty(BATCH, 4, PIXELS, PIXELS, dtype=torch.float16 if half else torch.float32)
        question = Question(
            condition=torch.empty(BATCH, CODE + FEATURES),
            noise=torch.empty(BATCH, 64),
            place=torch.empty(BATCH, 2),
            weights=torch.empty(BATCH, 4),
        )
    found = counted(network, source, question)
    share = 0.5 if half else 1.0
    assert found["all"] > 60 * share
    # layers that are computed again keep what comes in, and one at a time keeps all of its own
    assert found["inputs"] < 7 * share
    assert found["layer"] < 6 * share
