from __future__ import annotations

from typing import Any

import pytest

from helpers.keeper_samples import make_header
from nnunet_uhf.errors import MatchError
from nnunet_uhf.guidance.attach import match_notes
from nnunet_uhf.guidance.block import GuidedBlock, KeeperEntry
from nnunet_uhf.guidance.matching import guide_channel, match, overlapping_cases, spacing_ratio
from nnunet_uhf.guidance.provenance import Provenance
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.nnunet.dataset_json import channel_names

VARIABLE = "nnUNet_UHF_GUIDE_CHANNEL"


def fit(header: KeeperHeader | None = None, **changes: Any) -> tuple[int, list[float]]:
    """Match against a one-channel 3D configuration that fits the keeper, unless changed."""
    settings = {
        "patch_size": [64, 64, 64],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
    }
    channels = changes.pop("channels", {"0": "T1w"})
    plans = {
        "transpose_forward": changes.pop("transpose", [0, 1, 2]),
        "image_reader_writer": changes.pop("reader", "SimpleITKIO"),
    }
    (guide,), ratio = match(
        header=header or make_header(3),
        configuration="3d_fullres",
        settings=settings | changes,
        plans=plans,
        dataset_json={"channel_names": channels},
    )
    return guide, ratio


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def refusal(header: KeeperHeader | None = None, **changes: Any) -> str:
    with pytest.raises(MatchError) as caught:
        fit(header, **changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_keeper_of_the_same_plans_fits_as_it_is() -> None:
    assert fit() == (0, [1.0, 1.0, 1.0])


def test_spacings_within_ten_percent_are_used_as_they_are() -> None:
    for spacing in ([1.05, 0.95, 1.0], [1.1, 1.0, 1 / 1.1], [1.0000001, 1.0, 1.0]):
        assert fit(spacing=spacing)[1] == [1.0, 1.0, 1.0]


def test_spacings_beyond_ten_percent_give_the_ratio_of_configuration_to_keeper() -> None:
    assert fit(spacing=[1.3, 1.0, 0.7])[1] == pytest.approx([1.3, 1.0, 0.7])
    assert fit(make_header(3, spacing_mm=(2.0, 1.0, 1.0)), spacing=[1.0, 1.0, 2.0])[1] == [0.5, 1.0, 2.0]


def test_a_2d_keeper_is_held_against_the_in_plane_spacing() -> None:
    header = make_header(2, spacing_mm=(1.0, 0.5))
    assert fit(header, patch_size=[128, 128], spacing=[1.0, 0.65])[1] == pytest.approx([1.0, 1.3])


@pytest.mark.parametrize("spacing", [[9.0, 1.0, 1.0], [1.0, 0.1, 1.0], [5.0, 5.0, 5.0]])
def test_spacings_that_no_resizing_bridges_are_refused(spacing: list[float]) -> None:
    message = refusal(spacing=spacing)
    assert "too far apart" in message
    assert "nnUNetv2_move_plans_between_datasets" in message


def test_the_ratio_is_taken_per_axis() -> None:
    assert spacing_ratio([2.0, 1.0], [1.0, 2.0], configuration="2d") == [2.0, 0.5]


def test_another_dimension_is_refused() -> None:
    message = refusal(make_header(2))
    assert "3D" in message
    assert "2D" in message


def test_another_axis_order_is_refused_since_the_anatomy_would_be_rotated() -> None:
    message = refusal(transpose=[1, 0, 2])
    assert "[1, 0, 2]" in message
    assert "[0, 1, 2]" in message


@pytest.mark.parametrize("reader", ["NibabelIOWithReorient", "Tiff3DIO"])
def test_images_read_with_other_axes_are_refused(reader: str) -> None:
    message = refusal(reader=reader)
    assert reader in message
    assert "overwrite_image_reader_writer" in message
    assert fit(reader="NibabelIO") == fit()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"normalization_schemes": ["RescaleTo01Normalization"]}, "RescaleTo01Normalization"),
        ({"use_mask_for_norm": [True]}, "non-zero mask"),
    ],
)
def test_another_normalisation_is_refused(change: dict[str, Any], said: str) -> None:
    message = refusal(**change)
    assert said in message
    assert "ZScoreNormalization (over the whole image)" in message


def test_only_the_guide_channel_has_to_be_normalised_like_the_keeper() -> None:
    guide, _ = fit(
        channels={"0": "CT", "1": "T1w"},
        normalization_schemes=["CTNormalization", "ZScoreNormalization"],
        use_mask_for_norm=[True, False],
    )
    assert guide == 1


