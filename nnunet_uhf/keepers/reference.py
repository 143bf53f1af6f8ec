"""Weights that the paper's own code has trained -> a keeper file (arXiv 2402.08409).

That code saves `knowledge_keeper.pth` and `teacher_decoder.pth`: plain state dicts, of networks in ``DataParallel`` as
a rule. Here the same convolutions are kept by what they read, so weights are cut and put together; no number changes.
Its 1x1 convolutions have no biases, ours are 0 then. It takes the place of a map's peak apart wrongly (its own grid in
3D), which ours does not: where the position branch has learnt anything, its part of the gate differs. What those files
do not say, the user has to.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.imageio.orientation import is_axis_codes
from nnunet_uhf.imageio.output import require_new
from nnunet_uhf.keepers.file import network_from_state, require_name, write_keeper
from nnunet_uhf.keepers.header import KeeperHeader, check_architecture
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.kind import KIND
from nnunet_uhf.networks.distillation.levels import LEVELS
from nnunet_uhf.networks.distillation.teacher import TeacherDecoder

PARALLEL = "module."
IMPORTED = "reference"
NOTE = "weights imported from the paper's own code: neither training cases nor held-out quality are known"
_ADVICE = "give knowledge_keeper.pth (--weights) and teacher_decoder.pth (--decoder) of the paper's code"

_Weights = dict[str, Tensor]


def import_reference(
    weights: Path,
    output: Path,
    *,
    decoder: Path | None = None,
    channel: str,
    spacing_mm: float = 1.0,
    patch_size: int,
    source_field: float,
    target_field: float,
    normalisation: str = "ZScoreNormalization",
    use_mask_for_norm: bool = False,
    orientation: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a keeper file of the weights; the architecture is told by their shapes.

    Args:
        weights: `knowledge_keeper.pth`, 2D or 3D.
        output: the keeper file (*.safetensors).
        decoder: `teacher_decoder.pth`; without it the keeper guides but does not enhance.
        channel: name of the contrast that the keeper reads.
        spacing_mm: of its training's images, along all axes.
        patch_size: voxels along each axis of what it saw at a time: whole volumes or slices, there.
        source_field: of those images, in tesla.
        target_field: of its teacher's, in tesla.
        normalisation: nnU-Net's name of what was done to intensities.
        use_mask_for_norm: over the voxels that are not 0 only.
        orientation: of its training's images, as "LAS"; None where it is not known.
        overwrite: replace a file that is there.

    Returns:
        The path of the keeper file.

    Raises:
        UHFError: no state dict, or one of another network; a field that a keeper file cannot hold.
    """
    require_new(require_name(output), overwrite=overwrite)
    if orientation is not None and not is_axis_codes(orientation):
        raise UHFError(f"--orientation {orientation}: write three letters such as LAS")
    given = read_state(weights)
    try:
        arguments = _arguments(given)
        dim: int = arguments["dim"]
        keeper = keeper_state(given, dim=dim)
    except (KeyError, IndexError, ValueError) as error:
        raise UHFError(f"{weights} is no keeper of the paper's code ({error} is missing or odd); {_ADVICE}") from None
    check_architecture(arguments, dim=dim, where=str(weights))
    network_from_state(KnowledgeKeeper, arguments, keeper, weights)
    head_arguments = {name: arguments[name] for name in ("dim", "base_features", "convolutions")}
    head = None if decoder is None else _decoder(decoder, head_arguments)
    write_keeper(
        output,
        header=KeeperHeader(
            architecture=arguments,
            decoder_architecture=None if head is None else head_arguments,
            dim=dim,
            channel=channel,
            spacing_mm=(spacing_mm,) * dim,
            transpose_forward=(0, 1, 2),
            patch_size=(patch_size,) * dim,
            normalisation=normalisation,
            use_mask_for_norm=use_mask_for_norm,
            target_intensity={"mean": 0.0, "std": 1.0},
            source_field_T=source_field,
            target_field_T=target_field,
            route="paired",
            dataset=IMPORTED,
            fold=0,
            configuration="2d" if dim == 2 else "3d_fullres",
            training_cases=[],
            validation_cases=[],
            metrics={"note": NOTE},
            citation=f"Method: {KIND.citation}.",
            orientation=orientation,
        ),
        keeper_state=keeper,
        decoder_state=head,
    )
    return output


def read_state(path: Path) -> _Weights:
    """A state dict of tensors, without DataParallel's prefix; only weights are unpickled.

    Raises:
        UHFError: missing, damaged, or something else than named tensors.
    """
    if not path.is_file():
        raise UHFError(f"{path} does not exist; {_ADVICE}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError):
        raise UHFError(f"{path} is damaged, or holds more than weights, and was not opened; {_ADVICE}") from None
    named = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )
    if not named or not content:
        raise UHFError(f"{path} holds no weights by name; {_ADVICE}")
    return {name.removeprefix(PARALLEL): value.detach().float() for name, value in content.items()}


def keeper_state(given: Mapping[str, Tensor], *, dim: int) -> _Weights:
    """The paper's weights of the keeper as :class:`KnowledgeKeeper` names them; KeyError where one is missing."""
    ours: _Weights = {}
    for level in range(LEVELS):
        ours |= _dense_block(given, f"conv{level + 1}", f"dense.{level}")
        if level + 1 < LEVELS:
            ours[f"transitions.{level}.0.weight"] = given[f"tran{level + 1}.model.0.weight"]
        ours |= _guide(given, level, dim)
    return ours


