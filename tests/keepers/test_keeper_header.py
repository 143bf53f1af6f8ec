from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers.keeper_samples import refused, replace_header, rewrite_header, write
from nnunet_uhf.keepers.file import read_header
from nnunet_uhf.keepers.table import header_table


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors")
    rewrite_header(path, lambda header: header.update(format_version=5, something_new=1))
    refused(path, "format 5", "pip install --upgrade")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        '{"format_version": "1"}',
        '{"format_version": true}',
        '{"fold": NaN}',
        "[" * 99_999,
    ],
    ids=range(8),
)
def test_a_corrupt_header_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "kkn.safetensors")
    refused(replace_header(path, text), "header")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", 4),
        ("dim", True),
        ("dim", 3),
        ("channel", ""),
        ("channel", "T1w\x1b[31m"),
        ("channel", "T1w\nsecond line"),
        ("spacing_mm", [1.0, 1.0, 1.0]),
        ("spacing_mm", [1.0, 0.0]),
        ("spacing_mm", [1.0, 10**400]),
        ("spacing_mm", "1x1"),
        ("axis_order", "xyz"),
        ("transpose_forward", [0, 0, 2]),
        ("transpose_forward", [True, False, 2]),
        ("patch_size", [64.0, 64]),
        ("patch_size", [10**9, 64]),
        ("normalisation", "os.system('x')"),
        ("use_mask_for_norm", 0),
        ("target_intensity", {"mean": 1.0}),
        ("target_intensity", {"mean": 1.0, "std": 0.0}),
        ("source_field_T", 3000),
        ("route", "magic"),
        ("fold", -1),
        ("fold", "none"),
        ("training_cases", ["a", 1]),
        ("metrics", {"psnr": {"a": {"b": {"c": 1}}}}),
        ("metrics", {"psnr": [1]}),
        ("sha256", "A" * 64),
        ("decoder_sha256", "0" * 64),
        ("licence", None),
        ("architecture", []),
    ],
)
def test_a_header_field_out_of_type_or_range_is_refused_by_name(tmp_path: Path, field: str, value: object) -> None:
    path = write(tmp_path / "kkn.safetensors")
    name = "spacing_mm" if (field, value) == ("dim", 3) else field
    refused(rewrite_header(path, lambda header: header.update({field: value})), name)


SIMULATION = {"preset": {"name": "mine", "mean_snr": [64.5, 54.14]}, "axes": [1, 2], "reject_outliers": True}


def test_a_keeper_without_simulation_is_written_in_the_format_that_every_version_reads(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors")
    rewrite_header(path, lambda header: contains(header, format_version=1, simulation=None))
    header = read_header(path)
    assert (header.format_version, header.simulation) == (1, None)


def test_the_parameters_of_a_simulation_are_kept_and_ask_for_format_2(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors", simulation=SIMULATION)
    header = read_header(path)
    assert (header.format_version, header.simulation) == (2, SIMULATION)
    assert header.provenance()["simulation"] == SIMULATION
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(header_table(header))
    assert "simulated axes" in console.export_text()


def contains(header: dict[str, Any], *, format_version: int, simulation: object) -> None:
    """Format and simulation of a header as it is written; None stands for no such entry."""
    assert (header["format_version"], header.get("simulation")) == (format_version, simulation)
    assert ("simulation" in header) == (simulation is not None)


@pytest.mark.parametrize(
    "simulation",
    [None, [], "yes", {"a": {"b": {"c": {"d": {}}}}}, {"a": "\x1b[31m"}, {"a": [10**400]}, {"a": list(range(2000))}],
    ids=range(7),
)
def test_a_simulation_that_is_no_small_plain_object_is_refused(tmp_path: Path, simulation: object) -> None:
    path = write(tmp_path / "kkn.safetensors", simulation=SIMULATION)
    refused(rewrite_header(path, lambda header: header.update(simulation=simulation)), "simulation")


@pytest.mark.parametrize(("version", "named"), [(1, "unknown field 'simulation'"), (2, "lacks simulation")])
def test_simulation_and_format_must_agree(tmp_path: Path, version: int, named: str) -> None:
    path = write(tmp_path / "kkn.safetensors", simulation=SIMULATION if version == 1 else None)
    refused(rewrite_header(path, lambda header: header.update(format_version=version)), named)


@pytest.mark.parametrize("change", [lambda h: h.pop("route"), lambda h: h.update(extra=1)], ids=["missing", "unknown"])
def test_missing_and_unknown_header_fields_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = write(tmp_path / "kkn.safetensors")

    def apply(header: dict[str, Any]) -> None:
        change(header)

    refused(rewrite_header(path, apply), "its header")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("base_features", 10**9),
        ("base_features", 6),
        ("base_features", "4"),
        ("kernel_size", 101),
        ("kernel_size", 4),
        ("in_channels", 1000),
        ("strides", [[1, 1]] * 1000),
        ("strides", [[1, 1]] + [[1000, 1000]] * 4),
        ("strides", [[2, 2]] * 5),
        ("strides", [[1, 1, 1]] + [[2, 2, 2]] * 4),
        ("strides", None),
        ("dim", 3),
        ("position_branch", "yes"),
        ("device", "cuda"),
    ],
)
def test_architectures_out_of_bounds_are_refused_before_anything_is_built(
    tmp_path: Path, argument: str, value: object
) -> None:
    path = write(tmp_path / "kkn.safetensors")
    refused(rewrite_header(path, lambda header: header["architecture"].update({argument: value})), "architecture")


def test_inspect_shows_header_text_literally(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors", channel="[red]T1w[/red]", source_field_T=None)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(header_table(read_header(path)))
    shown = console.export_text()
    for part in (
        "[red]T1w[/red]",
        "unknown field -> 3 T (simulated)",
        "1 x 1 mm",
        "psnr 29.5",
        read_header(path).sha256,
    ):
        assert part in shown
