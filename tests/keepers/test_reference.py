"""Weights named as the paper's code names them become a keeper file that computes its formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.reference_weights import NF, made_weights
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.file import build_enhancer, build_keeper, read_keeper
from nnunet_uhf.keepers.reference import import_reference

FACTS: dict[str, Any] = {"channel": "T1w", "patch_size": 32, "source_field": 3.0, "target_field": 7.0}


class Formulas:
    """The forward pass of the paper from such state dicts, written down with concatenations as in its figures."""

    def __init__(self, state: dict[str, Tensor], dim: int) -> None:
        self.state = {name.removeprefix("module."): value.double() for name, value in state.items()}
        self.dim = dim
        self.conv = F.conv2d if dim == 2 else F.conv3d

    def cb(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        for index in (0, 3):
            weight = self.state.get(f"{name}.model.{index}.weight")
            if weight is not None:
                padding = 1 if stride == 2 else weight.shape[-1] // 2
                x = F.leaky_relu(F.instance_norm(self.conv(x, weight, stride=stride, padding=padding)), 0.01)
        return x

    def up(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[2:], mode="bilinear" if self.dim == 2 else "trilinear")

    def dense(self, x: Tensor, name: str) -> Tensor:
        for number in (1, 2, 3):
            x = torch.cat((x, self.cb(x, f"{name}.conv{number}")), 1)
        return x

    def gate(self, x: Tensor, name: str) -> Tensor:
        part = {key: self.state[f"{name}.{key}"] for key in ("weight", "bias", "one", "zero", "scale", "theta")}
        flat = x.flatten(2)
        where = x.sum(1).flatten(1).argmax(1)
        strongest = torch.stack([flat[b, :, i] for b, i in enumerate(where.tolist())])
        grid = torch.stack(torch.meshgrid(*[torch.arange(n) for n in x.shape[2:]], indexing="ij")).flatten(1)
        distance = (grid[None] - grid[:, where].T[:, :, None]).abs().double() * part["theta"].reshape(1, -1, 1)
        density = torch.distributions.Normal(0, part["scale"]).log_prob(distance).exp().mean(1)
        peak = torch.einsum("bc,bcn->bn", strongest, flat) * density
        mean = torch.einsum("bc,bcn->bn", flat.mean(2), flat)
        similarity = peak * part["zero"] + mean * part["one"]
        centred = similarity - similarity.mean(1, keepdim=True)
        scaled = centred / (centred.std(1, keepdim=True) + 1e-5)
        weights = torch.sigmoid(scaled * part["weight"].reshape(()) + part["bias"].reshape(()))
        return x * weights.reshape(-1, 1, *x.shape[2:])

    def keeper(self, x: Tensor) -> list[Tensor]:
        dense = []
        for level in range(5):
            dense.append(self.dense(x, f"conv{level + 1}"))
            if level < 4:
                x = self.cb(dense[-1], f"tran{level + 1}", stride=2)
        guides = [self.gate(self.cb(dense[4], "guide5_conv"), "guide5_PRM")]
        for level in (3, 2, 1, 0):
            name = f"guide{level + 1}"
            skip = self.cb(dense[level], f"{name}.conv_skip")
            below = self.conv(self.up(guides[-1], skip), self.state[f"{name}.conv1x1_x.0.weight"])
            attention = torch.sigmoid(self.conv(torch.cat((below, skip), 1), self.state[f"{name}.attention.0.weight"]))
            guides.append(self.gate(below * attention[:, :1] + skip * attention[:, 1:], f"{name}.prm"))
        return guides[::-1]

    def decode(self, maps: list[Tensor]) -> Tensor:
        x = self.cb(maps[4], "conv")
        for number in (1, 2, 3, 4):
            skip = maps[4 - number]
            below = self.conv(self.up(x, skip), self.state[f"up{number}.conv1x1.0.weight"])
            x = self.cb(torch.cat((below, skip), 1), f"up{number}.conv")
        return self.conv(x, self.state["out.0.weight"])


def saved(folder: Path, dim: int) -> tuple[Path, Path]:
    keeper, head = made_weights(dim)
    torch.save(keeper, folder / "knowledge_keeper.pth")
    torch.save(head, folder / "teacher_decoder.pth")
    return folder / "knowledge_keeper.pth", folder / "teacher_decoder.pth"


@pytest.mark.parametrize("dim", [2, 3])
def test_the_imported_keeper_computes_the_papers_formulas(tmp_path: Path, dim: int) -> None:
    weights, head = saved(tmp_path, dim)
    path = import_reference(weights, tmp_path / "keeper.safetensors", decoder=head, orientation="LAS", **FACTS)
    file = read_keeper(path)
    assert (file.header.dim, file.header.architecture["base_features"]) == (dim, NF)
    assert file.header.architecture["convolutions"] == (2 if dim == 2 else 1)
    assert (file.header.orientation, file.header.target_field_T) == ("LAS", 7.0)
    x = torch.randn(2, 1, *((32, 48) if dim == 2 else (32, 32, 48)), dtype=torch.float64)
    with torch.no_grad():
        guides = Formulas(torch.load(weights, weights_only=True), dim).keeper(x)
        image = Formulas(torch.load(head, weights_only=True), dim).decode(guides)
        for made, expected in zip(build_keeper(file).double()(x), guides, strict=True):
            torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(build_enhancer(file).double()(x), image, atol=1e-5, rtol=1e-5)


def test_names_and_shapes_are_those_of_the_paper_s_networks_by_their_parameters() -> None:
    keeper, head = made_weights(2, features=16, kernel=7)
    assert sum(value.numel() for value in keeper.values()) == 161_823
    assert sum(value.numel() for value in head.values()) == 33_296


def test_a_keeper_without_decoder_guides_and_does_not_enhance(tmp_path: Path) -> None:
    weights, _ = saved(tmp_path, 2)
    file = read_keeper(import_reference(weights, tmp_path / "keeper.safetensors", **FACTS))
    assert build_keeper(file).channels == (NF,) * 5
    assert file.decoder_state is None


def spoil_pickle(folder: Path) -> tuple[dict[str, Any], str]:
    torch.save({"model": torch.nn.Linear(2, 2)}, folder / "whole.pth")
    return {"weights": folder / "whole.pth"}, "holds more than weights, and was not opened"


def spoil_other(folder: Path) -> tuple[dict[str, Any], str]:
    torch.save({"layer.weight": torch.zeros(2)}, folder / "other.pth")
    return {"weights": folder / "other.pth"}, "is no keeper of the paper's code"


def spoil_lists(folder: Path) -> tuple[dict[str, Any], str]:
    torch.save([1, 2], folder / "list.pth")
    return {"weights": folder / "list.pth"}, "holds no weights by name"


def spoil_decoder(folder: Path) -> tuple[dict[str, Any], str]:
    return {"decoder": folder / "knowledge_keeper.pth"}, "is no teacher's decoder"


def spoil_dimension(folder: Path) -> tuple[dict[str, Any], str]:
    torch.save(made_weights(3)[1], folder / "decoder_3d.pth")
    return {"decoder": folder / "decoder_3d.pth"}, "is not the decoder of that keeper's teacher"


def spoil_scale(folder: Path) -> tuple[dict[str, Any], str]:
    keeper, _ = made_weights(2)
    keeper["module.guide2.prm.scale"] = torch.tensor([-1.0])
    torch.save(keeper, folder / "scale.pth")
    return {"weights": folder / "scale.pth"}, r"guide2\.prm\.scale -1 is missing or odd"


def spoil_orientation(folder: Path) -> tuple[dict[str, Any], str]:
    return {"orientation": "XYZ"}, "write three letters such as LAS"


def spoil_missing(folder: Path) -> tuple[dict[str, Any], str]:
    return {"weights": folder / "none.pth"}, "does not exist"


@pytest.mark.parametrize("spoil", [value for name, value in list(globals().items()) if name.startswith("spoil_")])
def test_what_is_no_such_weights_is_told_in_one_line_and_nothing_is_written(tmp_path: Path, spoil: Any) -> None:
    weights, head = saved(tmp_path, 2)
    changes, message = spoil(tmp_path)
    arguments = {"weights": weights, "decoder": head, **FACTS, **changes}
    with pytest.raises(UHFError, match=message) as caught:
        import_reference(arguments.pop("weights"), tmp_path / "keeper.safetensors", **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "keeper.safetensors").exists()


def test_the_command_writes_a_file_that_inspect_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, head = saved(tmp_path, 2)
    out = str(tmp_path / "keeper.safetensors")
    facts = ["--channel", "T1w", "--patch-size", "32", "--field-lf", "3", "--field-hf", "7", "--nonzero"]
    with pytest.raises(SystemExit) as left:
        main(["import-reference", "--weights", str(weights), "--decoder", str(head), *facts, "-o", out])
    assert left.value.code == 0
    with pytest.raises(SystemExit) as left:
        main(["inspect", out, "--json"])
    assert left.value.code == 0
    assert "neither training cases nor held-out quality are known" in capsys.readouterr().out
