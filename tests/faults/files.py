"""Files that are cut, or have a wrong byte, and plans with a damaged block."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from faults.tally import Fault
from helpers.damage import damaged
from helpers.support import tiny_keeper
from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.keepers.file import read_keeper, weights_sha256
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights

MODEL = Path(__file__).parents[1] / "fixtures/v0_1_0/results/Dataset501_Tiny/UHFTrainer_1epoch__reference__2d"


def _outcome(read: Callable[[], Any], sound: Any) -> tuple[str, str]:
    try:
        found = read()
    except UHFError as error:
        return ("traceback" if "\n" in str(error) else "one line"), str(error)
    except Exception as error:  # noqa: BLE001 - that is what is counted
        return "traceback", f"{type(error).__name__}: {error}"
    return ("right" if found == sound else "wrong"), "read as something else"


def damaged_files(root: Path, times: int, seed: int = 0) -> Iterator[Fault]:
    """Keeper files and checkpoints, cut short or with one byte changed."""
    draw = random.Random(seed)
    packed = MODEL / "fold_0/checkpoint_final.pth.xz"
    checkpoint = root / "checkpoint_final.pth"
    checkpoint.write_bytes(lzma.decompress(packed.read_bytes()))
    kinds: dict[str, tuple[Path, Callable[[Path], str]]] = {
        "keeper file": (tiny_keeper(root, 2), lambda path: weights_sha256(read_keeper(path).keeper_state)),
        "checkpoint": (checkpoint, lambda path: weights_sha256(_weights(path))),
    }
    for name, (path, read) in kinds.items():
        content, sound = path.read_bytes(), read(path)
        cut = Fault(f"{name} cut short", "one line")
        for _ in range(times):
            path.write_bytes(content[: draw.randrange(len(content))])
            cut.saw(*_outcome(lambda path=path, read=read: read(path), sound))
        yield cut
        changed = Fault(f"{name} with another byte", "one line, or the same weights")
        for _ in range(times):
            place = draw.randrange(len(content))
            path.write_bytes(content[:place] + bytes([content[place] ^ draw.randrange(1, 256)]) + content[place + 1 :])
            changed.saw(*_outcome(lambda path=path, read=read: read(path), sound))
        yield changed


def _weights(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_checkpoint_weights(path)["network_weights"]
    return weights


def damaged_plans(times: int) -> Iterator[Fault]:
    """Every entry of a `uhf` block left out, renamed, or of a wrong value; at most so many."""
    fault = Fault("plans with a damaged uhf block", "one line, or the same network")
    plans = json.loads((MODEL / "plans.json").read_text())
    settings = plans["configurations"]["2d"]
    sound = GuidedBlock.parse(settings["uhf"], where="plans.json").spec
    for count, (path, change, block) in enumerate(damaged(settings["uhf"])):
        if count >= times:
            break

        def read(block: Any = block) -> Any:
            parsed = GuidedBlock.parse(block, where="plans.json")
            parsed.require_fit(settings, where="plans.json")
            return parsed.spec

        outcome, note = _outcome(read, sound)
        fault.saw(outcome, f"{path} {change}: {note}")
    yield fault
