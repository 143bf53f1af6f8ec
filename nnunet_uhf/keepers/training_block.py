"""The `uhf` block of a teacher's or keeper's training, as its plans.json and its checkpoints hold it (ours).

It stands in this room and not in ``guidance``: a results folder is read as a keeper without anything that guides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from nnunet_uhf.checks import is_int, is_number, is_plain, is_text
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.fields import FIELDS
from nnunet_uhf.networks.contract import Arguments, without
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK, KINDS
from nnunet_uhf.nnunet.plans_block import FORMAT, block_in, role_of

TrainingRole = Literal["teacher", "keeper", "pretext"]
"""What is trained: whom a keeper learns from, what makes images, or what a method trains beforehand for itself."""
REMEDY = "restore the file from a copy, or train again"
MAX_DB = 1000
_KNOWN = {"format", "role", "source_channel", "target_channel", "network", "architecture", "teacher"}
_KNOWN |= {"same_field", "simulation", "training"}


@dataclass(frozen=True, kw_only=True)
class TeacherEntry:
    """The finished teacher that a keeper learns from; PSNRs in dB, the input's None for a teacher of the low field."""

    architecture: Mapping[str, Any]
    trainer: str
    sha256: str
    psnr: float
    input_psnr: float | None


@dataclass(frozen=True, kw_only=True)
class NetworksEntry:
    """What the networks of a training are built from.

    Attributes:
        architecture: all arguments of the network that is trained, as its ``config()`` gives them.
        network: its kind, a name in :mod:`nnunet_uhf.networks.kinds`.
        teacher: what it learns from, where it learns from another network.
        parts: arguments of what a method trains beside it, by name; None for a part that was left out.
    """

    architecture: Mapping[str, Any]
    network: str = DEFAULT_NETWORK
    teacher: TeacherEntry | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> Mapping[str, Any] | None:
        """Arguments of a further network; None where there is none."""
        return self.parts.get(name)

    def as_json(self) -> dict[str, Any]:
        """The entries of the block; what the first versions had goes without saying."""
        unsaid = _unsaid(self.network)
        teacher = self.teacher
        return {
            **({} if self.network == DEFAULT_NETWORK else {"network": self.network}),
            "architecture": without(unsaid, self.architecture),
            **(
                {}
                if teacher is None
                else {"teacher": {**vars(teacher), "architecture": without(unsaid, teacher.architecture)}}
            ),
            **self.parts,
        }


