"""Control trainers: each changes one thing about UHFTrainer, so that a gain can be traced to the keeper's knowledge."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.file import build_enhancer, weights_sha256
from nnunet_uhf.networks.guided.controls import EnhancedInputNet
from nnunet_uhf.trainers.guided.guidance import UHFGuidance, UHFTrainer


class DrawnKeeper(UHFGuidance):
    """Mixin for a control whose keeper has random weights; ``keeper_seed`` chooses them.

    A keeper file, or plans that name one, give the architecture; its weights are not read.
    """

    def load_keeper(self) -> None:
        """Draw the weights that the plans name by hash and seed."""
        self.guided_network.keeper.load_state_dict(self.guidance.keeper.drawn().state_dict())

    def refuse_keeper(self, present: str, wanted: str) -> None:
        """UHFError: the weights in memory are not those the plans name."""
        raise UHFError(
            f"the random keeper in memory is {present[:8]}, the plans name {wanted[:8]}: another torch draws other "
            "weights, and -pretrained_weights replaces them; train under plans of their own without "
            "-pretrained_weights"
        )


class KeeperTrainedAlong(UHFGuidance):
    """Mixin for a control whose keeper is trained: its weights are those the plans name only at the start."""

    def check_keeper(self) -> None:
        """UHFError unless the keeper is the one the plans name, before the first epoch; later it must differ."""
        if self.current_epoch == 0:
            super().check_keeper()


class UHFTrainerRandomKeeper(DrawnKeeper, nnUNetTrainer):
    """UHFTrainer with a frozen keeper of random weights: is it what the keeper learnt, or any features?"""

    control = "random"


class UHFTrainerZeroGuide(DrawnKeeper, nnUNetTrainer):
    """UHFTrainer whose guides are zeros: what do the fusion modules gain by themselves, by being more parameters?"""

    control = "zero"


class UHFTrainerTrainableKeeper(KeeperTrainedAlong, DrawnKeeper, nnUNetTrainer):
    """UHFTrainer whose keeper starts from random weights and is trained: the same capacity without pretraining."""

    control = "trainable"


class UHFTrainerUnfrozenKeeper(KeeperTrainedAlong, nnUNetTrainer):
    """UHFTrainer whose pretrained keeper is trained along: is freezing right?"""

    control = "unfrozen"


class UHFTrainerEnhancedInput(UHFTrainer):
    """Plain nnU-Net with the enhanced image as one more input channel: are features better than the image?

    The image is made inside the network by keeper and decoder, both frozen, so stock prediction works.
    """

    control = "enhanced_input"

    def load_keeper(self) -> None:
        """Keeper and decoder of the keeper file."""
        if self.keeper_file is not None:
            enhancer, network = build_enhancer(self.keeper_file.content), self.enhanced_network
            network.keeper.load_state_dict(enhancer.keeper.state_dict())
            network.image_decoder.load_state_dict(enhancer.decoder.state_dict())
            self.keeper_file.forget_weights()

    @property
    def enhanced_network(self) -> EnhancedInputNet:
        """The network without the wrappers of DDP and torch.compile."""
        network = self.guided_network
        if not isinstance(network, EnhancedInputNet):
            raise TypeError(f"{type(self).__name__} built a {type(network).__name__}, not an EnhancedInputNet")
        return network

    def check_keeper(self) -> None:
        """UHFError unless keeper and decoder in memory have the hashes that the plans name."""
        super().check_keeper()
        decoder = self.guidance.keeper.decoder
        present = weights_sha256(self.enhanced_network.image_decoder.state_dict())
        if decoder is not None and present != decoder.sha256:
            self.refuse_keeper(present, decoder.sha256)
