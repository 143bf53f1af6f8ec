"""nnU-Net's training on two CPU ranks: it takes for granted that a rank owns the CUDA device of its number."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn.parallel import DistributedDataParallel

TRAINER_MODULE = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"


class OnCpu(nnUNetTrainer):
    """Mixin before any trainer: a rank computes on the CPU."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cpu"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.device, self.grad_scaler = torch.device("cpu"), None


def on_two_ranks(function: Callable[..., None], *arguments: Any) -> None:
    """Call `function(rank, *arguments)` in two processes; raises where one fails.

    On Linux they are forks, which need not import torch and nnU-Net again.
    """
    method = "fork" if sys.platform == "linux" else "spawn"
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method=method)


@contextmanager
def one_of_two(rank: int, folder: str, variables: Mapping[str, str]) -> Iterator[None]:
    """What nnU-Net does around the training of a rank, without CUDA; `folder` is where the ranks meet."""
    os.environ.update(variables)
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    # both are on this machine: its name need not lead anywhere, and a rank that waits for a lost one gives up
    os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timedelta(minutes=3)
    )
    with mock.patch(f"{TRAINER_MODULE}.DDP", _wrapped):
        yield
    torch.distributed.destroy_process_group()


def _wrapped(network: torch.nn.Module, device_ids: list[int]) -> DistributedDataParallel:
    """nnU-Net's wrapping without the device ids, which CPU modules must not have."""
    return DistributedDataParallel(network)
