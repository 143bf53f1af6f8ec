"""What a keeper file says of itself, and the check of every field of it.

A keeper file comes from strangers. Nothing of its header is used before :func:`parse_header` has held each field
against its type and range, so that a header can neither ask for absurd networks nor smuggle control characters
into a terminal. Design: ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from nnunet_uhf import __version__
from nnunet_uhf.errors import KeeperFileError
from nnunet_uhf.keepers.fields import AXIS_ORDER, FIELDS
from nnunet_uhf.networks.contract import NetworkKind, without
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK, KINDS

FORMAT_VERSION = 4
# What each format added. A header is written in the oldest one that holds it, which the most versions read. Format 4
# also added arguments of networks: those that their kind leaves unsaid where they are what was there before.
_ADDED = {
    2: ("simulation",),
    3: ("network", "feature_statistics"),
    4: ("further_channels", "orientation", "modalities", "supervision"),
}
_OPTIONAL = {"orientation", "modalities", "supervision"}  # of their format: left out where there is nothing to say
ARCHITECTURES = ("architecture", "decoder_architecture")
MAX_HEADER_CHARACTERS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class InputChannel:
    """One image that a keeper reads: its name, and how nnU-Net normalises it."""

    channel: str
    normalisation: str
    use_mask_for_norm: bool


@dataclass(frozen=True, kw_only=True)
class KeeperHeader:
    """The description a keeper carries.

    ``spacing_mm`` and ``patch_size`` have ``dim`` entries, in nnU-Net's transposed axis order (for 2D the two
    in-plane axes). ``target_intensity`` is mean and standard deviation of the target's raw intensities, to bring
    a decoded image back to scanner units. ``metrics`` are held-out values: PSNR in dB, SSIM in -1..1. Hashes are
    :func:`nnunet_uhf.keepers.file.weights_sha256` of the keeper's and the decoder's weights; ``write_keeper``
    fills them in. ``simulation``, of a keeper whose source was simulated while training: all parameters.
    ``network``: a name of :data:`nnunet_uhf.networks.kinds.KINDS`. ``feature_statistics``: what its features look
    like on its own cases (:mod:`nnunet_uhf.keepers.statistics`), None when that was not measured.
    ``further_channels``: of a keeper that reads several images together, those after the first, which ``channel``,
    ``normalisation`` and ``use_mask_for_norm`` describe. ``orientation``: in which its training's images were stored,
    as :func:`nnunet_uhf.imageio.orientation.axis_codes` names it; "mixed" of several, None where nobody knows.
    ``modalities``, of a network that makes one modality of another:
    :meth:`nnunet_uhf.networks.unicoal.modalities.Modalities.as_json`, the hash of the weights of SAM that it learnt
    with, and the usual raw intensities of every target (``intensity``: what -1 and 1 stand for).
    ``supervision``: what taught beside images: ``teacher``, of the kind "segmentation" with its number of ``classes``,
    and ``judge``, a segmentation model by whose features images were held against the truth; None of neither.

    Examples:
        >>> from nnunet_uhf import read_header, write_untrained_keeper
        >>> header = read_header(write_untrained_keeper("keeper.safetensors", dim=2, patch_size=64, spacing_mm=0.5))
        >>> header.extent_mm
        (32.0, 32.0)
        >>> header.provenance()["dataset"]
        'untrained'
    """

    architecture: dict[str, Any]
    dim: int
    channel: str
    spacing_mm: tuple[float, ...]
    transpose_forward: tuple[int, ...]
    patch_size: tuple[int, ...]
    normalisation: str
    use_mask_for_norm: bool
    target_intensity: dict[str, float]
    source_field_T: float | None  # noqa: N815 - the field's unit, as in dataset.json
    target_field_T: float | None  # noqa: N815
    route: str
    dataset: str
    fold: int | str
    configuration: str
    training_cases: list[str]
    validation_cases: list[str]
    metrics: dict[str, Any]
    decoder_architecture: dict[str, Any] | None = None
    axis_order: str = AXIS_ORDER
    licence: str = "not stated"
    citation: str = ""
    sha256: str = ""
    decoder_sha256: str | None = None
    package_version: str = __version__
    simulation: dict[str, Any] | None = None
    network: str = DEFAULT_NETWORK
    feature_statistics: dict[str, Any] | None = None
    further_channels: tuple[InputChannel, ...] = ()
    orientation: str | None = None
    modalities: dict[str, Any] | None = None
    supervision: dict[str, Any] | None = None
    format_version: int = FORMAT_VERSION

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Physical size of the patches the keeper was trained on, per axis in mm."""
        return tuple(size * step for size, step in zip(self.patch_size, self.spacing_mm, strict=True))

    @property
    def inputs(self) -> tuple[InputChannel, ...]:
        """All images that the keeper reads, in the order of its channels."""
        first = InputChannel(
            channel=self.channel, normalisation=self.normalisation, use_mask_for_norm=self.use_mask_for_norm
        )
        return (first, *self.further_channels)

    def provenance(self) -> dict[str, Any]:
        """Every field that is neither architecture nor hash, ready for JSON: what plans keep of a keeper."""
        left_out = {"architecture", "decoder_architecture", "sha256", "decoder_sha256"}
        return {key: value for key, value in json.loads(header_json(self)).items() if key not in left_out}


