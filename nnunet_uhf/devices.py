"""Which device computes, checked before long work begins, and with how many threads (ours)."""

from __future__ import annotations

import os

import torch

from nnunet_uhf.errors import UHFError

NNUNET_DEVICES = ("cuda", "cpu", "mps")


def device_of_command(name: str | None) -> torch.device:
    """The device of an option ``-device``: one of nnU-Net's three, that this machine has.

    Without the option, None, it is cuda where torch finds one, else cpu.

    Raises:
        UHFError: it is none of them, or is not here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in NNUNET_DEVICES:
        raise UHFError(f"-device {name}: choose cuda, cpu or mps (which GPU: set CUDA_VISIBLE_DEVICES)")
    return checked_device(name)


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


def use_asked_threads(device: torch.device) -> None:
    """On a CPU, compute with the threads of ``OMP_NUM_THREADS`` where that is set: nnU-Net takes all cores.

    Small networks learn faster with one, and trainings side by side do not wait for each other.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if device.type == "cpu" and threads.isdecimal() and int(threads) > 0:
        torch.set_num_threads(int(threads))
