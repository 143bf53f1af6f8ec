"""The keeper file: weights in safetensors, one JSON string that describes them; never a pickle.

Tensors are named ``keeper.<state dict key>`` and, optional, ``decoder.<key>``; the metadata entry ``nnunet_uhf``
holds the header (:mod:`nnunet_uhf.keepers.header`). Reading verifies container, header and weight hash before
anything is built. Design: ours; container: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nnunet_uhf.errors import KeeperFileError
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.keepers.header import FORMAT_VERSION, KeeperHeader, header_json, parse_header
from nnunet_uhf.keepers.packaged import SUFFIX, builtin_files, is_builtin, keeper_path
from nnunet_uhf.networks.kinds import KINDS, who_makes_guides, why_no_guide

if TYPE_CHECKING:
    from nnunet_uhf.networks.contract import EnhancementNet, Keeper

__all__ = [
    "FORMAT_VERSION",
    "KeeperFile",
    "KeeperHeader",
    "build_enhancer",
    "build_keeper",
    "find_keepers",
    "network_from_state",
    "read_header",
    "read_keeper",
    "read_weights",
    "weights_sha256",
    "write_keeper",
]

METADATA_KEY = "nnunet_uhf"
PRECISION_KEY, HALF = "nnunet_uhf_precision", "half"
"""Of the metadata of a file whose float32 weights are stored in half precision; others have no such entry."""
#: Bytes of tensor names, shapes and our JSON together; safetensors itself would allow 100 MB.
MAX_CONTAINER_HEADER_BYTES = 4_000_000
MAX_TENSORS = 10_000
_PREFIXES = ("keeper.", "decoder.")


@dataclass(frozen=True)
class KeeperFile:
    """A keeper file's verified content; state dicts are on the CPU, names without their prefix.

    Examples:
        >>> from nnunet_uhf import read_keeper, write_untrained_keeper
        >>> file = read_keeper(write_untrained_keeper("keeper.safetensors", dim=2))
        >>> file.path.name, file.decoder_state is not None  # with the decoder it enhances, too
        ('keeper.safetensors', True)
    """

    path: Path
    header: KeeperHeader
    keeper_state: dict[str, Tensor]
    decoder_state: dict[str, Tensor] | None


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict, in hexadecimal: the same on every device and in every key order.

    Hashed for each tensor, sorted by name: name, dtype, shape and the little-endian bytes.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name}\0{dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_keeper(
    path: str | Path,
    *,
    header: KeeperHeader,
    keeper_state: Mapping[str, Tensor],
    decoder_state: Mapping[str, Tensor] | None = None,
    half: bool = False,
) -> KeeperHeader:
    """Write a keeper file whole or not at all, and return the header with its hashes filled in.

    An existing file at ``path`` stays as it is until the new one is complete on the disk. ``half`` rounds the weights
    to half precision, which halves the file; they are float32 again when it is read, and the hashes are of those.

    Raises:
        KeeperFileError: wrong suffix, a header :func:`read_header` would refuse, or weights that are not finite.
        UHFError: the file cannot be written.
    """
    path = require_name(path)
    if (header.decoder_architecture is None) != (decoder_state is None):
        raise KeeperFileError(f"{path}: a decoder's weights and its architecture must be given together.")
    if half:
        keeper_state = _widened(_halved(keeper_state))
        decoder_state = None if decoder_state is None else _widened(_halved(decoder_state))
    header = replace(
        header,
        sha256=weights_sha256(keeper_state),
        decoder_sha256=None if decoder_state is None else weights_sha256(decoder_state),
    )
    try:
        text = header_json(header)
    except (TypeError, ValueError) as error:
        raise KeeperFileError(f"{path}: the keeper's header cannot be written as JSON ({error}).") from None
    header = parse_header(text, where=str(path))
    tensors = joined(keeper_state, decoder_state or {})
    _check_finite(tensors, path)
    tensors = _halved(tensors) if half else tensors
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with written_whole(path) as temporary:
        # not by safetensors' own save_file, whose files only their owner may read
        metadata = {METADATA_KEY: text, **({PRECISION_KEY: HALF} if half else {})}
        temporary.write_bytes(save(tensors, metadata=metadata))
    return header


def require_name(path: str | Path) -> Path:
    """The path of a keeper file to write; KeeperFileError when its name does not end as theirs do."""
    path = Path(path)
    if path.suffix != SUFFIX:
        raise KeeperFileError(f"{path}: a keeper file's name must end in {SUFFIX}. Choose another name.")
    return path


def read_header(path: str | Path) -> KeeperHeader:
    """Return a keeper file's checked header; the weights are left unread (and their hash unverified).

    Raises:
        KeeperFileError: missing file, not safetensors, no or bad header, newer format.

    Examples:
        >>> from nnunet_uhf import read_header, write_untrained_keeper
        >>> header = read_header(write_untrained_keeper("keeper.safetensors", dim=2, channel="T2w"))
        >>> header.dim, header.channel, header.spacing_mm, header.normalisation
        (2, 'T2w', (1.0, 1.0), 'ZScoreNormalization')
    """
    path = _existing_file(path)
    with _open(path) as file:
        return _header_of(file, path)


def read_keeper(path: str | Path) -> KeeperFile:
    """Return a keeper file's header and weights after verifying both.

    Raises:
        KeeperFileError: as :func:`read_header`; or weights that are not those the header's hash was taken of.

    Examples:
        >>> from nnunet_uhf import read_keeper, write_untrained_keeper
        >>> file = read_keeper(write_untrained_keeper("keeper.safetensors", dim=2))
        >>> sum(tensor.numel() for tensor in file.keeper_state.values())
        10488
        >>> len(file.header.sha256)
        64
    """
    path = _existing_file(path)
    with _open(path) as file:
        return _verified(file, _header_of(file, path), path)


def read_weights(path: str | Path, header: KeeperHeader) -> KeeperFile:
    """Return the content of a keeper file whose header was read before, after verifying the weights against it.

    Raises:
        KeeperFileError: missing file, not safetensors, or other weights than those the header's hash was taken of.
    """
    path = _existing_file(path)
    with _open(path) as file:
        _check_names(file, path)
        return _verified(file, header, path)


def build_keeper(file: KeeperFile) -> Keeper:
    """Build the keeper a file describes, load its weights strictly; in eval mode, without gradients.

    Raises:
        KeeperFileError: the network cannot guide, or the weights are not those of the architecture in the header.
    """
    header = file.header
    reason = why_no_guide(header.network, header.architecture)
    if reason is not None:
        raise KeeperFileError(
            f"{file.path} can enhance but not guide: {reason}. Take a keeper of {who_makes_guides()}."
        )
    return network_from_state(KINDS[header.network].keeper, header.architecture, file.keeper_state, file.path)


def build_enhancer(file: KeeperFile) -> EnhancementNet:
    """Build keeper and decoder as one network from image to image; in eval mode, without gradients.

    Raises:
        KeeperFileError: the file has no decoder, or weights and architecture differ.
    """
    header = file.header
    if file.decoder_state is None or header.decoder_architecture is None:
        raise KeeperFileError(
            f"{file.path} holds no decoder, so it can guide but not enhance. Export it again with its decoder."
        )
    arguments = {"architecture": header.architecture, "decoder": header.decoder_architecture}
    state = joined(file.keeper_state, file.decoder_state)
    return network_from_state(KINDS[header.network].enhancer, arguments, state, file.path)


def joined(keeper_state: Mapping[str, Tensor], decoder_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an enhancer, named as in a keeper file."""
    parts = zip(_PREFIXES, (keeper_state, decoder_state), strict=True)
    return {prefix + name: tensor for prefix, state in parts for name, tensor in state.items()}


