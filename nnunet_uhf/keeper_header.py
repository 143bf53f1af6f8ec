"""What a keeper file says of itself, and the check of every field of it.

A keeper file comes from strangers. Nothing of its header is used before :func:`parse_header` has held each field
against its type and range, so that a header can neither ask for absurd networks nor smuggle control characters
into a terminal. Design: ours.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from nnunet_uhf import __version__
from nnunet_uhf.errors import KeeperFileError

FORMAT_VERSION = 1
#: Arrays as nnU-Net feeds networks: SimpleITK's (z, y, x), permuted by ``transpose_forward``.
AXIS_ORDER = "transposed SimpleITK zyx"
ROUTES = ("paired", "simulated", "unpaired", "unicoal")
MAX_HEADER_CHARACTERS = 1_000_000

# Bounds of what a file may ask to be built; the reference keeper has 16 features, 5 levels, kernels of 7.
MAX_BASE_FEATURES = 64
MAX_LEVELS = 8
MAX_KERNEL_SIZE = 9
MAX_STRIDE = 4

_HEX = re.compile(r"[0-9a-f]{64}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True, kw_only=True)
class KeeperHeader:
    """The description a keeper carries.

    ``spacing_mm`` and ``patch_size`` have ``dim`` entries, in nnU-Net's transposed axis order (for 2D the two
    in-plane axes). ``target_intensity`` is mean and standard deviation of the target's raw intensities, to bring
    a decoded image back to scanner units. ``metrics`` are held-out values: PSNR in dB, SSIM in -1..1. Hashes are
    :func:`nnunet_uhf.keeper_file.weights_sha256` of the keeper's and the decoder's weights; ``write_keeper``
    fills them in.
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
    format_version: int = FORMAT_VERSION

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Physical size of the patches the keeper was trained on, per axis in mm."""
        return tuple(size * step for size, step in zip(self.patch_size, self.spacing_mm, strict=True))

    def provenance(self) -> dict[str, Any]:
        """Every field that is neither architecture nor hash, ready for JSON: what plans keep of a keeper."""
        left_out = {"architecture", "decoder_architecture", "sha256", "decoder_sha256"}
        return {key: value for key, value in json.loads(header_json(self)).items() if key not in left_out}


def header_json(header: KeeperHeader) -> str:
    """Return the header as one JSON string. Raises ValueError or TypeError for what JSON cannot hold."""
    return json.dumps(asdict(header), allow_nan=False, sort_keys=True)


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
    known = {field.name for field in fields(KeeperHeader)}
    missing, unknown = sorted(known - content.keys()), sorted(content.keys() - known)
    if missing:
        raise _bad(where, f"its header lacks {', '.join(missing)}")
    if unknown:
        raise _bad(where, f"its header has the unknown field {unknown[0]!r:.80}")
    for name, (fits, wanted) in _FIELDS.items():
        if not fits(content[name]):
            raise _bad(where, f"its header field {name!r} must be {wanted}, not {content[name]!r:.80}")
    _check_agreement(content, where)
    for name in ("spacing_mm", "transpose_forward", "patch_size"):
        content[name] = tuple(content[name])
    return KeeperHeader(**content)


def _bad(where: str, what: str) -> KeeperFileError:
    return KeeperFileError(f"{where} is not a usable keeper file: {what}. Export it again or fetch it anew.")


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _check_format_version(content: Mapping[str, Any], where: str) -> None:
    version = content.get("format_version")
    if not _is_int(version, 1, 1_000_000):
        raise _bad(where, "its header has no format_version")
    if version > FORMAT_VERSION:
        raise KeeperFileError(
            f"{where} has keeper format {version}, but nnunet-uhf {__version__} reads formats up to "
            f"{FORMAT_VERSION}. Upgrade with: pip install --upgrade nnunet-uhf"
        )


def _check_agreement(content: Mapping[str, Any], where: str) -> None:
    """Hold fields against each other: everything follows ``dim``, and a decoder has both architecture and hash."""
    dim = content["dim"]
    for name in ("spacing_mm", "patch_size"):
        if len(content[name]) != dim:
            raise _bad(where, f"its header field {name!r} must have {dim} entries, as dim is {dim}")
    check_architecture(content["architecture"], dim=dim, where=where)
    decoder = content["decoder_architecture"]
    if decoder is not None:
        check_architecture(decoder, dim=dim, where=where, name="decoder_architecture")
    if (decoder is None) != (content["decoder_sha256"] is None):
        raise _bad(where, "its header must give decoder_architecture and decoder_sha256 together or not at all")


def check_architecture(architecture: Mapping[str, Any], *, dim: int, where: str, name: str = "architecture") -> None:
    """Bound the arguments a network would be built from (before it is built).

    Raises:
        KeeperFileError: an argument is unknown, missing, mistyped, out of range, or disagrees with ``dim``.
    """
    known = _ARCHITECTURE if name == "architecture" else _DECODER
    for key, value in architecture.items():
        if key not in known:
            raise _bad(where, f"{name} has the unknown argument {key!r:.80}")
        fits, wanted = known[key]
        if not fits(value):
            raise _bad(where, f"{name} argument {key!r} must be {wanted}, not {value!r:.80}")
    if architecture.get("dim") != dim:
        raise _bad(where, f"{name} is for {architecture.get('dim')!r} dimensions, the header says {dim}")
    for step in architecture.get("strides") or ():
        if len(step) != dim:
            raise _bad(where, f"{name} argument 'strides' must have {dim} steps a level")


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object, low: float, high: float) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high
    )


def _is_text(value: object, *, longest: int = 500, empty: bool = False, lines: bool = False) -> bool:
    """Printable text only: an escape sequence in a header must not reach a terminal."""
    if not isinstance(value, str) or len(value) > longest or not (value or empty):
        return False
    return (value.replace("\n", "") if lines else value).isprintable() or not value


def _is_list(value: object, fits: Callable[[Any], bool], low: int, high: int) -> bool:
    return isinstance(value, list) and low <= len(value) <= high and all(fits(item) for item in value)


def _is_cases(value: object) -> bool:
    return _is_list(value, _is_text, 0, 100_000)


def _is_metrics(value: object, depth: int = 3) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_is_text(k) and _is_metrics(v, depth - 1) for k, v in value.items())
    return depth < 3 and (value is None or _is_number(value, -1e9, 1e9) or _is_text(value, empty=True))


def _is_intensity(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"mean", "std"}
        and _is_number(value["mean"], -1e9, 1e9)
        and _is_number(value["std"], 1e-9, 1e9)
    )


def _is_strides(value: object) -> bool:
    def is_step(step: object) -> bool:
        return _is_list(step, lambda item: _is_int(item, 1, MAX_STRIDE), 2, 3)

    return value is None or _is_list(value, is_step, 2, MAX_LEVELS)


def _is_field(value: object) -> bool:
    return value is None or _is_number(value, 1e-3, 30)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


_Check = tuple[Callable[[Any], bool], str]

_TEXT: _Check = (_is_text, "printable text of at most 500 characters")
_CASES: _Check = (_is_cases, "a list of case identifiers")
_TESLA: _Check = (_is_field, "a field strength in tesla (at most 30) or null")
_LONG_TEXT: _Check = (
    lambda value: _is_text(value, longest=5000, empty=True, lines=True),
    "printable text of at most 5000 characters",
)

_FIELDS: dict[str, _Check] = {
    "dim": (lambda value: _is_int(value, 2, 3), "2 or 3"),
    "architecture": (lambda value: isinstance(value, dict), "an object"),
    "decoder_architecture": (lambda value: value is None or isinstance(value, dict), "an object or null"),
    "channel": _TEXT,
    "spacing_mm": (
        lambda value: _is_list(value, lambda item: _is_number(item, 1e-3, 1e3), 2, 3),
        "2 or 3 spacings in mm",
    ),
    "axis_order": (lambda value: value == AXIS_ORDER, repr(AXIS_ORDER)),
    "transpose_forward": (
        lambda value: isinstance(value, list) and value in _PERMUTATIONS,
        "a permutation of 0, 1, 2",
    ),
    "patch_size": (
        lambda value: _is_list(value, lambda item: _is_int(item, 1, 4096), 2, 3),
        "2 or 3 whole numbers",
    ),
    "normalisation": (_is_identifier, "the name of a normalisation scheme"),
    "use_mask_for_norm": (lambda value: isinstance(value, bool), "true or false"),
    "target_intensity": (_is_intensity, "an object with numbers 'mean' and 'std' (> 0)"),
    "source_field_T": _TESLA,
    "target_field_T": _TESLA,
    "route": (lambda value: value in ROUTES, f"one of {', '.join(ROUTES)}"),
    "dataset": _TEXT,
    "fold": (lambda value: value == "all" or _is_int(value, 0, 999), "a fold number or 'all'"),
    "configuration": _TEXT,
    "training_cases": _CASES,
    "validation_cases": _CASES,
    "metrics": (lambda value: isinstance(value, dict) and _is_metrics(value), "an object of finite numbers"),
    "sha256": (_is_hash, "64 hexadecimal digits"),
    "decoder_sha256": (lambda value: value is None or _is_hash(value), "64 hexadecimal digits or null"),
    "package_version": _TEXT,
    "licence": _LONG_TEXT,
    "citation": _LONG_TEXT,
}

_PERMUTATIONS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]

_NETWORK: dict[str, _Check] = {
    "dim": (lambda value: _is_int(value, 2, 3), "2 or 3"),
    "base_features": (
        lambda value: _is_int(value, 1, MAX_BASE_FEATURES),
        f"a whole number from 1 to {MAX_BASE_FEATURES}",
    ),
    "strides": (
        _is_strides,
        f"null or 2 to {MAX_LEVELS} levels of steps from 1 to {MAX_STRIDE}",
    ),
}
#: KnowledgeKeeper's arguments. One source image in, so that one guide channel can be named.
_ARCHITECTURE: dict[str, _Check] = {
    **_NETWORK,
    "in_channels": (lambda value: _is_int(value, 1, 1), "1"),
    "kernel_size": (
        lambda value: _is_int(value, 1, MAX_KERNEL_SIZE) and value % 2 == 1,
        f"an odd number up to {MAX_KERNEL_SIZE}",
    ),
    "position_branch": (lambda value: isinstance(value, bool), "true or false"),
}
#: TeacherDecoder's arguments.
_DECODER: dict[str, _Check] = {
    **_NETWORK,
    "levels": (lambda value: _is_int(value, 2, MAX_LEVELS), f"a whole number from 2 to {MAX_LEVELS}"),
}