def header_json(header: KeeperHeader) -> str:
    """Return the header as one JSON string. Raises ValueError or TypeError for what JSON cannot hold."""
    content = asdict(header)
    kind = KINDS.get(header.network)
    for name in ARCHITECTURES:
        if kind is not None and isinstance(content[name], dict):
            content[name] = without(kind.unsaid, content[name])
    content["format_version"] = _oldest_format(header, content)
    unsaid = {name for name in _OPTIONAL if content[name] is None}
    for name in _younger_than(content["format_version"]) | unsaid:
        del content[name]
    return json.dumps(content, allow_nan=False, sort_keys=True)


def _oldest_format(header: KeeperHeader, content: Mapping[str, Any]) -> int:
    kind = KINDS.get(header.network)
    more = header.further_channels or any(getattr(header, name) is not None for name in _OPTIONAL)
    if more or (kind is not None and _says_more(content, kind)):
        return 4
    if header.network != DEFAULT_NETWORK or header.feature_statistics is not None:
        return 3
    return 1 if header.simulation is None else 2


def _says_more(content: Mapping[str, Any], kind: NetworkKind) -> bool:
    """Whether it has arguments of networks that version 0.1.0 does not know."""
    return any(name in (content[part] or {}) for part in ARCHITECTURES for name in kind.unsaid)


def _younger_than(version: int) -> set[str]:
    """Fields that a format does not have yet."""
    return {name for added, names in _ADDED.items() if added > version for name in names}


def parse_header(text: str, *, where: str) -> KeeperHeader:
    """Check a header's JSON field by field and return it; ``where`` names the file in errors.

    Raises:
        KeeperFileError: not JSON, a newer format, or a field that is missing, unknown, mistyped or out of range.
    """
    if len(text) > MAX_HEADER_CHARACTERS:
        raise _bad(where, f"its header has {len(text)} characters, more than {MAX_HEADER_CHARACTERS}")
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _bad(where, "its header is not valid JSON") from None
    if not isinstance(content, dict):
        raise _bad(where, "its header is not a JSON object")
    _check_format_version(content, where)
    known = {field.name for field in fields(KeeperHeader)} - _younger_than(content["format_version"])
    missing, unknown = sorted(known - content.keys() - _OPTIONAL), sorted(content.keys() - known)
    if missing:
        raise _bad(where, f"its header lacks {', '.join(missing)}")
    if unknown:
        raise _bad(where, f"its header has the unknown field {unknown[0]!r:.80}")
    for name, (fits, wanted) in FIELDS.items():
        if name in content and not fits(content[name]):
            raise _bad(where, f"its header field {name!r} must be {wanted}, not {content[name]!r:.80}")
    _check_agreement(content, where)
    kind = KINDS[content.get("network", DEFAULT_NETWORK)]
    content["architecture"] = kind.completed(content["architecture"], kind.arguments)
    if content["decoder_architecture"] is not None:
        content["decoder_architecture"] = kind.completed(content["decoder_architecture"], kind.decoder_arguments)
    for name in ("spacing_mm", "transpose_forward", "patch_size"):
        content[name] = tuple(content[name])
    if "further_channels" in content:
        content["further_channels"] = tuple(InputChannel(**one) for one in content["further_channels"])
    return KeeperHeader(**content)


def _bad(where: str, what: str) -> KeeperFileError:
    error = KeeperFileError(f"{where} is not a usable keeper file: {what}. Export it again or fetch it anew.")
    error.problem = what
    return error


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _check_format_version(content: Mapping[str, Any], where: str) -> None:
    version = content.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _bad(where, "its header has no format_version")
    if version > FORMAT_VERSION:
        raise KeeperFileError(
            f"{where} has keeper format {version}, but nnunet-uhf {__version__} reads formats up to "
            f"{FORMAT_VERSION}. Upgrade with: pip install --upgrade nnunet-uhf"
        )


