"""A network that makes images, with what it must know of its input: of a keeper file or of a trained model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.file import KeeperHeader, build_enhancer, read_keeper
from nnunet_uhf.keepers.trained import TrainedKeeper, read_trained_keeper
from nnunet_uhf.keepers.trained_teacher import TrainedTeacher, is_teacher, read_trained_teacher
from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.nnunet.model_folder import ModelFolder


@dataclass(frozen=True)
class Enhancer:
    """A network with what it must know of its input; ``headers`` and ``parameters``: one per averaged fold."""

    name: str
    headers: tuple[KeeperHeader, ...]
    network: EnhancementNet
    parameters: list[Mapping[str, Tensor]]


def load_enhancer(model: str | Path, *, folds: Sequence[int | str] | None = None) -> Enhancer:
    """Read a keeper file with decoder, or the folds of a keeper or teacher trainer's results folder."""
    path = Path(model)
    if not path.is_dir():
        if folds is not None:
            raise UHFError(f"{path} is a keeper file, which holds one fold: leave the folds away (-f)")
        file = read_keeper(path)
        network = build_enhancer(file)
        return Enhancer(path.name, (file.header,), network, [network.state_dict()])
    folder = ModelFolder(path)
    if not folder.plans_file.is_file():
        raise UHFError(
            f"{path} is no model folder (it has no plans.json): give a keeper file (*.safetensors) or a folder "
            "like nnUNet_results/DATASET/UHFKeeperTrainer__nnUNetPlans__3d_fullres"
        )
    chosen = tuple(folds) if folds is not None else folder.finished_folds
    read: Callable[[Path, int | str], TrainedKeeper | TrainedTeacher]
    read = read_trained_teacher if is_teacher(folder) else read_trained_keeper
    trained = [read(path, fold) for fold in chosen]
    networks = [one.network for one in trained]
    return Enhancer(
        path.name,
        tuple(one.header for one in trained),
        networks[0],
        [copy.deepcopy(network.state_dict()) for network in networks],  # the first network loads each in turn
    )
