"""Push and pull against a local server that stands in for the Hub: the calls of huggingface_hub, nothing more."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from helpers.hub import COMMIT, TOKEN, StandIn, serving
from helpers.support import only_line, tiny_keeper
from nnunet_uhf.cli import main
from nnunet_uhf.keepers.file import read_keeper
from nnunet_uhf.sharing.card import literal


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.chdir(tmp_path)
    with serving(StandIn(), cache=tmp_path / "cache") as hub:
        yield hub


def command(*words: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    line = only_line(capsys, lambda: main(words))
    assert TOKEN not in line
    return line


def offered(hub: StandIn, folder: Path) -> tuple[Path, str]:
    path = tiny_keeper(folder, 2, "T1w", name="kept.safetensors")
    hub.files["kept.safetensors"] = path.read_bytes()
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_pushed_is_pulled_by_the_command_that_push_prints(
    hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    keeper = tiny_keeper(tmp_path / "made", 2, "T1w")
    with caplog.at_level(logging.DEBUG):
        command("push", str(keeper), "--repo", "lab/keepers")
        told = capsys.readouterr()
        command(*told.out.splitlines()[1].split()[1:])
    assert Path("keeper_2d.safetensors").read_bytes() == keeper.read_bytes()
    assert f"--revision {COMMIT} --sha256" in told.out
    assert "the header names 5 cases (case_01" in told.err
    assert f"Bearer {TOKEN}" in hub.authorised  # it was used, and stands nowhere
    assert TOKEN not in caplog.text + told.out + told.err + capsys.readouterr().err


def test_the_model_card_is_made_from_the_header(hub: StandIn, tmp_path: Path) -> None:
    keeper = tiny_keeper(tmp_path / "made", 2, "T1w", licence="CC0 | <b>bold</b>")
    command("push", str(keeper), "--repo", "lab/keepers", "--name", "ours.safetensors")
    card = hub.files["README.md"].decode()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "nnunet-uhf"
    assert "paired" in front["tags"]
    assert r"CC0 \| \<b\>bold\</b\>" in card
    assert read_keeper(keeper).header.sha256 in card
    assert hashlib.sha256(keeper.read_bytes()).hexdigest() in card
    assert "paired scans" in card


def test_another_file_than_the_pinned_one_gets_no_name(
    hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offered(hub, tmp_path / "made")
    line = refused(capsys, "pull", "lab/keepers", "-o", "kept.safetensors", "--sha256", "0" * 64)
    assert "not 0000" in line
    assert list(tmp_path.glob("*.safetensors")) == []
    assert [path.name for path in tmp_path.iterdir() if "kept" in path.name] == []


def test_a_file_that_is_no_keeper_gets_no_name(
    hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = offered(hub, tmp_path / "made")
    hub.files["kept.safetensors"] = path.read_bytes()[:-4] + b"\0\0\1\1"
    line = refused(capsys, "pull", "lab/keepers", "-o", "kept.safetensors")
    assert "lab/keepers kept.safetensors at main" in line
    assert "SHA-256" in line
    assert not Path("kept.safetensors").exists()


def test_a_pull_that_pins_nothing_says_how_to(hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, sha256 = offered(hub, tmp_path / "made")
    command("pull", "lab/keepers", "-o", "kept.safetensors")
    assert f"--revision {COMMIT} --sha256 {sha256}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lab/keepers", "--revision", "v9"), "lab/keepers at v9: no such revision"),
        (("lab/keepers", "--name", "other.safetensors"), "holds no file other.safetensors"),
        (("lab/unknown",), "lab/unknown: no such repository"),
        (("not/a/repository",), "write OWNER/NAME"),
        (("lab/keepers", "--name", "../x.safetensors"), "--name '../x.safetensors'"),
        (("lab/keepers", "--sha256", "abc"), "64 hexadecimal digits"),
    ],
)
def test_what_is_not_there_is_one_line(
    hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    offered(hub, tmp_path / "made")
    assert said in refused(capsys, "pull", *words, "-o", "kept.safetensors")


def test_a_missing_network_is_one_line_and_the_cache_is_enough(
    hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, _ = offered(hub, tmp_path / "made")
    command("pull", "lab/keepers", "-o", "first.safetensors", "--name", "kept.safetensors")
    capsys.readouterr()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the attempts
    assert "not in the cache" in refused(capsys, "pull", "lab/others", "-o", "x.safetensors")
    assert "cannot be reached" in refused(capsys, "push", str(keeper), "--repo", "lab/keepers")
    command("pull", "lab/keepers", "-o", "second.safetensors", "--name", "kept.safetensors", "--revision", COMMIT)
    assert Path("second.safetensors").read_bytes() == keeper.read_bytes()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    command("pull", "lab/keepers", "-o", "third.safetensors", "--name", "kept.safetensors")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_what_the_hub_refuses_is_one_line_without_its_words(
    hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    keeper, _ = offered(hub, tmp_path / "made")
    hub.status = status
    line = refused(capsys, "push", str(keeper), "--repo", "lab/keepers")
    assert "logged in" in line or "try again" in line


def test_text_of_a_header_is_no_markup() -> None:
    assert literal("a | <i>\n# `b` [c](d)") == r"a \| \<i\> \# \`b\` \[c\](d)"
