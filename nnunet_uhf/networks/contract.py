"""What a network promises so that it can be kept in a file, guide and enhance, and how a kind of network is described.

A kind is described once, in ``networks/<method>/kind.py``; :mod:`nnunet_uhf.networks.kinds` lists all of them. What a
file or plans say of a network is judged by its entry alone: no class is called before all of it has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from nnunet_uhf.checks import Check

MAX_LEVELS = 8
"""Maps of one keeper; nnU-Net plans no more stages for patches of this field."""

Arguments = Mapping[str, Any]
"""Keyword arguments of a network, as its ``config()`` gives them and as header and plans hold them."""


class Keeper(nn.Module):
    """What guides: ``(B, C, *S) -> 1 to 8 maps (B, c_l, *S_l)``, finest first, S_l = max(1, S // stride_l).

    Deterministic in eval mode, whatever else is in the batch.

    Attributes:
        dim: 2 or 3.
        in_channels: C, of the source image.
        channels: c_l of every map.
        strides: per level and axis, how much coarser the map is than the input.
        masks: members of an ensemble in one network, which ``features`` takes the number of; None for none.
    """

    dim: int
    in_channels: int
    channels: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    masks: int | None = None

    def features(self, source: Tensor) -> list[Tensor]:
        """The maps as the decoder wants them: they may cover padding beyond the image, too."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        raise NotImplementedError


class Decoder(nn.Module):
    """What makes an image of a keeper's maps: called with the maps, finest first, and the size of the image."""

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this module, ready for JSON."""
        raise NotImplementedError


class EnhancementNet(nn.Module):
    """A keeper with the decoder that makes an image of its maps: low-field image in, high-field-like image out.

    State dict: ``keeper.`` and ``decoder.``, as in a keeper file.
    """

    keeper: Keeper
    decoder: Decoder

    def __init__(self, keeper: Keeper, decoder: Decoder) -> None:
        super().__init__()
        self.keeper = keeper
        self.decoder = decoder

    def forward(self, source: Tensor) -> Tensor:
        """``(B, C, *S) -> (B, 1, *S)`` in the target's normalised intensities."""
        image: Tensor = self.decoder(self.keeper.features(source), source.shape[2:])
        return image


def _nothing(*_: Any) -> None:
    return None


def _one(_: Arguments) -> int:
    return 1


def _declared_channels(architecture: Arguments) -> int:
    return int(architecture.get("in_channels", 1))


@dataclass(frozen=True, kw_only=True)
class NetworkKind:
    """One kind of network: its classes, and all that is known of one before it is built.

    Attributes:
        name: in headers and plans; never changed, files hold it.
        keeper: gives the guides; built with ``architecture`` of header or plans.
        decoder: makes the image of the maps; built with ``decoder_architecture``.
        enhancer: both as one network, of both architectures.
        arguments: what the keeper's ``config()`` gives, each with its range; ``dim`` is among them.
        decoder_arguments: the same of the decoder.
        channels: of the maps of such a keeper, finest first, 1 to 8.
        citation: what to cite for the method.
        trainers: whose keepers of this kind can guide, as the end of "take a keeper of ..".
        sizes: the arguments that a dataset.json may set, by the class they are of; all others are set by the
            configuration, the simulation or the trainer.
        problem: how arguments of a keeper disagree with each other, or None.
        decoder_problem: how those of keeper and decoder do, or None.
        no_guide: why such a keeper cannot guide a segmentation, as the end of a sentence about it; None when it can.
        in_channels: of the source image; by default ``in_channels`` of the architecture, else 1.
        neighbours: slices of the source that a network of slices is given as channels, the middle one being its own.
        thick_slices: axis and ratio of a network that makes ``ratio`` slices of one; None where it keeps the grid.
        members: of an ensemble in one network, whose enhancer has ``forward_all()``; None for none.
        answers_questions: such a network is asked for one modality of others, and headers name its modalities.
        question_problem: how arguments of a keeper and the modalities of a header disagree, or None.
        trained_keeper: where the network of the trainer has the keeper.
        trained_decoder: where it has the decoder.
        unsaid: arguments of keeper or decoder that version 0.1.0 did not have, and what its networks were. Files and
            plans may leave them out; ``keeper``, ``decoder`` and ``enhancer`` then build those.
    """

    name: str
    keeper: Callable[..., Keeper]
    decoder: Callable[..., Decoder]
    enhancer: Callable[[Arguments, Arguments], EnhancementNet]
    arguments: Mapping[str, Check]
    decoder_arguments: Mapping[str, Check]
    channels: Callable[[Arguments], tuple[int, ...]]
    citation: str
    trainers: str
    sizes: Mapping[type[nn.Module], frozenset[str]] = field(default_factory=dict)
    problem: Callable[[Arguments], str | None] = _nothing
    decoder_problem: Callable[[Arguments, Arguments], str | None] = _nothing
    no_guide: Callable[[Arguments], str | None] = _nothing
    in_channels: Callable[[Arguments], int] = _declared_channels
    neighbours: Callable[[Arguments], int] = _one
    thick_slices: Callable[[Arguments], tuple[int, int] | None] = _nothing
    members: Callable[[Arguments], int | None] = _nothing
    answers_questions: bool = False
    question_problem: Callable[[Arguments, Mapping[str, Any]], str | None] = _nothing
    trained_keeper: str = "keeper."
    trained_decoder: str = "decoder."
    unsaid: Arguments = field(default_factory=dict)

    def decoder_of(self, architecture: Arguments) -> dict[str, Any]:
        """Arguments of the decoder, from those of the network that it was trained in."""
        return {name: architecture[name] for name in self.decoder_arguments if name in architecture}

    @property
    def decodes_as_teacher(self) -> bool:
        """Whether the decoder is that of the teacher, whose arguments it has then."""
        return self.trained_decoder.startswith("teacher.")

    def completed(self, arguments: Arguments, wanted: Mapping[str, Check]) -> dict[str, Any]:
        """Arguments with those that go unsaid, as far as they are ``wanted``."""
        return {**{name: value for name, value in self.unsaid.items() if name in wanted}, **arguments}


def without(unsaid: Arguments, arguments: Arguments) -> dict[str, Any]:
    """Arguments but for those that are what goes unsaid: every version can read the rest."""
    return {name: value for name, value in arguments.items() if name not in unsaid or value != unsaid[name]}


def same_width(architecture: Arguments, decoder: Arguments) -> str | None:
    """The disagreement of keeper and decoder where both have ``base_features``."""
    if decoder["base_features"] != architecture["base_features"]:
        return "architecture and decoder_architecture have different base_features"
    return None
