"""What an enhancement dataset says about itself: the `uhf` object of its dataset.json (ours)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.presets import DEFAULT_PRESET, PRESETS
from nnunet_uhf.routes.simulated import SimulationTask, read_simulation

ROUTES = ("paired", "simulated")
_REQUIRED = ("source", "target", "source_field_T", "target_field_T")
_OPTIONAL = ("route", "architecture")
# with `simulate` the source has no channel, and its field strength may be left to the preset
_SIMULATED = ("target", "target_field_T", "simulate")
_SIMULATED_OPTIONAL = ("source_field_T", "architecture")
# set by the configuration, the simulation or the trainer, never by the user
_PLANNED = frozenset({"self", "dim", "in_channels", "strides", "ratio", "slice_axis", "masks"})


@dataclass(frozen=True, kw_only=True)
class EnhancementTask:
    """A pair of channels, the field strengths in tesla they stand for, and optional sizes of the networks.

    With `simulation`, the source is made from the only channel of the dataset while training: both channel numbers are
    that channel's, and `source_field_T` may be None for that of the preset.
    """

    source: str
    target: str
    source_channel: int
    target_channel: int
    source_field_T: float | None  # noqa: N815 - the field's unit, as in dataset.json
    target_field_T: float  # noqa: N815
    route: str
    architecture: Mapping[str, Any]
    simulation: SimulationTask | None = None

    def architecture_of(self, network: type[nn.Module]) -> dict[str, Any]:
        """Those of the user's architecture options that this network has."""
        return {name: value for name, value in self.architecture.items() if name in options_of(network)}


def options_of(network: type[nn.Module]) -> frozenset[str]:
    """Names of the constructor arguments of a network that a dataset.json may set."""
    return frozenset(inspect.signature(network).parameters) - _PLANNED


def read_task(
    dataset_json: Mapping[str, Any], *, dataset: str, networks: tuple[type[nn.Module], ...]
) -> EnhancementTask:
    """Read and check `dataset_json["uhf"]`; `networks` are those whose sizes its `architecture` may set.

    Raises:
        UHFError: names the field of dataset.json that is missing, unknown or does not fit.
    """
    where = f"dataset.json of {dataset} (the copies in nnUNet_raw and nnUNet_preprocessed)"
    declared = dataset_json.get("uhf")
    if not isinstance(declared, Mapping):
        raise UHFError(
            f'{where}: no "uhf" object; add one like {{"source": "LF", "target": "HF", "source_field_T": 0.36, '
            '"target_field_T": 3.0} that names the low-field and the high-field channel'
        )
    if "simulate" in declared:
        return _read_simulated(dataset_json, declared, networks, where)
    if "mode" in declared:
        raise UHFError(
            f"{where}: uhf.mode is not for pairs of scans: nnU-Net resamples both to one grid before a trainer sees "
            'them. Thick slices ("native") are trained from high-field images alone, with uhf.simulate'
        )
    _check_entries(declared, _REQUIRED, _OPTIONAL, where)
    route = declared.get("route", ROUTES[0])
    if route not in ROUTES:
        raise UHFError(f"{where}: uhf.route is {route!r}; choose one of {', '.join(ROUTES)}")
    source, target = (_channel(dataset_json, declared, role, where) for role in ("source", "target"))
    if source == target:
        raise UHFError(
            f"{where}: uhf.source and uhf.target are both channel {declared['source']!r}; a keeper learns from one "
            "channel to another (to study a teacher of the same field, add a copy of the channel under its own name)"
        )
    return EnhancementTask(
        source=str(declared["source"]),
        target=str(declared["target"]),
        source_channel=source,
        target_channel=target,
        source_field_T=_tesla(declared, "source_field_T", where),
        target_field_T=_tesla(declared, "target_field_T", where),
        route=route,
        architecture=_architecture(declared, networks, where),
    )


def _read_simulated(
    dataset_json: Mapping[str, Any], declared: Mapping[str, Any], networks: tuple[type[nn.Module], ...], where: str
) -> EnhancementTask:
    """The task of a dataset of high-field images alone."""
    _check_entries(declared, _SIMULATED, _SIMULATED_OPTIONAL, where)
    target = _channel(dataset_json, declared, "target", where)
    channels = len(dataset_json.get("channel_names", dataset_json.get("modality", {})))
    if channels != 1:
        raise UHFError(
            f"{where}: uhf.simulate makes the source from a dataset of one channel, this one has {channels}; "
            "make a dataset of the target channel alone"
        )
    simulation = read_simulation(declared["simulate"], where=where)
    return EnhancementTask(
        source=simulation.source,
        target=str(declared["target"]),
        source_channel=target,
        target_channel=target,
        source_field_T=_tesla(declared, "source_field_T", where) if "source_field_T" in declared else None,
        target_field_T=_tesla(declared, "target_field_T", where),
        route="simulated",
        architecture=_architecture(declared, networks, where),
        simulation=simulation,
    )


def _check_entries(
    declared: Mapping[str, Any], required: tuple[str, ...], optional: tuple[str, ...], where: str
) -> None:
    missing = [name for name in required if name not in declared]
    if missing:
        raise UHFError(f'{where}: the "uhf" object lacks {", ".join(missing)}; add it')
    unknown = sorted(set(declared) - set(required) - set(optional))
    if unknown:
        with_simulate = ' with "simulate"' if "simulate" in declared else ""
        raise UHFError(
            f'{where}: the "uhf" object{with_simulate} has unknown entries {", ".join(unknown)}; '
            f"known are {', '.join(required + optional)}"
        )


def _channel(dataset_json: Mapping[str, Any], declared: Mapping[str, Any], role: str, where: str) -> int:
    """Index of the channel that `uhf.<role>` names, whatever its case."""
    # "modality" is the entry's name in older datasets; nnU-Net reads both
    names = dataset_json.get("channel_names", dataset_json.get("modality", {}))
    wanted = str(declared[role])
    found = [int(index) for index, name in names.items() if str(name).lower() == wanted.lower()]
    if len(found) != 1:
        problem = "names no channel" if not found else f"names {len(found)} channels"
        raise UHFError(
            f"{where}: uhf.{role} = {wanted!r} {problem}; channel_names has {', '.join(map(repr, names.values()))}"
        )
    return found[0]


def _tesla(declared: Mapping[str, Any], name: str, where: str) -> float:
    value = declared[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UHFError(f"{where}: uhf.{name} is {value!r}; give the field strength in tesla as a number above 0")
    return float(value)


def _architecture(declared: Mapping[str, Any], networks: tuple[type[nn.Module], ...], where: str) -> Mapping[str, Any]:
    architecture = declared.get("architecture", {})
    known = frozenset({"preset"}).union(*(options_of(network) for network in networks))
    if not isinstance(architecture, Mapping) or not set(architecture) <= known:
        raise UHFError(
            f"{where}: uhf.architecture is {architecture!r}; it is an object that may set {', '.join(sorted(known))}"
        )
    options = dict(architecture)
    preset = options.pop("preset", DEFAULT_PRESET)
    if preset not in list(PRESETS):
        raise UHFError(f"{where}: uhf.architecture.preset is {preset!r}; choose one of {', '.join(PRESETS)}")
    return {**PRESETS[preset].keeper, **options}
