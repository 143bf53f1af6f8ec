"""A finished keeper training as nnU-Net's results folder holds it; neither trainers nor data are needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunet_uhf.errors import KeeperFileError, UHFError, first_line
from nnunet_uhf.keepers.file import KeeperHeader, joined, network_from_state, weights_sha256
from nnunet_uhf.keepers.header import ARCHITECTURES, check_architecture, header_json, parse_header
from nnunet_uhf.keepers.training_block import REMEDY, NetworksEntry, TrainingBlock
from nnunet_uhf.networks.contract import Decoder, EnhancementNet, Keeper, NetworkKind
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.files import READERS
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.nnunet.plans_block import block_in, role_of
from nnunet_uhf.nnunet.training_data import TrainingData
from nnunet_uhf.routes.table import read_any_task
from nnunet_uhf.routes.task import EnhancementTask, Task

SAME_FIELD = "same-field control: the target is the low-field image itself, no higher field was seen"
_NO_HASH = "0" * 64
FRAMEWORK = "Framework: Isensee et al., nnU-Net, Nature Methods 18, 203-211 (2021)."


@dataclass(frozen=True)
class TrainedKeeper:
    """What one fold of a keeper trainer's results folder holds; the header without cases and metrics.

    ``data``: what it was trained on; None of trainings of version 0.1.0, which did not record it.
    """

    header: KeeperHeader
    network: EnhancementNet
    block: TrainingBlock
    data: TrainingData | None

    @property
    def keeper(self) -> Keeper:
        """The part that makes maps ``(B, c_l, *S_l)`` of an image ``(B, C, *S)``, finest first."""
        return self.network.keeper

    @property
    def decoder(self) -> Decoder:
        """The part that makes an image of the maps."""
        return self.network.decoder


def read_trained_keeper(folder: Path, fold: int | str) -> TrainedKeeper:
    """Read one fold of a results folder, without nnUNet_raw or nnUNet_preprocessed.

    The header's target intensity is that of the labelled voxels in the plans; cases and metrics are empty.
    Raises UHFError when files are missing or damaged, or the folder is not that of a keeper trainer.
    """
    model = ModelFolder(folder)
    path = model.fold(fold).checkpoint
    checkpoint = load_checkpoint_weights(path)
    plans, dataset_json = model.plans(), model.dataset_json()
    configuration = checkpoint["init_args"]["configuration"]
    block = _keeper_block(plans, configuration, folder)
    data = TrainingData.recorded(checkpoint["init_args"])
    try:
        described = describe_keeper(block, plans, configuration, dataset_json, fold=fold, where=folder)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        reason = first_line(error, kind=False)
        raise UHFError(f"{model.plans_file}: its uhf block describes no model ({reason}); {REMEDY}") from error
    network = _network(block.networks, checkpoint["network_weights"], path, dim=described.dim)
    header = replace(
        described,
        architecture=network.keeper.config(),
        decoder_architecture=network.decoder.config(),
        sha256=weights_sha256(network.keeper.state_dict()),
        decoder_sha256=weights_sha256(network.decoder.state_dict()),
        orientation=None if data is None else data.orientation,
    )
    fault = _fault_of(header, folder)
    if fault is not None:
        raise UHFError(f"{model.plans_file}: its uhf block is damaged: {fault}; {REMEDY}")
    return TrainedKeeper(header, network, block, data)


def describe_keeper(
    block: TrainingBlock,
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    *,
    fold: int | str,
    where: Path | str,
) -> KeeperHeader:
    """The header of the keeper that a training with this block makes, before there are weights: its hashes are empty.

    Raises:
        UHFError: a keeper file cannot describe it; begins with ``where``.
    """
    if plans["image_reader_writer"] not in READERS:
        raise UHFError(
            f"{where}: the images are read by {plans['image_reader_writer']}, which a keeper file cannot describe; "
            f"plan the dataset with one of {', '.join(READERS)} (overwrite_image_reader_writer)"
        )
    configuration_manager = PlansManager(dict(plans)).get_configuration(configuration)
    task = read_any_task(dataset_json, dataset=plans["dataset_name"])
    source, kind = block.source_channel, _kind(block.networks, where)
    channels = len(configuration_manager.normalization_schemes)
    if max(source, block.target_channel) >= channels:
        raise UHFError(f"{where}: the uhf block names a channel beyond the {channels} of the plans; restore plans.json")
    source_field = task.low_field_T if task.low_field_T is not None else block.simulated_field
    measured = block.networks.part("target_intensity")
    if not measured and block.translates:
        raise UHFError(f"{where}: the uhf block of a translation lacks target_intensity; restore plans.json")
    cited = f"Method: {kind.citation}. {FRAMEWORK}"
    return KeeperHeader(
        network=block.networks.network,
        architecture=dict(block.networks.architecture),
        decoder_architecture=_decoder_arguments(block.networks, kind),
        dim=len(configuration_manager.patch_size),
        channel=task.channel,
        spacing_mm=tuple(float(s) for s in configuration_manager.spacing),
        transpose_forward=tuple(plans["transpose_forward"]),
        patch_size=tuple(int(n) for n in configuration_manager.patch_size),
        normalisation=configuration_manager.normalization_schemes[source],
        use_mask_for_norm=bool(configuration_manager.use_mask_for_norm[source]),
        target_intensity=dict(measured or foreground_intensity(plans, block.learnt_channel)),
        source_field_T=source_field,
        target_field_T=source_field if block.same_field else task.high_field_T,
        route=task.route,
        dataset=plans["dataset_name"],
        fold=fold,
        configuration=configuration,
        training_cases=[],
        validation_cases=[],
        metrics={},
        simulation=_simulation(block, task),
        supervision=_supervision(block),
        modalities=_described_modalities(block.networks.part("modalities"), plans, configuration, dataset_json),
        licence=str(dataset_json.get("licence") or dataset_json.get("license") or "not stated"),
        citation=" ".join(filter(None, (cited, str(dataset_json.get("reference") or "")))),
    )


def _described_modalities(
    part: Mapping[str, Any] | None, plans: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What a header says of modalities: those of the block, and what -1 and 1 usually stand for in each target.

    The planner's percentiles are of labelled voxels; without a mask the darkest is air.
    """
    if part is None:
        return None
    masked = PlansManager(dict(plans)).get_configuration(configuration).use_mask_for_norm
    names = channel_names(dataset_json)
    intensity = {}
    for target in part["targets"]:
        channel = names.index(target)
        measured = plans["foreground_intensity_properties_per_channel"][str(channel)]
        low = float(measured["percentile_00_5"]) if masked[channel] else 0.0
        intensity[target] = [low, max(float(measured["percentile_99_5"]), low + 1e-6)]
    return {**part, "intensity": intensity}


