"""A new method needs its folder in networks/ and a line in kinds.py: a kind made here is kept, guides and enhances."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from helpers.keeper_samples import make_header, refused, rewrite_header
from helpers.network_contract import NetworkContract, wake
from helpers.toy_kind import KIND, ToyDecoder, ToyKeeper
from nnunet_uhf.errors import KeeperFileError, MatchError, UHFError
from nnunet_uhf.guidance.attach import attach
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.matching import GUIDE_CHANNEL_VARIABLE
from nnunet_uhf.inference.arrays import feature_maps
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.inference.input_check import check_inputs
from nnunet_uhf.inference.inputs import scans_of
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.keepers.file import build_enhancer, build_keeper, read_header, read_keeper, weights_sha256, write_keeper
from nnunet_uhf.keepers.header import InputChannel, KeeperHeader, header_json
from nnunet_uhf.keepers.statistics import channel_means, summarise_features
from nnunet_uhf.networks.guided.controls import build_network
from nnunet_uhf.networks.guided.guide import guide
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.networks.presets import PRESETS

SECOND = InputChannel(channel="T2w", normalisation="ZScoreNormalization", use_mask_for_norm=True)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line in kinds.py."""
    monkeypatch.setitem(KINDS, KIND.name, KIND)


class TestToyKeeper(NetworkContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        return ToyKeeper(dim=dim, **options)

    def inputs(self, dim: int, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
        return (torch.randn(batch, 2, *size),)

    def check_shapes(self, network: nn.Module, output: list[Tensor], *, batch: int, size: tuple[int, ...]) -> None:
        for level_map, channels, stride in zip(output, network.channels, network.strides, strict=True):
            expected = [max(1, n // s) for n, s in zip(size, stride, strict=True)]
            assert tuple(level_map.shape) == (batch, channels, *expected)


def header_of(keeper: ToyKeeper, decoder: ToyDecoder | None, **changes: Any) -> KeeperHeader:
    further = (SECOND,) * (keeper.in_channels - 1)
    values: dict[str, Any] = {
        "network": KIND.name,
        "architecture": keeper.config(),
        "decoder_architecture": None if decoder is None else decoder.config(),
        "further_channels": further,
        "patch_size": (16,) * keeper.dim,
    }
    return make_header(keeper.dim, **(values | changes))


def written(path: Path, *, dim: int = 2, in_channels: int = 2, **changes: Any) -> Path:
    torch.manual_seed(2)
    keeper, decoder = ToyKeeper(dim=dim, in_channels=in_channels), ToyDecoder(dim=dim)
    header = header_of(keeper, decoder, **changes)
    write_keeper(path, header=header, keeper_state=keeper.state_dict(), decoder_state=decoder.state_dict())
    return path


def scan(seed: int, shape: tuple[int, ...] = (20, 24, 18)) -> np.ndarray:
    image = 80 + 200 * gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    image[:3] = image[-2:] = 0
    return image.astype(np.float32)


def save_scans(folder: Path, *, cases: int = 1, channels: int = 2) -> Path:
    folder.mkdir()
    for case in range(cases):
        for channel in range(channels):
            image = nibabel.Nifti1Image(scan(10 * case + channel), np.eye(4))
            nibabel.save(image, folder / f"sub{case}_{channel:04d}.nii.gz")
    return folder


def test_its_file_is_of_format_4_where_it_reads_several_images(tmp_path: Path) -> None:
    file = read_keeper(written(tmp_path / "kkn.safetensors"))
    assert (file.header.format_version, file.header.network) == (4, "toy_net")
    assert [one.channel for one in file.header.inputs] == ["T1w", "T2w"]
    assert file.header.further_channels == (SECOND,)
    x = torch.randn(1, 2, 21, 30)
    keeper, enhancer = build_keeper(file), build_enhancer(file)
    assert isinstance(keeper, ToyKeeper)
    for one, other in zip(keeper(x), enhancer.keeper(x), strict=True):
        assert torch.equal(one, other)
    assert enhancer(x).shape == (1, 1, 21, 30)


def test_its_file_of_one_image_is_written_in_the_format_that_older_versions_read(tmp_path: Path) -> None:
    header = read_header(written(tmp_path / "kkn.safetensors", in_channels=1))
    assert header.format_version == 3
    assert "further_channels" not in json.loads(header_json(header))
    assert [one.channel for one in header.inputs] == ["T1w"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda h: h.update(further_channels=[]), "must not be empty in format 4"),
        (lambda h: h.update(further_channels=h["further_channels"] * 2), "reads 2"),
        (lambda h: h["further_channels"][0].update(channel="t1W"), "reads 2"),
        (lambda h: h["further_channels"][0].update(more=1), "further_channels"),
        (lambda h: h["further_channels"][0].update(channel="\x1b[2J"), "further_channels"),
        (lambda h: h["further_channels"][0].update(normalisation="rm -rf"), "further_channels"),
        (lambda h: h.update(further_channels="T2w"), "further_channels"),
        (lambda h: h.pop("further_channels"), "lacks further_channels"),
        (lambda h: h.update(format_version=3), "unknown field"),
        (lambda h: h["architecture"].update(in_channels=1), "reads 1"),
        (lambda h: h["architecture"].update(in_channels=3), "in_channels"),
        (lambda h: h["architecture"].update(width=10**6), "width"),
    ],
)
def test_a_header_that_disagrees_with_its_network_is_refused(tmp_path: Path, change: Any, told: str) -> None:
    refused(rewrite_header(written(tmp_path / "kkn.safetensors"), change), told)


def test_nothing_of_it_is_called_before_its_header_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rewrite_header(written(tmp_path / "kkn.safetensors"), lambda h: h["architecture"].update(width=65))

    def built(*_: Any, **__: Any) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(ToyKeeper, "__init__", built)
    refused(path, "width")


def test_its_own_reason_not_to_guide_is_told(tmp_path: Path) -> None:
    keeper = ToyKeeper(dim=2, width=1)
    write_keeper(tmp_path / "kkn.safetensors", header=header_of(keeper, None), keeper_state=keeper.state_dict())
    with pytest.raises(
        KeeperFileError, match=r"not guide: it is too narrow\. Take a keeper of UHFKeeperTrainer, .*, or of ToyTrainer"
    ):
        build_keeper(read_keeper(tmp_path / "kkn.safetensors"))


@pytest.mark.parametrize("dim", [2, 3])
def test_it_enhances_scans_of_several_images(tmp_path: Path, dim: int) -> None:
    model = written(tmp_path / "kkn.safetensors", dim=dim)
    inputs = save_scans(tmp_path / "in", cases=2)
    made = enhance(inputs, tmp_path / "out", model, device="cpu", progress=False)
    assert [path.name for path in made] == ["sub0.nii.gz", "sub1.nii.gz"]
    assert nibabel.load(made[0]).shape == (20, 24, 18)
    note = json.loads((tmp_path / "out" / "sub0.json").read_text())
    assert note["input"] == ["sub0_0000.nii.gz", "sub0_0001.nii.gz"]
    assert note["channel"] == ["T1w", "T2w"]
    # the second image counts
    nibabel.save(nibabel.Nifti1Image(scan(99), np.eye(4)), inputs / "sub0_0001.nii.gz")
    (other, _) = enhance(inputs, tmp_path / "other", model, device="cpu", progress=False)
    assert not np.array_equal(nibabel.load(other).get_fdata(), nibabel.load(made[0]).get_fdata())


def test_scans_whose_images_are_incomplete_or_on_two_grids_are_refused(tmp_path: Path) -> None:
    model = written(tmp_path / "kkn.safetensors")
    inputs = save_scans(tmp_path / "in")
    image = inputs / "sub0_0001.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scan(1), np.diag([1, 1, 2, 1])), image)
    with pytest.raises(UHFError, match=r"sub0_0001.nii.gz (lies .* off|has shape|and .* differ)"):
        enhance(inputs, tmp_path / "out", model, device="cpu", progress=False)
    image.unlink()
    for wrong in (inputs, inputs / "sub0_0000.nii.gz"):
        with pytest.raises(UHFError, match=r"reads 2 images together \(T1w, T2w\)"):
            enhance(wrong, tmp_path / "out", model, device="cpu", progress=False)
    with pytest.raises(UHFError, match="reads 2 images together"):
        feature_maps(scan(0), model)


def test_scans_are_held_against_the_statistics_of_its_three_levels(tmp_path: Path) -> None:
    model = tmp_path / "kkn.safetensors"
    file = read_keeper(written(model, dim=3))
    inputs = save_scans(tmp_path / "in", cases=4)
    keeper, settings = build_keeper(file), managers(file.header)
    means = []
    for _, files in scans_of(inputs, file.header):
        data, *_ = preprocess_image(files, *settings)
        assert data.shape[0] == 2
        means.append(channel_means(keeper.features, data, file.header.patch_size))
    written(model, dim=3, feature_statistics=summarise_features(means))
    checks = check_inputs(inputs, model)
    assert list(checks) == [f"sub{case}_0000.nii.gz" for case in range(4)]
    assert all(check.verdict == "within" and len(check.levels) == 3 for check in checks.values())


def make_backbone(dim: int) -> nn.Module:
    conv, norm = ((nn.Conv2d, nn.InstanceNorm2d), (nn.Conv3d, nn.InstanceNorm3d))[dim - 2]
    return PlainConvUNet(3, 3, [8, 16, 16], conv, 3, [1, 2, 2], 1, 4, 1, norm_op=norm, nonlin=nn.LeakyReLU)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("dim", [2, 3])
def test_it_guides_and_only_the_rest_is_trained(dim: int, preset: str) -> None:
    plain, x = make_backbone(dim), torch.randn(2, 3, *[16] * dim)
    expected = plain(x)
    guided = guide(plain, ToyKeeper(dim=dim), preset=preset, guide_channel=[2, 0]).train()
    starts_as_plain = torch.allclose(guided(x), expected, atol=1e-6, rtol=0)
    assert starts_as_plain is (preset != "paper")  # whose fusions add from the first step
    assert torch.equal(guided.source(x), x[:, [2, 0]])
    wake(guided)
    before = weights_sha256(guided.keeper.state_dict())
    optimiser = torch.optim.SGD([p for p in guided.parameters() if p.requires_grad], lr=0.1)
    guided(x).square().mean().backward()
    assert all(p.grad is not None for p in guided.fusions.parameters())
    if preset != "paper":  # whose ReLU gates may be shut
        assert all(p.grad.any() for p in guided.fusions.parameters())
    assert all(p.grad is None for p in guided.keeper.parameters())
    optimiser.step()
    assert weights_sha256(guided.keeper.state_dict()) == before


def test_as_many_channels_must_be_named_as_it_reads() -> None:
    for channels in (0, [0], [0, 1, 2]):
        with pytest.raises(ValueError, match=r"the keeper reads 2 channels, guide_channel names"):
            guide(make_backbone(2), ToyKeeper(dim=2), guide_channel=channels)


CHANNELS = ("PD", "T2w", "T1w")


def attached(header: KeeperHeader, channels: tuple[str, ...] = CHANNELS) -> GuidedBlock:
    settings = {
        "architecture": {},
        "patch_size": [64, 64],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * len(channels),
        "use_mask_for_norm": [name == "T2w" for name in channels],
    }
    plans = {"transpose_forward": [0, 1, 2], "image_reader_writer": "SimpleITKIO", "configurations": {"2d": settings}}
    return attach(plans, "2d", {"channel_names": {str(i): name for i, name in enumerate(channels)}}, header)


@pytest.fixture
def header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeeperHeader:
    monkeypatch.delenv(GUIDE_CHANNEL_VARIABLE, raising=False)
    return read_header(written(tmp_path / "kkn.safetensors"))


def test_plans_name_the_channels_it_reads_in_its_order(header: KeeperHeader) -> None:
    block = attached(header)
    assert block.guide_channels == (2, 1)
    content = json.loads(json.dumps(block.as_json()))
    assert content["guide_channel"] == [2, 1]
    assert content["keeper"]["provenance"]["further_channels"] == [vars(SECOND)]
    parsed = GuidedBlock.parse(content, where="plans.json")
    assert parsed == block
    guided = build_network(make_backbone(2), parsed.spec)
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(guided.source(x), x[:, [2, 1]])
    assert guided(x).shape == (1, 4, 16, 16)
    # the header that check-input puts together again
    assert parsed.keeper.header(where="plans.json").inputs == header.inputs


@pytest.mark.parametrize("wrong", [2, [2], [2, 2], [2, 1, 0], [2, -1], [2, True], [2, "1"], None, "21"])
def test_a_block_that_names_other_channels_than_it_reads_is_refused(header: KeeperHeader, wrong: object) -> None:
    content = {**attached(header).as_json(), "guide_channel": wrong}
    with pytest.raises(UHFError, match="no valid guide_channel"):
        GuidedBlock.parse(content, where="plans.json")


def test_a_channel_that_is_missing_or_normalised_otherwise_is_told(header: KeeperHeader) -> None:
    with pytest.raises(MatchError, match=r"reads the channel 'T2w', which none"):
        attached(header, ("T1w", "PD"))
    other = replace(header, further_channels=(replace(SECOND, use_mask_for_norm=False),))
    with pytest.raises(MatchError, match=r"Channel 'T2w' of configuration 2d is normalised"):
        attached(other)


@pytest.mark.parametrize(
    ("value", "told"), [("T1w", "names 1 channels, the keeper reads 2"), ("PD, 0", "twice"), ("PD,T3w", "names none")]
)
def test_the_user_names_all_of_its_channels_or_none(
    header: KeeperHeader, monkeypatch: pytest.MonkeyPatch, value: str, told: str
) -> None:
    monkeypatch.setenv(GUIDE_CHANNEL_VARIABLE, "PD, 1")
    assert attached(header).guide_channels == (0, 1)
    monkeypatch.setenv(GUIDE_CHANNEL_VARIABLE, value)
    with pytest.raises(MatchError, match=told):
        attached(header)


def test_the_scans_of_a_guided_model_are_read_by_its_own_channel_numbers(tmp_path: Path, header: KeeperHeader) -> None:
    inputs = save_scans(tmp_path / "in", channels=3)
    ((case, files),) = scans_of(inputs, header, (2, 1))
    assert (case, [path.name for path in files]) == ("sub0", ["sub0_0002.nii.gz", "sub0_0001.nii.gz"])
    with pytest.raises(UHFError, match=r"give a folder of CASE_0003.nii.gz, CASE_0001.nii.gz"):
        scans_of(inputs, header, (3, 1))
