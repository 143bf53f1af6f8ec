"""A keeper's header as a table for people: `nnunet-uhf inspect`."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from nnunet_uhf.keepers.header import InputChannel, KeeperHeader
from nnunet_uhf.networks.kinds import why_no_guide


def header_table(header: KeeperHeader, *, name: str | None = None) -> Table:
    """Return the header as a two-column rich table. Header text is shown literally, never read as markup."""
    title = "Knowledge keeper" if name is None else f"Knowledge keeper {name}"
    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row, value in header_rows(header):
        table.add_row(row, Text(value))
    return table


def header_rows(header: KeeperHeader) -> list[tuple[str, str]]:
    """All that a header says, as names and texts."""
    fields = " -> ".join(in_tesla(value) for value in (header.source_field_T, header.target_field_T))
    rows = [
        ("dimension", f"{header.dim}D"),
        ("channel" if len(header.inputs) == 1 else "channels", ", ".join(one.channel for one in header.inputs)),
        ("field", f"{fields} ({header.route})"),
        ("spacing", f"{_by(header.spacing_mm)} mm"),
        ("patch", f"{_by(header.patch_size)} ({_by(header.extent_mm)} mm)"),
        ("axes", f"{header.axis_order}, transpose_forward {list(header.transpose_forward)}"),
        ("orientation", header.orientation or "not stated"),
        ("normalisation", ", ".join(dict.fromkeys(map(_normalisation, header.inputs)))),
        ("target intensity", f"{header.target_intensity['mean']:g} +- {header.target_intensity['std']:g}"),
        ("trained on", f"{header.dataset}, {header.configuration}, fold {header.fold}"),
        ("cases", f"{len(header.training_cases)} training, {len(header.validation_cases)} held out"),
    ]
    rows += [(f"simulated {name}", _metric(value)) for name, value in (header.simulation or {}).items()]
    rows += [(f"taught by the {name}", _metric(value)) for name, value in (header.supervision or {}).items()]
    rows += [(f"held-out {name}", _metric(value)) for name, value in header.metrics.items()]
    rows += [
        ("feature statistics", _statistics(header.feature_statistics)),
        ("network", header.network),
        ("can guide", _guidance(header)),
        ("architecture", _arguments(header.architecture)),
        ("decoder", _arguments(header.decoder_architecture) if header.decoder_architecture else "none"),
        ("sha256", header.sha256),
        ("decoder sha256", header.decoder_sha256 or "none"),
        ("written by", f"nnunet-uhf {header.package_version}, format {header.format_version}"),
        ("licence", header.licence or "not stated"),
        ("citation", header.citation or "not stated"),
    ]
    return rows


def _normalisation(one: InputChannel) -> str:
    return f"{one.normalisation} over the {'non-zero mask' if one.use_mask_for_norm else 'whole image'}"


def _statistics(statistics: dict[str, Any] | None) -> str:
    if statistics is None:
        return "none"
    usual = statistics["distances"]
    return f"of {statistics['cases']} cases; usual distances: {_metric(usual)}"


def _guidance(header: KeeperHeader) -> str:
    reason = why_no_guide(header.network, header.architecture)
    return "yes" if reason is None else f"no: {reason}"


def in_tesla(value: object) -> str:
    """A field strength for people; what is no number is an unknown one."""
    return f"{value:g} T" if isinstance(value, int | float) else "unknown field"


def _by(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _arguments(architecture: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in architecture.items())


def _metric(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_metric(item)}" for name, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
