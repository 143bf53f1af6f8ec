"""A device that is not there is named before anything is computed."""

from __future__ import annotations

import pytest
import torch

from nnunet_uhf.devices import checked_device, device_of_command, use_asked_threads
from nnunet_uhf.errors import UHFError


def test_a_device_of_this_machine_is_returned() -> None:
    assert checked_device("cpu") == checked_device(torch.device("cpu")) == torch.device("cpu")
    assert device_of_command("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("there", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_without_the_option_a_gpu_is_used_where_there_is_one(
    there: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_of_command(None) == torch.device(chosen)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UHFError, match="choose cuda, cpu or mps"):
        checked_device(name)


@pytest.mark.parametrize("name", ["cuda:99", "xpu", "cpu:1"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(UHFError, match=f"-device {name}: torch finds no such device"):
        checked_device(name)


def test_commands_take_the_names_that_nnunet_takes() -> None:
    with pytest.raises(UHFError, match="CUDA_VISIBLE_DEVICES"):
        device_of_command("cuda:0")


@pytest.mark.parametrize(
    ("asked", "device", "used"),
    [("3", "cpu", [3]), ("3", "cuda", []), ("0", "cpu", []), ("", "cpu", []), ("2,2", "cpu", [])],
)
def test_a_cpu_computes_with_the_threads_that_are_asked_for(
    asked: str, device: str, used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    use_asked_threads(torch.device(device))
    assert told == used
