"""The route of modalities: any channels of a dataset as sources and as targets, at any slice distance (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnunet_uhf.checks import is_int, is_list, is_number
from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.unicoal.kind import ARCHITECTURE_OPTIONS
from nnunet_uhf.networks.unicoal.modalities import LARGEST_GAP, LARGEST_RATIO, MOST, Modalities
from nnunet_uhf.networks.unicoal.presets import REFERENCE, SIZES
from nnunet_uhf.routes.entries import channels_of, check_entries
from nnunet_uhf.routes.task import Route, Task
from nnunet_uhf.routes.training import read_training

_REQUIRED = ("modalities",)
_OPTIONAL = ("sources", "targets", "thickness", "thick", "architecture", "extensions", "training")
_SWITCHES = {
    "conditions": True,
    "profile": True,
    "interpolation": True,
    "slice_filter": True,
    "several_sources": False,
    "no_identity": True,
    "position": True,
    "filtered_encoder": False,
}


@dataclass(frozen=True, kw_only=True)
class ModalityTask(Task):
    """Modalities that are channels of a dataset, and how samples are drawn from them.

    Attributes:
        modalities: what the network will know.
        channels: index in the dataset of every modality.
        thick: voxels along the slice axis that one slice of a channel fills, for channels that are really thick; they
            are sources only.
        profile: slices are weighted by their profile around any position (E2); without it thin ones are taken.
        no_identity: a source is never asked for at one of its own slices (E5).
        filtered_encoder: leaky ReLUs of the encoder are filtered, too (E8).
        consistency: weight of the difference of neighbouring slices in the loss (E7); 0 for none.
    """

    modalities: Modalities
    channels: Mapping[str, int]
    thick: Mapping[str, int] = field(default_factory=dict)
    profile: bool = True
    no_identity: bool = True
    filtered_encoder: bool = False
    consistency: float = 0.0

    @property
    def channel(self) -> str:
        """The first source."""
        return self.modalities.sources[0]

    @property
    def low_field_T(self) -> float:  # noqa: N802 - the field's unit
        """That of the first source."""
        return self.modalities.tesla[self.channel]

    @property
    def high_field_T(self) -> float:  # noqa: N802
        """That of the first target."""
        return self.modalities.tesla[self.modalities.targets[0]]


def _read(declared: Mapping[str, Any], dataset_json: Mapping[str, Any], where: str) -> ModalityTask:
    check_entries(declared, _REQUIRED, _OPTIONAL, where)
    names = channels_of(dataset_json, where)
    tesla = declared["modalities"]
    if not isinstance(tesla, Mapping) or not 1 <= len(tesla) <= MOST or not all(map(_is_tesla, tesla.values())):
        raise UHFError(
            f"{where}: uhf.modalities is {tesla!r}; give 1 to {MOST} channels with their field strengths in tesla, "
            'like {"T1w": 3.0, "T2w": 3.0}'
        )
    for name in tesla:
        if names.count(name) != 1:
            raise UHFError(
                f"{where}: uhf.modalities names {name!r}, which is not one channel; channel_names has "
                f"{', '.join(map(repr, names))}"
            )
    thick = _read_thick(declared, tesla, where)
    sources = _read_names(declared, "sources", list(tesla), tesla, where)
    targets = _read_names(declared, "targets", [name for name in tesla if name not in thick], tesla, where)
    if both := [name for name in targets if name in thick]:
        raise UHFError(f"{where}: uhf.thick names {both[0]!r}, whose slices are thick: it can be no target")
    thickness = declared.get("thickness", {})
    if not isinstance(thickness, Mapping) or not set(thickness) <= {"ratio", "gap"}:
        raise UHFError(f'{where}: uhf.thickness is {thickness!r}; give {{"ratio": [1, 8], "gap": [0, 0.34]}}')
    extensions, consistency = _read_extensions(declared, where)
    modalities = Modalities(
        tesla={name: float(value) for name, value in tesla.items()},
        sources=sources,
        targets=targets,
        ratio=_read_range(thickness.get("ratio", [1, 8]), "ratio", 1, LARGEST_RATIO, where),
        gap=_read_range(thickness.get("gap", [0, 0.34]), "gap", 0, LARGEST_GAP, where),
        # thin slices lie where they are, with nothing to undo
        slice_filter=extensions["slice_filter"] and extensions["interpolation"] and extensions["profile"],
        **{name: extensions[name] for name in ("conditions", "interpolation", "several_sources", "position")},
    )
    if modalities.ratio[1] == 1 and not any(s != t for s in sources for t in targets):
        raise UHFError(
            f"{where}: with one modality and uhf.thickness.ratio [1, 1] there is nothing to learn; give a larger ratio"
        )
    return ModalityTask(
        route=MODALITIES.name,
        architecture=_read_architecture(declared, where),
        training=read_training(declared, where),
        modalities=modalities,
        channels={name: names.index(name) for name in tesla},
        thick=thick,
        profile=extensions["profile"],
        no_identity=extensions["no_identity"],
        filtered_encoder=extensions["filtered_encoder"],
        consistency=consistency,
    )


def _is_tesla(value: object) -> bool:
    return is_number(value, 1e-3, 30)


def _read_names(
    declared: Mapping[str, Any], entry: str, default: list[str], tesla: Mapping[str, Any], where: str
) -> tuple[str, ...]:
    value = declared.get(entry, default)
    if not is_list(value, lambda name: name in list(tesla), 1, MOST) or len(set(value)) < len(value):
        raise UHFError(f"{where}: uhf.{entry} is {value!r}; list some of uhf.modalities: {', '.join(tesla)}")
    return tuple(value)


def _read_thick(declared: Mapping[str, Any], tesla: Mapping[str, Any], where: str) -> dict[str, int]:
    thick = declared.get("thick", {})
    fits = isinstance(thick, Mapping) and all(n in tesla and is_int(v, 2, int(LARGEST_RATIO)) for n, v in thick.items())
    if not fits:
        raise UHFError(
            f"{where}: uhf.thick is {thick!r}; give the channels whose slices fill several voxels with their number, "
            f"2 to {LARGEST_RATIO:g}, like {{'T2w': 4}}"
        )
    return dict(thick)


def _read_range(value: object, entry: str, low: float, high: float, where: str) -> tuple[float, float]:
    if not is_list(value, lambda item: is_number(item, low, high), 2, 2) or value[0] > value[1]:  # type: ignore[index]
        raise UHFError(
            f"{where}: uhf.thickness.{entry} is {value!r}; give the smallest and the largest, from {low:g} to {high:g}"
        )
    return float(value[0]), float(value[1])  # type: ignore[index]


def _read_extensions(declared: Mapping[str, Any], where: str) -> tuple[dict[str, bool], float]:
    """The switches, and the weight of the consistency of neighbouring slices."""
    asked = declared.get("extensions", {})
    known = {*_SWITCHES, "consistency"}
    if not isinstance(asked, Mapping) or not set(asked) <= known:
        raise UHFError(f"{where}: uhf.extensions is {asked!r}; it may set {', '.join(sorted(known))}")
    switches = {**_SWITCHES, **{name: value for name, value in asked.items() if name != "consistency"}}
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise UHFError(f"{where}: uhf.extensions.{name} is {value!r}; give true or false")
    consistency = asked.get("consistency", 0.0)
    if not is_number(consistency, 0, 1e6):
        raise UHFError(f"{where}: uhf.extensions.consistency is {consistency!r}; give a weight, 0 or more")
    return switches, float(consistency)


def _read_architecture(declared: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The preset and options as they stand there, checked."""
    asked = declared.get("architecture", {})
    if not isinstance(asked, Mapping) or not set(asked) <= {"preset", *ARCHITECTURE_OPTIONS}:
        known = ", ".join(["preset", *ARCHITECTURE_OPTIONS])
        raise UHFError(f"{where}: uhf.architecture is {asked!r}; of Uni-COAL it may set {known}")
    if asked.get("preset", REFERENCE) not in list(SIZES):
        raise UHFError(
            f"{where}: uhf.architecture.preset is {asked['preset']!r}; of Uni-COAL there are {', '.join(SIZES)}"
        )
    for name, (fits, wanted) in ARCHITECTURE_OPTIONS.items():
        if name in asked and not fits(asked[name]):
            raise UHFError(f"{where}: uhf.architecture.{name} is {asked[name]!r}; it must be {wanted}")
    return dict(asked)


MODALITIES = Route(
    name="unicoal",
    taught=lambda low, high: (
        f"scans of several modalities of the same subjects at {low} and {high}, or on images that Uni-COAL made of such"
    ),
    entry="modalities",
    read=_read,
    stored=True,
    trainers="UniCOALTrainer",
)
