"""What the `uhf` block says of a translation beside its generator: one place that writes and reads it (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nnunet_uhf.networks.contract import Arguments


@dataclass(frozen=True, kw_only=True)
class GeneratorPart:
    """Arguments of a generator: of its trunk and of its head."""

    architecture: Arguments
    decoder: Arguments


@dataclass(frozen=True, kw_only=True)
class PretextPart:
    """A network that was trained beforehand: by whom, which weights, its arguments."""

    trainer: str
    sha256: str
    architecture: Arguments


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the parts work together; a training does not go on with others.

    Attributes:
        preset: a name in :data:`nnunet_uhf.networks.pta.losses.PTA_PRESETS`.
        matching: which high-field slice a low-field one is held against.
        structure_in_generator: whether the structure term reaches the generator.
        cycle, identity: whether these images are computed.
    """

    preset: str
    matching: str
    structure_in_generator: bool
    cycle: bool
    identity: bool


@dataclass(frozen=True, kw_only=True)
class TranslationParts:
    """The parts of a translation of two domains.

    Attributes:
        decoder: arguments of the head of the generator, whose trunk is the block's `architecture`.
        judges: arguments of the judges by the domain that they judge.
        target_intensity, source_intensity: what brings z-scores of a domain to its images' typical values.
        back: the generator of the other direction; None of one direction alone.
        pretexts: networks trained beforehand, by what they are for.
        settings: None of one direction alone.
    """

    decoder: Arguments
    judges: Mapping[str, Arguments]
    target_intensity: Mapping[str, float]
    source_intensity: Mapping[str, float]
    back: GeneratorPart | None = None
    pretexts: Mapping[str, PretextPart] = field(default_factory=dict)
    settings: Settings | None = None

    def as_json(self) -> dict[str, Any]:
        """Entries of the block; what is None is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> TranslationParts:
        """Of the entries of a block.

        Raises:
            KeyError, TypeError: they are not those that :meth:`as_json` gives.
        """
        back, settings = parts.get("back"), parts.get("settings")
        return cls(
            decoder=parts["decoder"],
            judges=parts["judges"],
            target_intensity=parts["target_intensity"],
            source_intensity=parts["source_intensity"],
            back=None if back is None else GeneratorPart(**back),
            pretexts={name: PretextPart(**part) for name, part in parts.get("pretexts", {}).items()},
            settings=None if settings is None else Settings(**settings),
        )
