"""The table of routes: what dataset.json asks for, and what an enhanced image says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.keeper_samples import make_header, refused, rewrite_header, write
from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.notes import describe_image
from nnunet_uhf.keepers.file import read_header
from nnunet_uhf.keepers.trained import SAME_FIELD
from nnunet_uhf.routes.entries import channel_index, check_entries, read_tesla
from nnunet_uhf.routes.table import ROUTES, is_of_pairs, read_task, stored_routes
from nnunet_uhf.routes.task import EnhancementTask, Route

PAIRED = {"source": "LF", "target": "HF", "source_field_T": 0.36, "target_field_T": 3.0}
SIMULATED = {
    "target": "HF",
    "target_field_T": 3.0,
    "simulate": {"preset": "t1w_0.36T_probable", "source": "T1w", "ratios": [3, 4]},
}


def described(uhf: Any, *channels: str) -> dict[str, Any]:
    return {"channel_names": {str(index): name for index, name in enumerate(channels or ("LF", "HF"))}, "uhf": uhf}


def test_pairs_are_read_by_the_names_of_their_channels() -> None:
    task = read_task(described(PAIRED, "HF", "lf"), dataset="D")
    assert (task.route, task.source_channel, task.target_channel) == ("paired", 1, 0)
    assert (task.source_field_T, task.target_field_T, task.simulation) == (0.36, 3.0, None)
    before = read_task(described({**PAIRED, "route": "simulated", "simulation": {"seed": 3}}), dataset="D")
    assert (before.route, before.simulation, before.simulated_by) == ("simulated", None, {"seed": 3})


def test_high_field_images_alone_ask_for_the_simulation() -> None:
    task = read_task(described(SIMULATED, "HF"), dataset="D")
    assert (task.route, task.source, task.source_field_T) == ("simulated", "T1w", None)
    assert task.simulation is not None
    assert task.simulation.ratios == (3, 4)


@pytest.mark.parametrize(
    ("uhf", "told"),
    [
        (None, 'no "uhf" object'),
        ({**PAIRED, "route": "other"}, "uhf.route is 'other'; choose one of paired, simulated"),
        ({**PAIRED, "mode": "native"}, "uhf.mode is not for pairs"),
        ({**PAIRED, "simulation": "SIQT"}, "uhf.simulation has to be the record of a simulation"),
        ({**PAIRED, "sauce": 1}, "unknown entries sauce"),
        ({**PAIRED, "target": "LF"}, "both channel 'LF'"),
        ({**PAIRED, "target": "7T"}, "uhf.target = '7T' names no channel"),
        ({**PAIRED, "source_field_T": True}, "uhf.source_field_T is True"),
        ({**PAIRED, "architecture": {"strides": []}}, "may set base_features, "),
        (SIMULATED, "this one has 2"),
    ],
)
def test_what_does_not_fit_is_named_with_its_file(uhf: Any, told: str) -> None:
    with pytest.raises(UHFError) as caught:
        read_task(described(uhf), dataset="Dataset007_X")
    assert told in str(caught.value)
    assert str(caught.value).startswith("dataset.json of Dataset007_X")


def test_channels_without_names_are_told_with_the_file() -> None:
    with pytest.raises(UHFError, match=r"dataset.json of D .*channel_names"):
        read_task({"uhf": PAIRED}, dataset="D")


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("paired", "trained on paired scans at 0.36 T and 3 T."),
        ("simulated", "trained on SIMULATED low-field images (0.36 T) of scans at 3 T, not on real low-field scans."),
        ("unpaired", "trained on unpaired scans at 0.36 T and 3 T, of different subjects:"),
        ("unicoal", "trained on scans of several modalities of the same subjects at 0.36 T and 3 T, or on images that"),
    ],
)
def test_an_enhanced_image_says_what_its_network_was_taught_by(tmp_path: Path, route: str, told: str) -> None:
    header = read_header(write(tmp_path / "kkn.safetensors", route=route))
    assert told in describe_image(header)
    assert "not for diagnosis" in describe_image(header)
    assert route in ROUTES


def test_headers_of_other_routes_are_refused(tmp_path: Path) -> None:
    for wrong in ("by magic", [], None):
        path = write(tmp_path / "kkn.safetensors")
        rewrite_header(path, lambda header, wrong=wrong: header.update(route=wrong))
        refused(path, "route", "paired, simulated")


def read_toy(declared: Mapping[str, Any], dataset_json: Mapping[str, Any], where: str) -> EnhancementTask:
    check_entries(declared, ("toy", "target", "target_field_T"), (), where)
    channel = channel_index(dataset_json, declared, "target", where)
    return EnhancementTask(
        source="toy",
        target=str(declared["target"]),
        source_channel=channel,
        target_channel=channel,
        source_field_T=0.1,
        target_field_T=read_tesla(declared, "target_field_T", where),
        route="toy",
        architecture={},
    )


TOY = Route(name="toy", taught=lambda low, high: f"toys at {low} and {high}", entry="toy", read=read_toy)


def test_a_new_route_needs_its_file_and_a_line_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = {"toy": {}, "target": "HF", "target_field_T": 3}
    assert is_of_pairs(toy)
    monkeypatch.setitem(ROUTES, TOY.name, TOY)
    assert not is_of_pairs(toy)
    task = read_task(described(toy), dataset="D")
    assert (task.route, task.source, task.target_channel, task.target_field_T) == ("toy", "toy", 1, 3.0)
    with pytest.raises(UHFError, match=r"dataset.json of D .* unknown entries more"):
        read_task(described({**toy, "more": 1}), dataset="D")
    header = read_header(write(tmp_path / "kkn.safetensors", route="toy", source_field_T=0.1))
    assert "trained on toys at 0.1 T and 3 T." in describe_image(header)
    # pairs on the disk did not come about so
    assert stored_routes() == ["paired", "simulated", "unicoal", "unpaired"]
    with pytest.raises(UHFError, match=r"uhf\.route is 'toy'"):
        read_task(described({**PAIRED, "route": "toy"}), dataset="D")


def test_a_control_says_that_it_has_seen_no_higher_field() -> None:
    for route, images in (("simulated", "SIMULATED low-field images"), ("paired", "low-field images")):
        told = describe_image(make_header(route=route, metrics={"note": f"{SAME_FIELD}; and more"}))
        assert f"trained on {images} (0.36 T) alone, as a control" in told
