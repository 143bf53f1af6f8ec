"""Both directions of a model that translates between two domains, as enhancers (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.enhance import Enhancer, load_enhancer
from nnunet_uhf.keepers.file import network_from_state, weights_sha256
from nnunet_uhf.keepers.trained import read_trained_keeper
from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import ModelFolder

_BACK = "back."


def there_and_back(model: Path, *, folds: Sequence[int | str] | None = None) -> tuple[Enhancer, Enhancer]:
    """Low field to high field, and high field to low field, of the folds of a model folder (all by default).

    Raises:
        UHFError: no model folder, no finished fold, or a model that has learnt one direction alone.
    """
    there = load_enhancer(model, folds=folds)
    folder = ModelFolder(model)
    chosen = tuple(folds) if folds is not None else folder.finished_folds
    headers, networks = [], []
    for fold in chosen:
        trained = read_trained_keeper(model, fold)
        part = trained.block.networks.part("back")
        intensity = trained.block.networks.part("source_intensity")
        if part is None or intensity is None:
            raise UHFError(
                f"{model} has learnt to make high-field images alone, not low-field ones: take a model of PTATrainer, "
                "or --from source"
            )
        checkpoint = folder.fold(fold).checkpoint
        weights = load_checkpoint_weights(checkpoint)["network_weights"]
        state = {name.removeprefix(_BACK): value for name, value in weights.items() if name.startswith(_BACK)}
        kind = KINDS[trained.block.networks.network]
        network: EnhancementNet = network_from_state(
            kind.enhancer, {"architecture": part["architecture"], "decoder": part["decoder"]}, state, checkpoint
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
                target_intensity=dict(intensity),
            )
        )
    back = Enhancer(there.name, tuple(headers), networks[0], [dict(network.state_dict()) for network in networks])
    return there, back
