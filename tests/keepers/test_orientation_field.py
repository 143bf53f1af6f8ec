"""The orientation in a keeper's header: written where it is known, checked, and missed by nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.keeper_samples import refused, rewrite_header, write
from nnunet_uhf.keepers.file import read_header
from nnunet_uhf.keepers.header import header_json


@pytest.mark.parametrize("orientation", ["LAS", "PIR", "mixed"])
def test_a_header_keeps_its_orientation_and_plans_get_it(tmp_path: Path, orientation: str) -> None:
    header = read_header(write(tmp_path / "kkn.safetensors", orientation=orientation))
    assert (header.format_version, header.orientation) == (4, orientation)
    assert header.provenance()["orientation"] == orientation


def test_without_one_a_file_is_what_it_was(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "kkn.safetensors"))
    assert (header.format_version, header.orientation) == (1, None)
    assert "orientation" not in json.loads(header_json(header))


def test_files_of_format_4_need_not_have_it(tmp_path: Path) -> None:
    further = ({"channel": "T2w", "normalisation": "ZScoreNormalization", "use_mask_for_norm": False},)
    path = write(tmp_path / "kkn.safetensors", orientation="LAS")
    rewrite_header(path, lambda content: content.update(further_channels=list(further)))
    refused(path, "names the channels", reader=read_header)  # it got as far as that
    rewrite = {"further_channels": [], "orientation": None}
    refused(_with(tmp_path / "b.safetensors", rewrite), "must not be empty in format 4", reader=read_header)


@pytest.mark.parametrize("orientation", ["LA", "LLS", "las", "", 3, ["L", "A", "S"], "\x1b[2J"])
def test_no_other_word_is_an_orientation(tmp_path: Path, orientation: object) -> None:
    refused(_with(tmp_path / "a.safetensors", {"orientation": orientation}), "'orientation'", reader=read_header)


def test_older_formats_do_not_have_the_field(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors")
    rewrite_header(path, lambda content: content.update(orientation="LAS"))
    refused(path, "unknown field 'orientation'", reader=read_header)


def _with(path: Path, changes: dict[str, object]) -> Path:
    write(path, orientation="LAS")
    return rewrite_header(path, lambda content: content.update(changes))
