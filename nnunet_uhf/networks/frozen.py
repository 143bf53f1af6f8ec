"""Networks with parts that others taught, and that must stay as they are (ours)."""

from __future__ import annotations

from typing import ClassVar, Self

from torch import nn


class KeepsFrozen(nn.Module):
    """A network with parts that never learn and never leave eval mode.

    Attributes:
        frozen: names of these parts; a part may be None.
    """

    frozen: ClassVar[tuple[str, ...]]

    def freeze(self) -> None:
        """Freeze the parts; called once all of them are there."""
        for name in self.frozen:
            part = getattr(self, name)
            if part is not None:
                part.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As ``nn.Module.train``, but the frozen parts never leave eval mode."""
        super().train(mode)
        for name in self.frozen:
            part = getattr(self, name)
            if part is not None:
                part.eval()
        return self
