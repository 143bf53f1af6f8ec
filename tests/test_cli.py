"""The command line: options as nnU-Net has them, one line for what the user can put right."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import torch
import typer

from helpers.support import run_command
from nnunet_uhf import __version__
from nnunet_uhf.cli import main
from nnunet_uhf.cli.run import app, repeat_list_options
from nnunet_uhf.errors import UHFError, UHFWarning

VERBS = (
    "aggregate-views",
    "bids",
    "check-input",
    "compare",
    "convert",
    "demo",
    "doctor",
    "enhance",
    "evaluate-images",
    "export-keeper",
    "features",
    "probe",
    "init",
    "inspect",
    "normalise",
    "plan",
    "pretrain",
    "prolong",
    "qc",
    "simulate",
    "synthesise",
    "trainer-path",
    "verify",
    "volumes",
)


def run(*arguments: str | Path) -> int:
    """Exit status of the command line."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help that is not wrapped."""
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's three variables, all set."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


class Recorder:
    """Stands in for a verb's function and keeps what it was called with."""

    def __init__(self, result: Any = None) -> None:
        self.result = result

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.arguments, self.options = arguments, options
        return self.result


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example_of_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, "--help") == 0
    text = capsys.readouterr().out
    assert "Example:" in text
    assert f"nnunet-uhf {verb}" in text.split("Example:")[1]


def test_every_verb_takes_the_short_letter_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, _ in [((), None), *verbs_of(typer.main.get_command(app))]:
        assert run(*words, "-h") == 0
        assert "nnunet-uhf" in capsys.readouterr().out


def test_a_shell_completes_the_verbs() -> None:
    words = {"_NNUNET_UHF_COMPLETE": "complete_bash", "COMP_WORDS": "nnunet-uhf exp", "COMP_CWORD": "1"}
    assert run_command(["nnunet-uhf"], env=words, check=False).stdout.split() == ["export-keeper"]


def test_no_arguments_show_all_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


def test_the_installed_command_knows_its_version() -> None:
    assert run_command(["nnunet-uhf", "--version"]).stdout == f"nnunet-uhf {__version__}\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
