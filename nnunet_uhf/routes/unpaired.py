"""The route of unpaired scans: two domains, low field and high field, of different subjects in one dataset (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.entries import channels_of, read_architecture, read_preset, read_tesla
from nnunet_uhf.routes.task import Route, Task
from nnunet_uhf.routes.training import read_training

_REQUIRED = ("source", "target", "source_field_T", "target_field_T", "domains")
_OPTIONAL = ("held_out_pairs", "subjects", "matching", "features")
_MATCHINGS = ("bank", "position", "hungarian")


@dataclass(frozen=True, kw_only=True)
class UnpairedTask(Task):
    """Two domains in one channel, and which case is of which.

    Attributes:
        source, target: names of the low-field and of the high-field domain.
        image_channel: name of the one channel.
        source_field_T, target_field_T: in tesla.
        domains: by case.
        held_out_pairs: high-field scan of the same subject by low-field case: truth of validations, never learnt from.
        subjects: name of the subject by case, where a subject has several scans; else a case is a subject of its own.
        matching: which high-field slice a low-field slice is held against.
        features: which network describes slices in validations, a choice of
            :func:`nnunet_uhf.evaluation.feature_network.feature_network`; None for no distances of sets.
    """

    source: str
    target: str
    image_channel: str
    source_field_T: float  # noqa: N815 - the field's unit, as in dataset.json
    target_field_T: float  # noqa: N815
    domains: Mapping[str, str]
    held_out_pairs: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)
    matching: str | None = None
    features: str | None = None

    @property
    def channel(self) -> str:
        """The one channel, which both domains show."""
        return self.image_channel

    @property
    def low_field_T(self) -> float:  # noqa: N802
        """The source's."""
        return self.source_field_T

    @property
    def high_field_T(self) -> float:  # noqa: N802
        """The target's."""
        return self.target_field_T

    def subject(self, case: str) -> str:
        """Whose scan a case is."""
        return self.subjects.get(case, case)

    def cases_of(self, domain: str) -> list[str]:
        """The cases of a domain by name."""
        return sorted(case for case, its in self.domains.items() if its == domain)


def _read(declared: Mapping[str, Any], dataset_json: Mapping[str, Any], where: str) -> UnpairedTask:
    unknown = sorted(set(declared) - {"unpaired", "architecture", "training"})
    if unknown:
        raise UHFError(
            f'{where}: the "uhf" object with "unpaired" has unknown entries {", ".join(unknown)}; known are unpaired, '
            "architecture, training"
        )
    entries, name = declared["unpaired"], "uhf.unpaired"
    if not isinstance(entries, Mapping):
        raise UHFError(f"{where}: {name} is {entries!r}; it is an object as `nnunet-uhf convert unpaired` writes it")
    missing = [entry for entry in _REQUIRED if entry not in entries]
    unknown = sorted(set(entries) - set(_REQUIRED) - set(_OPTIONAL))
    if missing or unknown:
        told = f"lacks {', '.join(missing)}" if missing else f"has unknown entries {', '.join(unknown)}"
        raise UHFError(f"{where}: {name} {told}; known are {', '.join(_REQUIRED + _OPTIONAL)}")
    channels = channels_of(dataset_json, where)
    if len(channels) != 1:
        raise UHFError(f"{where}: an unpaired dataset has one channel, which both domains show, not {len(channels)}")
    source, target = str(entries["source"]), str(entries["target"])
    if source == target:
        raise UHFError(f"{where}: {name}.source and target are both {source!r}; the domains need two names")
    matching = entries.get("matching")
    if matching is not None and matching not in _MATCHINGS:
        raise UHFError(f"{where}: {name}.matching is {matching!r}; choose one of {', '.join(_MATCHINGS)}")
    features = entries.get("features")
    if features is not None and not isinstance(features, str):
        raise UHFError(f"{where}: {name}.features is {features!r:.80}; name a feature network, such as imagenet")
    domains = _texts(entries, "domains", where)
    task = UnpairedTask(
        route=UNPAIRED.name,
        source=source,
        target=target,
        image_channel=channels[0],
        source_field_T=read_tesla(entries, "source_field_T", where),
        target_field_T=read_tesla(entries, "target_field_T", where),
        domains=domains,
        held_out_pairs=_texts(entries, "held_out_pairs", where),
        subjects=_texts(entries, "subjects", where),
        matching=matching,
        features=features,
        architecture=read_architecture(declared, where),
        preset=read_preset(declared, where),
        training=read_training(declared, where),
    )
    _check_cases(task, where)
    return task


def _texts(entries: Mapping[str, Any], name: str, where: str) -> dict[str, str]:
    value = entries.get(name, {})
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise UHFError(f"{where}: uhf.unpaired.{name} is {value!r:.80}; it is an object from names of cases to names")
    return dict(value)


def _check_cases(task: UnpairedTask, where: str) -> None:
    """Every case named is of a domain, and every pair of one case of each."""
    odd = sorted(case for case, domain in task.domains.items() if domain not in (task.source, task.target))
    if odd:
        raise UHFError(f"{where}: uhf.unpaired.domains has {odd[0]!r} in neither {task.source!r} nor {task.target!r}")
    for domain in (task.source, task.target):
        if not task.cases_of(domain):
            raise UHFError(f"{where}: uhf.unpaired.domains has no case of {domain!r}")
    strange = sorted(set(task.subjects) - set(task.domains))
    if strange:
        raise UHFError(f"{where}: uhf.unpaired.subjects names {strange[0]!r}, which is no case of uhf.unpaired.domains")
    for low, high in task.held_out_pairs.items():
        if task.domains.get(low) != task.source or task.domains.get(high) != task.target:
            raise UHFError(
                f"{where}: uhf.unpaired.held_out_pairs has {low!r}: {high!r}, which is no low-field case with a "
                "high-field one"
            )


UNPAIRED = Route(
    name="unpaired",
    taught=lambda low, high: (
        f"unpaired scans at {low} and {high}, of different subjects: contrast and detail are typical of the other "
        "group, not measured in this one"
    ),
    entry="unpaired",
    read=_read,
    stored=True,
    trainers="PTATrainer (first SGPTrainer and LSCTrainer)",
)
