"""Weights under the names that the paper's own code gives them."""

from __future__ import annotations

import torch
from torch import Tensor

NF = 8
KERNEL = 3  # the paper's is 7


def made_weights(dim: int, *, features: int = NF, kernel: int = KERNEL) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dicts of keeper and teacher's decoder with the names and shapes of the paper's networks, drawn anew."""
    torch.manual_seed(dim)
    stack = dim == 2
    keeper: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}

    def draw(out: int, width: int, size: int) -> Tensor:
        return torch.randn(out, width, *[size] * dim) / (width * size**dim) ** 0.5

    def block(state: dict[str, Tensor], name: str, width: int, out: int, size: int, *, twice: bool = stack) -> None:
        state[f"module.{name}.model.0.weight"] = draw(out, width, size)
        if twice:
            state[f"module.{name}.model.3.weight"] = draw(out, out, size)

    def gate(name: str) -> None:
        shapes = {"weight": [1] * (dim + 1), "bias": [1] * (dim + 1), "one": [1, 1], "zero": [1, 1], "scale": [1]}
        for part, shape in shapes.items():
            keeper[f"module.{name}.{part}"] = 0.5 + torch.rand(shape)
        keeper[f"module.{name}.theta"] = torch.rand(1, dim, *[1] * dim)

    def channels(level: int, base: int) -> int:
        return base * (2**level if dim == 3 else 1)

    width, widths = 1, []
    for level in range(5):
        growth = channels(level, features // 4)
        for number in range(3):
            block(keeper, f"conv{level + 1}.conv{number + 1}", width + number * growth, growth, kernel)
        widths.append(width + 3 * growth)
        if level < 4:
            block(keeper, f"tran{level + 1}", widths[-1], growth, 4, twice=False)
            width = growth
    block(keeper, "guide5_conv", widths[4], channels(4, features), kernel)
    gate("guide5_PRM")
    for level in range(4):
        fine, deep, name = channels(level, features), channels(level + 1, features), f"guide{level + 1}"
        keeper[f"module.{name}.conv1x1_x.0.weight"] = draw(fine, deep, 1)
        keeper[f"module.{name}.attention.0.weight"] = draw(2, 2 * fine, 1)
        block(keeper, f"{name}.conv_skip", widths[level], fine, kernel)
        gate(f"{name}.prm")
        head[f"module.up{4 - level}.conv1x1.0.weight"] = draw(fine, deep, 1)
        block(head, f"up{4 - level}.conv", 2 * fine, fine, 3)
    block(head, "conv", channels(4, features), channels(4, features), 3)
    head["module.out.0.weight"] = draw(1, features, 1)
    return keeper, head