def test_a_console_that_is_not_utf_8_gets_what_it_can_show_and_the_status_is_that_of_the_work(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, _ in [((), None), *verbs_of(typer.main.get_command(app))]:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        assert run(*words, "--help") == 0
        out.flush()
        assert b"nnunet-uhf" in out.buffer.getvalue()


def test_letters_that_a_console_cannot_show_are_replaced() -> None:
    code = (
        "import sys, nnunet_uhf.cli.run as run\n"
        "@run.app.command('arrow')\ndef arrow() -> None:\n    sys.stdout.write('0.9 \\u2192 0.95\\n')\n"
        "run.main(['arrow'])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, b"0.9 ? 0.95")


def test_our_warnings_are_one_line_each_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    @app.command("warned", hidden=True)
    def warned() -> None:
        for _ in range(2):
            warnings.warn("a.nii.gz: two\nplaces", UHFWarning, stacklevel=1)

    try:
        assert run("warned") == 0
    finally:
        app.registered_commands.pop()
    assert capsys.readouterr().err == "warning: a.nii.gz: two places\n"


@pytest.mark.parametrize("words", [("--help",), ("inspect", "builtin"), ("doctor",)], ids=" ".join)
def test_nothing_stands_in_front_of_the_output(words: tuple[str, ...]) -> None:
    done = run_command(["nnunet-uhf", *words])
    assert done.stderr == ""
    assert "Warning" not in done.stdout
    assert done.stdout.split()[0] in {"Usage:", "Knowledge", "nnunet-uhf"}


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys\nfrom nnunet_uhf.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'nnunetv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_lists_may_be_written_as_in_nnunet() -> None:
    written = ["plan", "-d", "1", "-c", "2d", "3d_fullres", "--keeper", "a", "b", "-p", "P"]
    assert repeat_list_options(written) == (
        ["plan", "-d", "1", "-c", "2d", "-c", "3d_fullres", "--keeper", "a", "--keeper", "b", "-p", "P"]
    )


def verbs_of(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb that does something, with the words that call it."""
    for name, verb in getattr(command, "commands", {}).items():
        yield from verbs_of(verb, (*words, name))
    if words and not hasattr(command, "commands"):
        yield words, command


def test_every_option_declared_as_a_list_takes_several_values_as_in_nnunet() -> None:
    tried = []
    for words, verb in verbs_of(typer.main.get_command(app)):
        declared = get_type_hints(verb.callback)
        for option in verb.params:
            (name,) = option.opts[:1]
            is_list = any(
                get_origin(kind) is list for kind in (declared[option.name], *get_args(declared[option.name]))
            )
            expected = [name, "7", name, "8"] if is_list else [name, "7", "8"]
            assert repeat_list_options([*words, name, "7", "8"]) == [*words, *expected]
            if is_list:
                tried.append(name)
                assert option.metavar.endswith("...")
                kept, _, _ = verb.make_parser(verb.context_class(verb)).parse_args(expected)
                assert kept[option.name] == ["7", "8"]
    assert {"-c", "--keeper", "-f", "--field", "-i", "--weights", "-m", "-pred", "--test"} <= set(tried)


def test_options_of_four_verbs_and_more_stand_in_the_readme() -> None:
    taken = Counter(option.opts[0] for _, verb in verbs_of(typer.main.get_command(app)) for option in verb.params)
    shared = {name for name, verbs in taken.items() if name.startswith("-") and verbs >= 4}
    table = (
        (Path(__file__).parents[1] / "README.md").read_text().split("| Option | What it means |")[1].split("\n\n")[0]
    )
    explained = {name for line in table.splitlines()[2:] for name in re.findall(r"`(--?[a-z-]+)`", line.split("|")[1])}
    assert shared <= explained <= set(taken)


def test_a_second_value_of_a_single_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export-keeper", "-d", "1", "-c", "2d", "3d_fullres", "-f", "0", "-o", "k.safetensors") == 2
    assert capsys.readouterr().err.startswith("error: Got unexpected extra argument")


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "-d", "1"),
        ("nonsense",),
        ("plan", "--nonsense"),
        ("inspect", "no such file.safetensors"),
        ("pretrain", "-d", "1", "-c", "2d", "-f", "x"),
        ("demo", "-device", "abacus"),
        ("simulate", "-i", "none", "-o", "out", "--labels", "none", "--preset", "none"),
    ],
)
def test_what_the_user_can_put_right_is_one_line_and_status_2(
    arguments: tuple[str, ...], folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders)
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert list(folders.iterdir()) == []


@pytest.mark.parametrize("verb", ["plan", "pretrain", "export-keeper"])
def test_a_variable_of_nnunet_that_is_not_set_is_named(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    options = {"plan": ("--keeper", "k"), "pretrain": ("-f", "0"), "export-keeper": ("-f", "0", "-o", "k")}[verb]
    assert run(verb, "-d", "1", "-c", "2d", *options) == 2
    assert "nnUNet_preprocessed is not set" in capsys.readouterr().err


def test_a_message_of_many_lines_is_told_in_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise UHFError("wrong:\n  [bold]this[/bold]")

    monkeypatch.setattr("nnunet_uhf.doctor.run", fail)
    assert run("doctor") == 2
    assert capsys.readouterr().err == "error: wrong: [bold]this[/bold]\n"


def test_a_path_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nnunet_uhf.doctor.run", lambda _: Path("no/such/folder").iterdir().__next__())
    assert run("doctor") == 2
    assert capsys.readouterr().err == "error: no/such/folder: No such file or directory\n"


@pytest.mark.parametrize("place", [0, 1])
def test_debug_gives_the_traceback_wherever_it_stands(place: int) -> None:
    arguments = ["inspect", "none.safetensors"]
    arguments.insert(place, "--debug")
    with pytest.raises(UHFError):
        main(arguments)


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnunet_uhf.doctor.run", lambda _: {}["key"])
    with pytest.raises(KeyError):
        main(["doctor"])


def test_the_doctors_finding_is_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnunet_uhf.doctor.run", lambda _: 1)
    assert run("doctor") == 1


def test_plan_hands_over_its_options(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(folders / "New.json")
    monkeypatch.setattr("nnunet_uhf.guidance.plans.write_plans", recorder)
    monkeypatch.setattr("nnunet_uhf.guidance.plans.orientation_notes", lambda path: [f"of {path.name}"])
    command = ("plan", "-d", "7", "-c", "2d", "3d_fullres", "--keeper", "a", "b", "-p", "P", "-o", "New")
    assert run(*command, "--preset", "efficient", "--no-reserve") == 0
    assert recorder.arguments == ("7", ["2d", "3d_fullres"], [Path("a"), Path("b")])
    expected = {"source_plans": "P", "output_name": "New", "preset": "efficient", "fusion_rate": None, "reserve": False}
    assert recorder.options == expected


def test_enhance_hands_over_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder([])
    monkeypatch.setattr("nnunet_uhf.inference.enhance.enhance", recorder)
    assert run("enhance", "-i", "in", "-o", "out", "-m", "model", "-device", "cpu", "-f", "0", "1") == 0
    assert recorder.arguments == (Path("in"), Path("out"), Path("model"))
    assert (recorder.options["device"], recorder.options["folds"]) == (torch.device("cpu"), [0, 1])


def test_pretrain_hands_over_its_options(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(folders / "keeper.safetensors")
    monkeypatch.setattr("nnunet_uhf.trainers.distillation.pretrain.pretrain", recorder)
    assert run("pretrain", "-d", "7", "-c", "2d", "-f", "1", "-device", "cpu", "--epochs", "5", "-o", "k") == 0
    assert recorder.arguments == ("7", "2d", 1)
    expected = {"plans": "nnUNetPlans", "output": Path("k"), "device": torch.device("cpu"), "epochs": "5"}
    expected |= {"overwrite": False, "accept_worse": False}
    assert recorder.options == expected


def test_export_keeper_hands_over_its_options(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(folders / "keeper.safetensors")
    monkeypatch.setattr("nnunet_uhf.trainers.export.keeper.export_keeper", recorder)
    assert run("export-keeper", "-d", "7", "-c", "2d", "-f", "1", "-tr", "T", "-o", "k", "--no-decoder") == 0
    assert recorder.arguments == ("7", "2d", 1)
    expected = {
        "plans": "nnUNetPlans",
        "trainer": "T",
        "output": Path("k"),
        "with_decoder": False,
        "with_statistics": True,
        "accept_worse": False,
        "overwrite": False,
    }
    assert recorder.options.pop("console") is not None
    assert recorder.options == expected


def test_init_hands_over_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Path("init.pth"))
    monkeypatch.setattr("nnunet_uhf.trainers.guided.baseline.write_initial_checkpoint", recorder)
    assert run("init", "-m", "model", "-f", "all", "--keeper", "k", "-o", "init.pth", "--overwrite") == 0
    assert recorder.arguments == (Path("model"), "all", Path("k"), Path("init.pth"))
    assert recorder.options == {"overwrite": True}


def test_simulate_hands_over_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Path("simulation.json"))
    monkeypatch.setattr("nnunet_uhf.preprocessing.low_field.folder.simulate_folder", recorder)
    words = "--labels l --preset flair_0.36T --ratio 3 --axis coronal --mode native --noise rician --noise-scale 2"
    assert run("simulate", "-i", "in", "-o", "out", *words.split(), "--tissues", "csf=4,gm=3,wm=2", "--seed", "5") == 0
    images, output, simulator, tissues = recorder.arguments
    assert (images, output) == (Path("in"), Path("out"))
    assert (simulator.grid, simulator.noise, simulator.noise_scale) == ("native", "rician", (2, 2))
    assert [profile.ratio for profile in simulator.profiles] == [3]
    assert (tissues.folder, tissues.numbers) == (Path("l"), {"csf": (4,), "gm": (3,), "wm": (2,)})
    assert tissues.grey == "mixed"
    assert recorder.options["preset"].name == "flair_0.36T"
    assert recorder.options.items() >= {"axis": "coronal", "targets": None, "seed": 5}.items()


def test_demo_hands_over_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Path("index.html"))
    monkeypatch.setattr("nnunet_uhf.demo.pipeline.run_demo", recorder)
    assert run("demo", "--out", "place", "-device", "cpu", "-c", "3d_fullres", "2d", "--only", "plan") == 0
    assert (recorder.options["out"], recorder.options["device"]) == (Path("place"), "cpu")
    assert recorder.options["only"] == "plan"
    assert recorder.options["settings"].configurations == ("2d", "3d_fullres")