def require_describable(header: KeeperHeader, *, where: str) -> None:
    """Hold a header without hashes against what a keeper file may say, as long as nothing is trained.

    Raises:
        UHFError: a file with it would be refused; begins with ``where``.
    """
    fault = _fault_of(replace(header, sha256=_NO_HASH, decoder_sha256=_NO_HASH), where)
    if fault is not None:
        raise UHFError(f"{where}: no keeper file could be made of this training: {fault}; correct that first")


def _fault_of(header: KeeperHeader, where: Path | str) -> str | None:
    """What a keeper file may not say; None where it may."""
    try:
        parse_header(header_json(header), where=str(where))
    except KeeperFileError as error:
        return error.problem or str(error)
    except (TypeError, ValueError) as error:
        return first_line(error, kind=False)
    return None


def _kind(networks: NetworksEntry, where: Path | str) -> NetworkKind:
    name = networks.network
    if name not in KINDS:
        raise UHFError(
            f"{where} holds the network {name!r:.80}, this version has {', '.join(KINDS)}; update nnunet-uhf"
        )
    return KINDS[name]


def _decoder_arguments(networks: NetworksEntry, kind: NetworkKind) -> dict[str, Any]:
    own = networks.part("decoder")
    if own is not None:
        return kind.decoder_of(own)
    with_decoder = networks.teacher if kind.decodes_as_teacher and networks.teacher is not None else networks
    return kind.decoder_of(with_decoder.architecture)


def _network(networks: NetworksEntry, weights: Mapping[str, Tensor], path: Path, *, dim: int) -> EnhancementNet:
    """Keeper and decoder of a finished training; UHFError where the block does not say all that they are built from."""
    kind = _kind(networks, path)
    arguments = {"architecture": networks.architecture, "decoder": _decoder_arguments(networks, kind)}
    for field, one in zip(ARCHITECTURES, arguments.values(), strict=True):
        check_architecture(one, dim=dim, where=str(path), name=field, network=networks.network)
    state = joined(_part(weights, kind.trained_keeper), _part(weights, kind.trained_decoder))
    network: EnhancementNet = network_from_state(kind.enhancer, arguments, state, path)
    return network


def _keeper_block(plans: Mapping[str, Any], configuration: str, folder: Path) -> TrainingBlock:
    """The block of a keeper training; UHFError when the plans of the model ``folder`` are not those of one."""
    block = block_in(plans, configuration)
    if role_of(block) != "keeper":
        raise UHFError(f"{folder} is not the model of a keeper trainer; give one of UHFKeeperTrainer (-tr)")
    return TrainingBlock.parse(block, where=folder / "plans.json")


def foreground_intensity(plans: Mapping[str, Any], channel: int) -> dict[str, float]:
    """Mean and standard deviation of the labelled voxels of all training cases, as the planner recorded them."""
    statistics = plans["foreground_intensity_properties_per_channel"][str(channel)]
    return {"mean": float(statistics["mean"]), "std": max(float(statistics["std"]), 1e-8)}


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of one submodule, without its prefix."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _supervision(block: TrainingBlock) -> dict[str, Any] | None:
    """What taught beside images: a teacher that segments, a judge; None without either."""
    teacher, training = block.networks.teacher, block.training or {}
    found: dict[str, Any] = {}
    if teacher is not None and "classes" in teacher.architecture:
        found["teacher"] = {"kind": "segmentation", "classes": teacher.architecture["classes"]}
    if "judge" in training:
        found["judge"] = {**training["judge"], "weight": training["weights"]["judge"]}
    return found or None


def _simulation(block: TrainingBlock, task: Task) -> dict[str, Any] | None:
    """All that is known of how the source was simulated, while training or before."""
    stored = task.simulated_by if isinstance(task, EnhancementTask) else None
    record = stored if block.simulation is None else block.simulation
    return None if record is None else dict(record)
