"""What gives feature maps: a keeper file, or the encoder of any finished nnU-Net (ours)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import read_image
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.inference.inputs import Scan, require_one_grid
from nnunet_uhf.inference.map_tiles import Maps
from nnunet_uhf.inference.orientation import turn_of
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.keepers.file import build_keeper, read_keeper
from nnunet_uhf.networks.guided.controls import drawn_keeper
from nnunet_uhf.networks.guided.spec import KeeperSpec
from nnunet_uhf.nnunet.build import trained_network
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.files import READERS
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.nnunet.plans_block import block_in, role_of
from nnunet_uhf.nnunet.training_data import TrainingData
from nnunet_uhf.types import FloatArray

_OF_PLANS = ("transpose_forward", "foreground_intensity_properties_per_channel")
_OF_CONFIGURATION = (
    "spacing", "normalization_schemes", "use_mask_for_norm", "resampling_fn_data", "resampling_fn_data_kwargs",
)  # fmt: skip
"""What preprocessing reads of them."""


@dataclass(frozen=True)
class Prepared:
    """A scan as a network sees it.

    Attributes:
        data: `(C, *S)`.
        properties: nnU-Net's, of the scan after it was turned.
        turn: to the axes of the network, or None.
    """

    data: FloatArray
    properties: dict[str, Any]
    turn: Turn | None


@dataclass(frozen=True)
class MapSource:
    """A network whose maps are asked for.

    Attributes:
        path: of the file or folder it came from.
        note: what the JSON beside the maps says of it.
        network: as a module, to be moved to a device.
        maps: its maps of a patch.
        channels: images it reads together.
        plans: nnU-Net's, as far as preprocessing needs them.
        configuration: patch size and spacing.
        prepare: brings a scan before it.
        names: of the channels it reads; None of a model, which reads all those of its dataset.
        learnt_from: cases that its weights were trained on; None where nobody wrote that down.
        orientation: to which scans are turned, None where they are read as they are stored.
    """

    path: Path
    note: dict[str, Any]
    network: nn.Module
    maps: Maps
    channels: int
    plans: PlansManager
    configuration: ConfigurationManager
    prepare: Callable[[Scan], Prepared]
    names: tuple[str, ...] | None = None
    learnt_from: tuple[str, ...] | None = None
    orientation: str | None = None

    @property
    def preparation(self) -> str:
        """What decides how a scan is prepared: equal ones prepare it alike."""
        planned = {name: self.plans.plans.get(name) for name in _OF_PLANS}
        configured = {name: self.configuration.configuration.get(name) for name in _OF_CONFIGURATION}
        return json.dumps([self.orientation, self.channels, self.names, planned, configured], sort_keys=True)


def map_source(model: Path, *, fold: int | str | None = None, drawn: int | None = None) -> MapSource:
    """The network of a keeper file, or of a fold of a finished nnU-Net, whose encoder gives the maps.

    Args:
        model: keeper file or model folder.
        fold: of a model folder; the first finished one by default.
        drawn: seed of random weights in place of the trained ones: the same network that has learnt nothing.

    Raises:
        UHFError: neither; a keeper that cannot guide; a fold of a keeper file; a network without nnU-Net's encoder.
    """
    if not model.is_dir():
        if fold is not None:
            raise UHFError(f"{model} is a keeper file, which holds one fold: leave the fold away (-f)")
        return _of_keeper(model, drawn)
    return _of_model(ModelFolder(model), fold, drawn)


def _of_keeper(path: Path, drawn: int | None) -> MapSource:
    file = read_keeper(path)
    header, keeper = file.header, build_keeper(file)
    if drawn is not None:
        keeper = drawn_keeper(KeeperSpec(architecture=header.architecture, network=header.network), drawn).eval()
    plans, configuration = managers(header)

    def prepare(scan: Scan) -> Prepared:
        turn = turn_of(header, scan[0])
        data, _, properties = preprocess_image(scan, plans, configuration, turn=turn)
        return Prepared(data, properties, turn)

    note = {"keeper": path.name, "sha256": header.sha256, "trained_on": header.dataset, "route": header.route}
    return MapSource(
        path,
        note if drawn is None else _drawn_note(note, drawn),
        keeper,
        keeper,
        len(header.inputs),
        plans,
        configuration,
        prepare,
        names=tuple(one.channel for one in header.inputs),
        learnt_from=tuple(header.training_cases) if drawn is None else (),
        orientation=header.orientation,
    )


def _drawn_note(note: dict[str, Any], seed: int) -> dict[str, Any]:
    """What is said of random weights: of which network they are, nothing of a training."""
    return {name: value for name, value in note.items() if name in ("keeper", "model")} | {"drawn_by_seed": seed}


def _of_model(folder: ModelFolder, fold: int | str | None, drawn: int | None) -> MapSource:
    plans_json, dataset_json = folder.plans(), folder.dataset_json()
    chosen = folder.finished_folds[0] if fold is None else fold
    checkpoint = load_checkpoint_weights(folder.fold(chosen).checkpoint)
    name, configuration_name = checkpoint["trainer_name"], checkpoint["init_args"]["configuration"]
    if role_of(block_in(plans_json, configuration_name)) not in (None, "guided"):
        raise UHFError(f"{folder.path} is a training of images: export its keeper and give that file (-m)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if drawn is None else drawn)
        network = trained_network(plans_json, configuration_name, dataset_json, trainer=name, deep_supervision=False)
    if drawn is None:
        network.load_state_dict(checkpoint["network_weights"])
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module) or not getattr(encoder, "return_skips", False):
        raise UHFError(f"{folder.path}: {type(network).__name__} has no encoder that gives its maps as nnU-Net's do")
    plans = PlansManager(plans_json)
    if plans_json.get("image_reader_writer") not in READERS:
        raise UHFError(f"{folder.path} reads images by {plans_json.get('image_reader_writer')}, not by {READERS[0]}")
    configuration = plans.get_configuration(configuration_name)
    if configuration.previous_stage_name is not None:
        raise UHFError(f"{folder.path} is the second stage of a cascade, which reads a segmentation: give the first")

    def prepare(scan: Scan) -> Prepared:
        require_one_grid(scan)
        images = [read_image(path) for path in scan]
        data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            np.concatenate([image for image, _ in images]), None, images[0][1], plans, configuration, dataset_json
        )
        return Prepared(data, properties, None)

    channels = determine_num_input_channels(plans, configuration, dataset_json)
    note = {"model": folder.path.resolve().name, "fold": chosen, "trained_on": plans.dataset_name}
    data = TrainingData.recorded(checkpoint["init_args"])
    cases = None if data is None else tuple(data.training)
    return MapSource(
        folder.path,
        note if drawn is None else _drawn_note(note, drawn),
        network.eval(),
        encoder,
        channels,
        plans,
        configuration,
        prepare,
        learnt_from=cases if drawn is None else (),
    )
