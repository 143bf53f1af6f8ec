"""How an enhancement dataset without low-field scans has them simulated: `uhf.simulate` of its dataset.json (ours).

Here the entries are read and their types checked; what they mean is checked where the simulator is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nnunet_uhf.checks import is_int, is_range, is_text, is_whole_numbers
from nnunet_uhf.errors import UHFError

_REQUIRED = ("preset", "source")
_OPTIONAL = (
    "mode",
    "ratios",
    "axes",
    "fixed",
    "noise",
    "noise_scale",
    "noise_mask",
    "reject_outliers",
    "tissues",
    "artefacts",
)
# thin slices that the anisotropic U-Net can make of a thick one
NATIVE_RATIOS = (2, 3, 4, 6, 8)
_NUMBER = (int, float)
LONGEST_PATH = 4096  # characters; a preset may be the path of a file
_ARTEFACTS: dict[str, type | tuple[type, ...]] = {
    "bias_field": _NUMBER,
    "motion_probability": _NUMBER,
    "motion_degrees": _NUMBER,
    "motion_voxels": _NUMBER,
    "movements": int,
    "spike_probability": _NUMBER,
    "spikes": int,
    "spike_intensity": _NUMBER,
    "kspace_crop": _NUMBER,
}
_TISSUES = {"csf": 1, "gm": 2, "wm": 3}


@dataclass(frozen=True, kw_only=True)
class SimulationTask:
    """The entries of `uhf.simulate`, defaults filled in.

    Attributes:
        preset: name of a preset of SNR, or a JSON file of one.
        source: name of the simulated channel: that of the segmentation datasets which the keeper shall guide.
        mode: `regrid` brings the slices back to the target's grid; `native` keeps them, with one ratio and one axis.
        ratios: slice distances in voxels, one is drawn.
        axes: axes of nnU-Net's preprocessed arrays that slices may run along, one is drawn.
        fixed, noise, noise_scale, noise_mask, reject_outliers: as the simulator has them.
        tissues: label value(s) of csf, gm and wm.
        artefacts: arguments of the simulator's `Artefacts`: bias field, motion, spikes, k-space; empty for none.
    """

    preset: str
    source: str
    mode: Literal["regrid", "native"] = "regrid"
    ratios: tuple[int, ...] = (4,)
    axes: tuple[int, ...] = (0, 1, 2)
    fixed: Literal["gm", "wm"] = "gm"
    noise: Literal["gaussian", "rician"] = "gaussian"
    noise_scale: tuple[float, float] = (1.0, 1.0)
    noise_mask: Literal["everywhere", "brain"] = "everywhere"
    reject_outliers: bool = False
    tissues: Mapping[str, int | tuple[int, ...]]
    artefacts: Mapping[str, float] = field(default_factory=dict)


def read_simulation(declared: object, *, where: str) -> SimulationTask:
    """Read `uhf.simulate`; `where` names the file in errors.

    Raises:
        UHFError: names the entry that is missing, unknown or of another type.
    """
    if not isinstance(declared, Mapping):
        raise UHFError(
            f'{where}: uhf.simulate is {declared!r}; give an object like {{"preset": "t1w_0.36T_probable", '
            '"source": "T1w", "ratios": [3, 4]}'
        )
    missing = [name for name in _REQUIRED if name not in declared]
    if missing:
        raise UHFError(f"{where}: uhf.simulate lacks {', '.join(missing)}; add it")
    unknown = sorted(set(declared) - set(_REQUIRED) - set(_OPTIONAL))
    if unknown:
        raise UHFError(
            f"{where}: uhf.simulate has unknown entries {', '.join(unknown)}; "
            f"known are {', '.join(_REQUIRED + _OPTIONAL)}"
        )
    wanted = {
        **dict.fromkeys(("preset", "source", "mode", "fixed", "noise", "noise_mask"), (_is_words, "text")),
        "ratios": (lambda value: is_whole_numbers(value, 1, 64), "a list of whole numbers from 1 to 64"),
        "axes": (lambda value: is_whole_numbers(value, 0, 2), "a list of axes 0, 1, 2 of the preprocessed arrays"),
        "noise_scale": (is_range, "a range of two numbers, [1, 1] or higher for more noise"),
        "reject_outliers": (lambda value: isinstance(value, bool), "true or false"),
        "artefacts": (_is_artefacts, 'numbers like {"bias_field": 0.3, "motion_probability": 0.2}'),
        "tissues": (_is_tissues, 'label values like {"csf": 1, "gm": 2, "wm": [3, 4]}'),
    }
    for name, value in declared.items():
        fits, description = wanted[name]
        if not fits(value):
            raise UHFError(f"{where}: uhf.simulate.{name} is {value!r}; give {description}")
    _check_mode(declared, where)
    values = {"tissues": _TISSUES, "artefacts": {}, **declared}
    values["tissues"] = _with_tuples(values["tissues"])
    return SimulationTask(**_with_tuples(values))


def _check_mode(declared: Mapping[str, Any], where: str) -> None:
    """`native` means one geometry for a whole training, which has to be named."""
    if declared.get("mode") != "native":
        return
    ratios, axes = declared.get("ratios", []), declared.get("axes", [])
    if len(ratios) != 1 or ratios[0] not in NATIVE_RATIOS or len(axes) != 1:
        raise UHFError(
            f"{where}: uhf.simulate.mode native needs exactly one ratio of {', '.join(map(str, NATIVE_RATIOS))} and "
            'one axis, like "ratios": [4], "axes": [0]'
        )


def _with_tuples(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()}


def _is_words(value: object) -> bool:
    return is_text(value, longest=LONGEST_PATH)


def _is_artefacts(value: object) -> bool:
    """Names of the simulator's artefact parameters; it checks their ranges itself."""
    if not isinstance(value, Mapping) or not value.keys() <= _ARTEFACTS.keys():
        return False
    return all(isinstance(n, _ARTEFACTS[name]) and not isinstance(n, bool) for name, n in value.items())


def _is_tissues(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        is_int(labels, 1, 32767) or is_whole_numbers(labels, 1, 32767) for labels in value.values()
    )