def _check_agreement(content: Mapping[str, Any], where: str) -> None:
    """Hold fields against each other: everything follows ``dim``, and a decoder has both architecture and hash."""
    dim, network = content["dim"], content.get("network", DEFAULT_NETWORK)
    for name in ("spacing_mm", "patch_size"):
        if len(content[name]) != dim:
            raise _bad(where, f"its header field {name!r} must have {dim} entries, as dim is {dim}")
    if content["format_version"] == 2 and content["simulation"] is None:
        raise _bad(where, "its header field 'simulation' must not be null in format 2")
    further = content.get("further_channels", [])
    architecture, decoder = content["architecture"], content["decoder_architecture"]
    check_architecture(architecture, dim=dim, where=where, network=network)
    more = further or any(content.get(name) is not None for name in _OPTIONAL)
    if content["format_version"] == 4 and not (more or _says_more(content, KINDS[network])):
        raise _bad(where, "its header field 'further_channels' must not be empty in format 4")
    _check_modalities(content.get("modalities"), architecture, where=where, network=network)
    names = [content["channel"], *(one["channel"] for one in further)]
    wanted = KINDS[network].in_channels(architecture)
    if len(names) != wanted or len({name.casefold() for name in names}) != wanted:
        raise _bad(where, f"its header names the channels {', '.join(names)}, but its network reads {wanted}")
    if decoder is not None:
        check_architecture(decoder, dim=dim, where=where, name="decoder_architecture", network=network)
        disagreement = KINDS[network].decoder_problem(architecture, decoder)
        if disagreement is not None:
            raise _bad(where, disagreement)
    if (decoder is None) != (content["decoder_sha256"] is None):
        raise _bad(where, "its header must give decoder_architecture and decoder_sha256 together or not at all")
    statistics = content.get("feature_statistics")
    if statistics is not None:
        channels = KINDS[network].channels(architecture)
        if tuple(len(level["mean"]) for level in statistics["levels"]) != channels:
            raise _bad(where, f"its header field 'feature_statistics' must be of {channels} channels")


def _check_modalities(
    modalities: Mapping[str, Any] | None, architecture: Mapping[str, Any], *, where: str, network: str
) -> None:
    """Hold what a header says of modalities against its network, which is of them or is not."""
    kind = KINDS[network]
    if (modalities is None) == kind.answers_questions:
        raise _bad(where, f"its header field 'modalities' does not belong to a {network}")
    disagreement = None if modalities is None else kind.question_problem(architecture, modalities)
    if disagreement is not None:
        raise _bad(where, disagreement)


def check_architecture(
    architecture: Mapping[str, Any],
    *,
    dim: int,
    where: str,
    name: str = "architecture",
    network: object = DEFAULT_NETWORK,
) -> None:
    """Bound the arguments a network would be built from, before it is built.

    Args:
        architecture: keyword arguments as the network's ``config()`` gives them.
        dim: the header's.
        where: the file, for messages.
        name: the header field: ``architecture`` (keeper) or ``decoder_architecture`` (what makes an image of its maps).
        network: the header's or the block's name of the network.

    Raises:
        KeeperFileError: the network is unknown; an argument is unknown, missing, mistyped, out of range, or disagrees
            with another or with ``dim``.
    """
    if not isinstance(network, str) or network not in KINDS:
        raise KeeperFileError(
            f"{where} names the network {network!r:.80}, which nnunet-uhf {__version__} does not have (it has "
            f"{', '.join(KINDS)}). Upgrade with: pip install --upgrade nnunet-uhf"
        )
    kind = KINDS[network]
    wanted = kind.arguments if name == "architecture" else kind.decoder_arguments
    differing = sorted(wanted.keys() ^ kind.completed(architecture, wanted).keys())
    if differing:
        problem = "lacks the argument" if differing[0] in wanted else "has the unknown argument"
        raise _bad(where, f"{name} {problem} {differing[0]!r:.80}")
    for key, (fits, range_) in wanted.items():
        if key in architecture and not fits(architecture[key]):
            raise _bad(where, f"{name} argument {key!r} must be {range_}, not {architecture[key]!r:.80}")
    if architecture["dim"] != dim:
        raise _bad(where, f"{name} has {architecture['dim']} dimensions, the header says {dim}")
    disagreement = kind.problem(architecture) if name == "architecture" else None
    if disagreement is not None:
        raise _bad(where, f"{name} {disagreement}")