@dataclass(frozen=True, kw_only=True)
class TrainingBlock:
    """What an image-to-image training says of itself.

    Attributes:
        role: what is trained.
        source_channel: index of the low-field channel in the dataset; of a simulated source, that of the target.
        target_channel: index of the high-field channel.
        networks: what its networks are built from.
        same_field: the target is the low-field source itself, as a control.
        simulation: all parameters of a source that is simulated; None for pairs.
        training: learning rates, schedule and weights of the losses, in the words of `uhf.training` of dataset.json;
            None of a training of version 0.1.0, which did not write them down.
    """

    role: TrainingRole
    source_channel: int
    target_channel: int
    networks: NetworksEntry
    same_field: bool = False
    simulation: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None

    @property
    def learnt_channel(self) -> int:
        """The channel whose images the keeper's decoder makes."""
        return self.source_channel if self.same_field else self.target_channel

    @property
    def translates(self) -> bool:
        """Whether a translation between two domains is trained: its parts are those of no other method."""
        return any(self.networks.part(name) is not None for name in ("judges", "source_intensity"))

    @property
    def simulated_field(self) -> float | None:
        """Field strength in tesla of a simulated source; None for pairs."""
        return None if self.simulation is None else float(self.simulation["preset"]["field_T"])

    def teacher_of(self, where: str | Path) -> TeacherEntry:
        """The teacher it learnt from; UHFError, which begins with ``where``, without one."""
        if self.networks.teacher is None:
            raise UHFError(f"{where}: the uhf block names no teacher; {REMEDY}")
        return self.networks.teacher

    def as_json(self) -> dict[str, Any]:
        """As it stands in plans: :meth:`parse` gives this block back."""
        return {
            "format": FORMAT,
            "role": self.role,
            "source_channel": self.source_channel,
            "target_channel": self.target_channel,
            **self.networks.as_json(),
            **({"same_field": True} if self.same_field else {}),
            **({} if self.simulation is None else {"simulation": dict(self.simulation)}),
            **({} if self.training is None else {"training": dict(self.training)}),
        }

    @classmethod
    def parse(cls, block: Any, *, where: str | Path) -> TrainingBlock:
        """Read what stands in plans.

        Raises:
            UHFError: not the block of a teacher's or keeper's training, or one that is damaged; begins with ``where``.
        """
        role = role_of(block)
        if role not in get_args(TrainingRole):
            raise UHFError(f"{where}: no uhf block of a teacher's or keeper's training, but of role {role!r:.80}")
        if not is_int(block.get("format", FORMAT), FORMAT, FORMAT):
            raise UHFError(
                f"{where}: uhf block of format {block['format']!r:.80}, this version reads {FORMAT}; update it"
            )
        simulation, teacher, training = (block.get(name) for name in ("simulation", "teacher", "training"))
        entries = {
            "source_channel": is_int(block.get("source_channel"), 0, 999),
            "target_channel": is_int(block.get("target_channel"), 0, 999),
            "architecture": isinstance(block.get("architecture"), Mapping),
            "network": is_text(block.get("network", DEFAULT_NETWORK)),
            "teacher": teacher is None or _is_teacher(teacher),
            "simulation": simulation is None or _is_simulation(simulation),
            "training": training is None or (isinstance(training, dict) and is_plain(training, 4)),
            "same_field": isinstance(block.get("same_field", False), bool),
        }
        wrong = [name for name, fits in entries.items() if not fits]
        if wrong:
            raise UHFError(f"{where}: the uhf block has no valid {', '.join(wrong)}; {REMEDY}")
        network = block.get("network", DEFAULT_NETWORK)
        unsaid = _unsaid(network)
        return cls(
            role=cast(TrainingRole, role),
            source_channel=block["source_channel"],
            target_channel=block["target_channel"],
            networks=NetworksEntry(
                architecture={**unsaid, **block["architecture"]},
                network=network,
                teacher=None if teacher is None else _teacher(teacher, unsaid),
                parts={name: value for name, value in block.items() if name not in _KNOWN},
            ),
            same_field=bool(block.get("same_field", False)),
            simulation=simulation,
            training=training,
        )

    @classmethod
    def of(cls, plans: Mapping[str, Any], configuration: str, *, where: str | Path) -> TrainingBlock:
        """:meth:`parse` of the block in a configuration of plans."""
        return cls.parse(block_in(plans, configuration), where=where)


def _is_teacher(entry: Any) -> bool:
    return (
        isinstance(entry, Mapping)
        and isinstance(entry.get("architecture"), Mapping)
        and is_text(entry.get("trainer"))
        and FIELDS["sha256"][0](entry.get("sha256"))
        and is_number(entry.get("psnr"), -MAX_DB, MAX_DB)
        and (entry.get("input_psnr") is None or is_number(entry["input_psnr"], -MAX_DB, MAX_DB))
    )


def _is_simulation(record: Any) -> bool:
    preset = record.get("preset") if isinstance(record, Mapping) else None
    return (
        FIELDS["simulation"][0](record) and isinstance(preset, Mapping) and is_number(preset.get("field_T"), 1e-3, 30)
    )


def _unsaid(network: str) -> Arguments:
    """What goes unsaid of a network's arguments, and of its teacher's."""
    return KINDS[network].unsaid if network in KINDS else {}


def _teacher(entry: Mapping[str, Any], unsaid: Arguments) -> TeacherEntry:
    return TeacherEntry(
        architecture={**unsaid, **entry["architecture"]},
        trainer=entry["trainer"],
        sha256=entry["sha256"],
        psnr=entry["psnr"],
        input_psnr=entry.get("input_psnr"),
    )