def two(**channels: str) -> dict[str, Any]:
    """A configuration of two channels alike, named by `c<index>`."""
    return {
        "channels": {key[1:]: name for key, name in channels.items()},
        "normalization_schemes": ["ZScoreNormalization"] * 2,
        "use_mask_for_norm": [False] * 2,
    }


def test_the_guide_channel_is_found_by_name_in_any_case() -> None:
    assert fit(**two(c0="FLAIR", c1="t1W"))[0] == 1


def test_channels_are_counted_by_their_index_and_not_by_their_order_in_the_file() -> None:
    assert channel_names({"channel_names": {"1": "B", "0": "A", "2": "C"}}) == ["A", "B", "C"]
    assert fit(**two(c1="FLAIR", c0="T1w"))[0] == 0


def test_an_unknown_channel_is_never_taken_for_channel_0() -> None:
    for channels in (two(c0="FLAIR", c1="T2w"), {"channels": {"0": "MRI"}}):
        message = refusal(**channels)
        assert "'T1w'" in message
        assert f"export {VARIABLE}" in message
        for index, name in channels["channels"].items():
            assert f"{index} = {name}" in message


def test_two_channels_of_the_keepers_name_are_undecided() -> None:
    assert "several" in refusal(**two(c0="T1w", c1="t1w"))


@pytest.mark.parametrize(("asked", "expected"), [("T2w", 1), ("t2W", 1), ("1", 1), ("0", 0), (" FLAIR ", 0)])
def test_the_user_may_name_or_count_the_guide_channel(
    monkeypatch: pytest.MonkeyPatch, asked: str, expected: int
) -> None:
    monkeypatch.setenv(VARIABLE, asked)
    assert fit(**two(c0="FLAIR", c1="T2w"))[0] == expected


def test_the_users_choice_wins_over_the_name() -> None:
    assert guide_channel(["T1w", "T1w_2"], "T1w", override="T1w_2") == 1


def test_a_channel_whose_name_is_a_number_is_found_by_name_first() -> None:
    assert guide_channel(["1", "0"], "T1w", override="0") == 1


@pytest.mark.parametrize("asked", ["2", "-1", "PD"])
def test_a_choice_that_names_no_channel_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv(VARIABLE, asked)
    message = refusal(**two(c0="T1w", c1="T2w"))
    assert VARIABLE in message
    assert "0 = T1w, 1 = T2w" in message


def test_one_hot_channels_of_a_cascade_are_no_guides(monkeypatch: pytest.MonkeyPatch) -> None:
    # nnU-Net appends them to the image channels: an index there counts no image
    monkeypatch.setenv(VARIABLE, "1")
    assert "none" in refusal(previous_stage="3d_lowres")


@pytest.mark.parametrize("content", [{}, {"channel_names": ["T1w"]}, {"channel_names": {"1": "T1w"}}])
def test_a_dataset_json_without_usable_channels_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(MatchError, match=r"dataset\.json"):
        channel_names(content)


def test_plans_and_dataset_json_of_different_channels_are_refused() -> None:
    assert "nnUNetv2_plan_experiment" in refusal(channels={"0": "T1w", "1": "T2w"})


def notes(header: KeeperHeader, ratio: list[float], **settings: Any) -> list[str]:
    keeper = KeeperEntry(architecture={}, sha256="", provenance=Provenance(header.provenance()))
    block = GuidedBlock(preset="reference", keeper=keeper, guide_channels=(0,), spacing_ratio=ratio, fusion={})
    return match_notes(block, **{"spacing": [1.0, 1.0, 1.0], "patch_size": [64, 64, 64]} | settings)


def test_the_log_says_when_the_keeper_runs_at_its_own_spacing() -> None:
    assert notes(make_header(3), [1.0, 1.0, 1.0]) == []
    (note,) = notes(make_header(3), [1.3, 1.0, 1.0], spacing=[1.3, 1.0, 1.0])
    assert "1 x 1 x 1 mm" in note
    assert "1.3 x 1 x 1 mm" in note


def test_the_log_says_when_the_patch_shows_another_part_of_the_head() -> None:
    (note,) = notes(make_header(3), [1.0, 1.0, 1.0], patch_size=[160, 64, 64])
    assert "160 x 64 x 64 mm" in note


def test_cases_the_keeper_was_trained_on_are_named() -> None:
    training = make_header().training_cases
    cases = ["sub_03", "sub_01", "SUB_02", "sub_04"]
    assert overlapping_cases(training, cases) == ["SUB_02", "sub_01"]
    assert overlapping_cases(Provenance(make_header().provenance()).training_cases, cases) == ["SUB_02", "sub_01"]
    assert overlapping_cases(training, []) == []
