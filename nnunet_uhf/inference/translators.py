"""The way back of a model that translates between two domains, as an enhancer (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.enhancer import Enhancer
from nnunet_uhf.keepers.file import network_from_state, weights_sha256
from nnunet_uhf.keepers.trained import read_trained_keeper
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.networks.pta.parts import TranslationParts
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import ModelFolder

_BACK = "back."


def way_back(model: Path, *, folds: Sequence[int | str] | None = None) -> Enhancer:
    """High field to low field, of the folds of a model folder (all by default).

    Raises:
        UHFError: no model folder, no finished fold, or a model that has learnt one direction alone.
    """
    folder = ModelFolder(model)
    chosen = tuple(folds) if folds is not None else folder.finished_folds
    headers, networks = [], []
    for fold in chosen:
        trained = read_trained_keeper(model, fold)
        parts = _parts_of(trained.block, folder)
        if parts is None or parts.back is None:
            raise UHFError(
                f"{model} has learnt to make high-field images alone, not low-field ones: take a model of PTATrainer, "
                "or --from source"
            )
        checkpoint = folder.fold(fold).checkpoint
        weights = load_checkpoint_weights(checkpoint)["network_weights"]
        state = {name.removeprefix(_BACK): value for name, value in weights.items() if name.startswith(_BACK)}
        kind = KINDS[trained.block.networks.network]
        network: EnhancementNet = network_from_state(
            kind.enhancer, {"architecture": parts.back.architecture, "decoder": parts.back.decoder}, state, checkpoint
        )
        networks.append(network)
        headers.append(
            replace(
                trained.header,
                architecture=network.keeper.config(),
                decoder_architecture=network.decoder.config(),
                sha256=weights_sha256(network.keeper.state_dict()),
                decoder_sha256=weights_sha256(network.decoder.state_dict()),
                source_field_T=trained.header.target_field_T,
                target_field_T=trained.header.source_field_T,
                target_intensity=dict(parts.source_intensity),
            )
        )
    return Enhancer(model.name, tuple(headers), networks[0], [dict(network.state_dict()) for network in networks])


def _parts_of(block: TrainingBlock, folder: ModelFolder) -> TranslationParts | None:
    """Of a training that translates between domains; None of any other. UHFError where the block is damaged."""
    if not block.translates:
        return None
    try:
        return TranslationParts.of(block.networks.parts)
    except (KeyError, TypeError) as error:
        raise UHFError(
            f"{folder.path / 'plans.json'}: the uhf block does not describe a translation ({error}); restore it"
        ) from error
