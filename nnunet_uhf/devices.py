"""Which device computes, checked before long work begins (ours)."""

from __future__ import annotations

import torch

from nnunet_uhf.errors import UHFError


def checked_device(device: str | torch.device) -> torch.device:
    """The device, when torch knows it and this machine has it; an index such as `cuda:1` is allowed.

    Raises:
        UHFError: it does not, or has not.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UHFError(f"-device {device}: choose cuda, cpu or mps") from None
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (chosen.index or 0) >= count.get(chosen.type, 0):
        raise UHFError(f"-device {device}: torch finds no such device here; use -device cpu")
    return chosen