def decoder_state(given: Mapping[str, Tensor]) -> _Weights:
    """The paper's weights of the teacher's decoder as :class:`TeacherDecoder` names them; KeyError as above."""
    ours = _convolutions(given, "conv", "bottom")
    for level in range(LEVELS - 1):
        theirs = f"up{LEVELS - 1 - level}"
        ours |= _pointwise(given[f"{theirs}.conv1x1.0.weight"], f"narrow.{level}")
        ours |= _convolutions(given, f"{theirs}.conv", f"merge.{level}")
    return ours | _pointwise(given["out.0.weight"], "output")


def _decoder(path: Path, arguments: Mapping[str, Any]) -> _Weights:
    try:
        head = decoder_state(read_state(path))
    except KeyError as error:
        raise UHFError(f"{path} is no teacher's decoder of the paper's code ({error} is missing); {_ADVICE}") from None
    try:
        network_from_state(TeacherDecoder, arguments, head, path)
    except KeeperFileError as error:
        raise UHFError(f"{path} is not the decoder of that keeper's teacher: {error}") from None
    return head


def _arguments(given: Mapping[str, Tensor]) -> dict[str, Any]:
    """What :class:`KnowledgeKeeper` is built with, by the shapes of the paper's weights."""
    first, skip = given["conv1.conv1.model.0.weight"], given["guide1.conv_skip.model.0.weight"]
    dim = first.ndim - 2
    return {
        "dim": dim,
        "in_channels": int(first.shape[1]),
        "base_features": int(skip.shape[0]),
        "strides": [[1] * dim] + [[2] * dim] * (LEVELS - 1),
        "kernel_size": int(first.shape[-1]),
        "position_branch": True,
        "convolutions": 2 if "conv1.conv1.model.3.weight" in given else 1,
    }


def _dense_block(given: Mapping[str, Tensor], theirs: str, ours: str) -> _Weights:
    """Three convolutions of growing concatenations, cut by what they read: the input, the first, the second output."""
    one, two, three = (given[f"{theirs}.conv{number}.model.0.weight"] for number in (1, 2, 3))
    growth, width = one.shape[:2]
    made = {
        f"{ours}.shared.weight": torch.cat([each[:, :width] for each in (one, two, three)]),
        f"{ours}.from_first.weight": torch.cat([each[:, width : width + growth] for each in (two, three)]),
        f"{ours}.from_second.weight": three[:, width + growth :],
    }
    for number in (1, 2, 3):
        second = given.get(f"{theirs}.conv{number}.model.3.weight")
        if second is not None:
            made[f"{ours}.tails.{number - 1}.2.weight"] = second
    return {name: value.contiguous() for name, value in made.items()}


def _guide(given: Mapping[str, Tensor], level: int, dim: int) -> _Weights:
    """Skip, gate and, but at the deepest level, the 1x1 convolution and the attention of a guide."""
    ours = f"guides.{level}"
    if level == LEVELS - 1:
        return _convolutions(given, "guide5_conv", f"{ours}.skip") | _gate(given, "guide5_PRM", f"{ours}.gate", dim)
    theirs = f"guide{level + 1}"
    attention = given[f"{theirs}.attention.0.weight"]
    half = attention.shape[1] // 2  # of the coarser guide, then of the skip
    return {
        **_convolutions(given, f"{theirs}.conv_skip", f"{ours}.skip"),
        **_gate(given, f"{theirs}.prm", f"{ours}.gate", dim),
        **_pointwise(given[f"{theirs}.conv1x1_x.0.weight"], f"{ours}.narrow"),
        **_pointwise(attention[:, :half].contiguous(), f"{ours}.attend_coarse"),
        f"{ours}.attend_skip.weight": attention[:, half:].contiguous(),
    }


def _gate(given: Mapping[str, Tensor], theirs: str, ours: str, dim: int) -> _Weights:
    """The gate's numbers; its scale is kept positive here by a softplus.

    Raises:
        ValueError: a scale that no normal density has.
    """
    names = {"weight": "slope", "bias": "offset", "one": "mean_weight", "zero": "peak_weight"}
    made = {f"{ours}.{name}": given[f"{theirs}.{their}"].reshape(()) for their, name in names.items()}
    scale = float(given[f"{theirs}.scale"].reshape(()))
    if not scale > 0:
        raise ValueError(f"{theirs}.scale {scale:g}")
    raw = scale + math.log(-math.expm1(-scale))  # softplus turned round
    return {
        **made,
        f"{ours}.theta": given[f"{theirs}.theta"].reshape(dim),
        f"{ours}.raw_scale": torch.tensor(raw, dtype=torch.float32),
    }


def _convolutions(given: Mapping[str, Tensor], theirs: str, ours: str) -> _Weights:
    """One convolution, or two in a row."""
    made = {f"{ours}.0.weight": given[f"{theirs}.model.0.weight"]}
    second = given.get(f"{theirs}.model.3.weight")
    return made if second is None else {**made, f"{ours}.3.weight": second}


def _pointwise(weight: Tensor, ours: str) -> _Weights:
    """A 1x1 convolution, with the bias that the paper's code leaves out."""
    return {f"{ours}.weight": weight, f"{ours}.bias": torch.zeros(weight.shape[0])}
