from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer.main

import nnunet_uhf.trainers
from nnunet_uhf.cli.run import app
from nnunet_uhf.demo.chain import build_stages, environment
from nnunet_uhf.demo.settings import CONFIGURATIONS, DemoSettings, Folders
from nnunet_uhf.installation.trainer_path import OPT_OUT_VARIABLE, trainer_path
from nnunet_uhf.stages import Stage, find_command
from nnunet_uhf.trainers.demo import LENGTHS


@pytest.fixture(params=[("2d",), ("2d", "3d_fullres")], ids=" ".join)
def stages(tmp_path: Path, request: pytest.FixtureRequest) -> list[Stage]:
    return build_stages(
        DemoSettings(configurations=request.param),
        Folders(tmp_path),
        device="cpu",
        epochs_of=lambda name: LENGTHS[name].epochs,
    )


def test_every_command_of_the_chain_is_installed(stages: list[Stage]) -> None:
    for name in {stage.command[0] for stage in stages if stage.command}:
        assert Path(find_command(name)).is_file()


def test_every_stage_has_a_name_of_its_own(stages: list[Stage]) -> None:
    assert len({stage.key for stage in stages}) == len({stage.title for stage in stages}) == len(stages)


def test_every_trainer_of_the_chain_is_one_that_nnunet_finds(stages: list[Stage]) -> None:
    trained = {
        stage.command[stage.command.index("-tr") + 1] for stage in stages if stage.command[:1] == ("nnUNetv2_train",)
    }
    assert trained == set(LENGTHS)
    for name in trained:
        trainer = getattr(nnunet_uhf.trainers, name)
        assert trainer.__name__ == name
        assert name in nnunet_uhf.trainers.__all__


def test_plain_guided_and_random_start_alike_and_every_stage_waits_for_what_it_needs(stages: list[Stage]) -> None:
    seeds = {stage.environment.get("nnUNet_UHF_SEED") for stage in stages if stage.command[:1] == ("nnUNetv2_train",)}
    assert len(seeds) == 1
    assert None not in seeds
    keys = [stage.key for stage in stages]
    for number, stage in enumerate(stages):
        assert set(stage.after or ()) <= set(keys[:number])
    needed = {stage.key: stage.after for stage in stages}
    assert needed["guided_2d"] == needed["random_2d"] == ("export_2d",)
    assert needed["plain_2d"] == needed["teacher_2d"]


def test_each_command_is_about_the_configurations_asked_for(
    stages: list[Stage], request: pytest.FixtureRequest
) -> None:
    asked = set(request.node.callspec.params["stages"])
    named = {word for stage in stages for word in stage.command if word in CONFIGURATIONS}
    assert named == asked


def test_the_comparison_can_be_made_again(stages: list[Stage], tmp_path: Path) -> None:
    made = Folders(tmp_path).comparison("2d")
    made.mkdir(parents=True)
    compared = next(stage for stage in stages if stage.key == "compare_2d")
    assert compared.function is not None
    compared.function()
    assert not made.exists()


def test_segmentation_learns_as_nnunet_has_it() -> None:
    for name in ("nnUNetTrainer_demo", "UHFTrainer_demo", "UHFTrainerRandomKeeper_demo"):
        trainer = getattr(nnunet_uhf.trainers, name)
        changed = {"initial_lr", "configure_optimizers"} & set().union(*(vars(one) for one in demo_classes(trainer)))
        assert not changed


def demo_classes(trainer: type) -> list[type]:
    return [one for one in trainer.__mro__ if one.__module__ == "nnunet_uhf.trainers.demo"]


def test_the_verbs_of_the_chain_and_their_options_exist(stages: list[Stage]) -> None:
    verbs = typer.main.get_command(app).commands
    for stage in stages:
        if stage.command[:1] == ("nnunet-uhf",):
            known = {option for parameter in verbs[stage.command[1]].params for option in parameter.opts}
            assert {word for word in stage.command if word.startswith("-")} <= known


def test_children_work_inside_the_demo_folder_and_find_the_trainers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", "/somewhere/else")
    monkeypatch.setenv("nnUNet_UHF_GUIDE_CHANNEL", "FLAIR")
    monkeypatch.setenv("nnUNet_UHF_PRESET", "efficient")
    monkeypatch.setenv(OPT_OUT_VARIABLE, "0")
    monkeypatch.setenv("nnUNet_extTrainer", "")
    variables = environment(Folders(tmp_path))
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_UHF_KKN"):
        assert Path(variables[name]).parent == tmp_path
    assert variables.keys().isdisjoint({"nnUNet_UHF_GUIDE_CHANNEL", "nnUNet_UHF_PRESET"})
    assert trainer_path() in variables["nnUNet_extTrainer"].split(os.pathsep)
