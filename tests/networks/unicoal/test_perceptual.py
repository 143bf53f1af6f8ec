from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from helpers.unicoal_samples import small_encoder
from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.unicoal.perceptual import read_sam


def as_published(encoder: nn.Module) -> dict[str, torch.Tensor]:
    """Names as in Segment Anything's own file."""
    state = {f"image_encoder.{k.replace('mlp.fc', 'mlp.lin')}": v for k, v in encoder.state_dict().items()}
    return {**state, "mask_decoder.iou_token.weight": torch.zeros(1, 4)}


def test_weights_are_read_under_the_names_of_either_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = small_encoder()
    torch.save(as_published(encoder), tmp_path / "sam.pth")
    save_file(as_published(encoder), tmp_path / "sam.safetensors")
    torch.save(encoder.state_dict(), tmp_path / "timm.pth")
    image, other = torch.rand(2, 1, 32, 40) * 2 - 1, torch.rand(2, 1, 32, 40) * 2 - 1
    values = []
    for name in ("sam.pth", "sam.safetensors", "timm.pth"):
        prior = read_sam(tmp_path / name, make=small_encoder)
        assert len(prior.sha256) == 64
        assert float(prior(image, image)) == 0
        values.append(float(prior(image, other)))
    assert values[0] > 0
    assert values == [values[0]] * 3


def test_gradients_reach_the_image_and_not_the_encoder(tmp_path: Path) -> None:
    torch.save(small_encoder().state_dict(), tmp_path / "sam.pth")
    prior = read_sam(tmp_path / "sam.pth", make=small_encoder)
    image = torch.zeros(1, 1, 32, 32, requires_grad=True)
    prior(image, torch.ones(1, 1, 32, 32)).backward()
    assert image.grad is not None
    assert image.grad.any()
    assert all(parameter.grad is None for parameter in prior.encoder.parameters())


def test_a_file_that_is_not_sams_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UHFError, match="does not exist"):
        read_sam(tmp_path / "none.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UHFError, match="not the weights of SAM's"):
        read_sam(tmp_path / "other.pth", make=small_encoder)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UHFError, match="read safely"):
        read_sam(tmp_path / "text.pth", make=small_encoder)
    torch.save({"code": print}, tmp_path / "pickle.pth")
    with pytest.raises(UHFError, match="read safely"):
        read_sam(tmp_path / "pickle.pth", make=small_encoder)