def find_keepers(value: str | None) -> list[Path]:
    """Return the keeper files that ``nnUNet_UHF_KKN``'s value names: files, folders of them, joined by os.pathsep.

    ``builtin`` names those of the package.

    Unset or empty gives an empty list. Files are not opened here; each is listed once, a folder's by name. A path that
    exists may itself hold the separator, as those of file managers' network mounts hold colons.

    Raises:
        KeeperFileError: a path does not exist, or a folder holds no keeper file.
    """
    found: dict[Path, None] = {}
    parts = (value or "").split(os.pathsep)
    while parts:
        joined_parts = (os.pathsep.join(parts[:count]).strip() for count in range(len(parts), 1, -1))
        longest = next((each for each in joined_parts if Path(each).expanduser().exists()), parts[0].strip())
        del parts[: longest.count(os.pathsep) + 1]
        if longest:
            found |= dict.fromkeys(keeper_files(longest))
    return list(found)


def keeper_files(place: str | Path) -> list[Path]:
    """Return the keeper file, or the sorted keeper files of the folder, that ``place`` is; ``builtin``: the package's.

    Raises:
        KeeperFileError: it does not exist, or the folder or the package holds none.
    """
    if is_builtin(place):
        return builtin_files(place)
    path = Path(place).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix == SUFFIX and not p.name.startswith("."))
        if not files:
            raise KeeperFileError(f"{path} holds no keeper file (*{SUFFIX}). Name another folder or a file.")
        return files
    return [_existing_file(path)]


def _existing_file(path: str | Path) -> Path:
    path = keeper_path(path)
    if not path.exists():
        raise KeeperFileError(f"{path} does not exist. Give the path of a keeper file (see nnUNet_UHF_KKN).")
    if not path.is_file():
        raise KeeperFileError(f"{path} is not a file. Give the path of a keeper file (*{SUFFIX}).")
    return path


def _unusable(path: Path, what: str) -> KeeperFileError:
    return KeeperFileError(f"{path} is not a usable keeper file: {what}. Export it again or fetch it anew.")


def _open(path: Path) -> Any:
    """Open as safetensors after a look at the first bytes; a pickle or zip is named as what it is."""
    remedy = "Export the keeper with `nnunet-uhf export-keeper`"
    try:
        with path.open("rb") as file:
            start = file.read(9)
        size = path.stat().st_size
    except OSError as error:
        raise KeeperFileError(f"{path} cannot be read ({error.strerror}). Check its rights.") from None
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or 8 + length > size:
        what = "not a safetensors file, or cut short"
        if start[:4] == b"PK\x03\x04":
            what = "a zip or torch checkpoint, not safetensors, and was not opened"
        elif start[:1] == b"\x80":
            what = "a pickle, not safetensors, and was not opened"
        raise KeeperFileError(f"{path} is {what}. {remedy} or fetch it anew.")
    if length > MAX_CONTAINER_HEADER_BYTES:
        raise _unusable(path, f"its header has {length} bytes, more than {MAX_CONTAINER_HEADER_BYTES}")
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError):
        raise KeeperFileError(f"{path} is not a complete safetensors file. {remedy} or fetch it anew.") from None


def _header_of(file: Any, path: Path) -> KeeperHeader:
    text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise KeeperFileError(
            f"{path} holds weights but no keeper header: it is no keeper file. Take it out of nnUNet_UHF_KKN."
        )
    header = parse_header(text, where=str(path))
    _check_names(file, path)
    return header


def _check_names(file: Any, path: Path) -> None:
    names = list(file.keys())
    if len(names) > MAX_TENSORS or not all(name.startswith(_PREFIXES) for name in names):
        raise _unusable(path, "it holds tensors of neither keeper nor decoder")


def _verified(file: Any, header: KeeperHeader, path: Path) -> KeeperFile:
    states: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in _PREFIXES}
    for name in file.keys():  # noqa: SIM118 - a handle, not a dict
        prefix = name.partition(".")[0] + "."
        # A copy in memory: what is hashed is what is used, even if the mapped file changes underneath.
        states[prefix][name.removeprefix(prefix)] = file.get_tensor(name).clone()
    if (file.metadata() or {}).get(PRECISION_KEY) == HALF:
        states = {prefix: _widened(state) for prefix, state in states.items()}
    decoder = states["decoder."] if header.decoder_architecture is not None else None
    if decoder is None and states["decoder."]:
        raise _unusable(path, "it holds a decoder that its header does not mention")
    for state, expected in ((states["keeper."], header.sha256), (decoder, header.decoder_sha256)):
        if state is not None and weights_sha256(state) != expected:
            raise _unusable(path, "its weights do not have the SHA-256 its header gives (damaged or altered)")
        _check_finite(state or {}, path)
    return KeeperFile(path=path, header=header, keeper_state=states["keeper."], decoder_state=decoder)


def _halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 in half precision, everything else as it is."""
    return {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in state.items()}


def _widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Half precision as float32, in which networks compute; everything else as it is."""
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in state.items()}


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise _unusable(path, f"its weights {name[:100]!r} hold NaN or infinity")


def network_from_state(
    network_class: Callable[..., nn.Module], arguments: Mapping[str, Any], state: Mapping[str, Tensor], path: Path
) -> Any:
    """Build a network and load its weights strictly; in eval mode, without gradients.

    First it is built without memory, so that only a network as large as its file is ever allocated.

    Raises:
        KeeperFileError: ``state`` is not that of the network; the line names ``path``, where it was read.
    """
    with torch.device("meta"):
        blueprint = network_class(**arguments).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in blueprint.items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    differing = sorted(name for name in shapes.keys() | given.keys() if shapes.get(name) != given.get(name))
    if differing:
        name = differing[0]
        raise _unusable(
            path,
            f"its weights are not those of its architecture ({len(differing)} differ, the first {name[:100]!r}: "
            f"file {given.get(name, 'lacks it')}, network {shapes.get(name, 'lacks it')})",
        )
    network = network_class(**arguments)
    network.load_state_dict(dict(state), strict=True)
    return network.eval().requires_grad_(False)
