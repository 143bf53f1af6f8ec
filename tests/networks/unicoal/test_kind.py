from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from helpers.unicoal_samples import made_generator
from nnunet_uhf.networks.kinds import KINDS, guide_of
from nnunet_uhf.networks.unicoal.modalities import Modalities, Slices, is_described, is_modalities
from nnunet_uhf.networks.unicoal.network import decoder_of

KIND = KINDS["unicoal"]


def made_modalities(**options: object) -> Modalities:
    return Modalities(tesla={"T1w": 3.0, "T1w_7T": 7.0}, sources=("T1w",), targets=("T1w", "T1w_7T"), **options)  # type: ignore[arg-type]


def test_the_entry_describes_its_classes() -> None:
    network = made_generator()
    config = json.loads(json.dumps(network.keeper.config()))
    decoder = json.loads(json.dumps(network.decoder.config()))
    assert config.keys() == KIND.arguments.keys()
    assert decoder.keys() == KIND.decoder_arguments.keys()
    for arguments, wanted in ((config, KIND.arguments), (decoder, KIND.decoder_arguments)):
        assert all(fits(arguments[name]) for name, (fits, _) in wanted.items())
    assert decoder == decoder_of(config) == KIND.decoder_of(config)
    assert KIND.problem(config) is None
    assert KIND.decoder_problem(config, decoder) is None
    assert KIND.decoder_problem(config, {**decoder, "latent": 8}) is not None
    assert KIND.channels(config) == network.keeper.channels
    with pytest.raises(ValueError, match="pseudo-pairs"):
        guide_of("unicoal", config)
    twin = KIND.enhancer(config, decoder)
    assert twin.state_dict().keys() == network.state_dict().keys()


def test_modalities_come_back_from_json() -> None:
    known = made_modalities(several_sources=True)
    content = json.loads(json.dumps(known.as_json()))
    assert is_modalities(content)
    assert Modalities.of({**content, "sam_sha256": None}) == known


@pytest.mark.parametrize(
    "change",
    [{"tesla": {}}, {"tesla": {"T1w": -1}}, {"sources": ["T2w"]}, {"ratio": [4, 2]}, {"gap": [0, 2]}, {"position": 1}],
)
def test_what_describes_no_modalities_is_told(change: dict[str, object]) -> None:
    assert not is_modalities({**made_modalities().as_json(), **change})


def test_a_question_tells_source_fields_and_spacing_only_with_the_conditions() -> None:
    slices = Slices(distance_mm=4, thickness_mm=3)
    known, bare = made_modalities(), made_modalities(conditions=False)
    asked = known.condition("T1w_7T", ["T1w"], delta=0.5, slices=slices, spacing_mm=1)
    assert len(asked) == known.code + known.numbers
    assert asked[: known.code].tolist() == [0, 1, 1]
    assert bare.code == 2
    other = bare.condition("T1w_7T", ["T1w"], delta=0.5, slices=Slices(distance_mm=2, thickness_mm=2), spacing_mm=1)
    assert torch.equal(other, bare.condition("T1w_7T", ["T1w"], delta=0.5, slices=slices, spacing_mm=1))
    finer = known.condition("T1w_7T", ["T1w"], delta=0.5, slices=slices, spacing_mm=0.5)
    assert not torch.equal(asked, finer)


def test_the_network_adds_to_what_is_known_of_its_own_modality_alone() -> None:
    place: dict[str, Any] = {
        "delta": 0.0, "present": [True] * 4, "slices": Slices(distance_mm=8, thickness_mm=6), "spacing_mm": 2.0,
    }  # fmt: skip
    known = made_modalities()
    assert known.weights("T1w", ["T1w"], **place).tolist() == [0, 1, 0, 0]
    assert not known.weights("T1w_7T", ["T1w"], **place).any()
    assert not made_modalities(interpolation=False).weights("T1w", ["T1w"], **place).any()
    sharpened = made_modalities(slice_filter=True).weights("T1w", ["T1w"], **place)
    assert sharpened[1] > 1 > 0 > sharpened[2]


def test_a_description_of_version_0_2_0_has_a_spline() -> None:
    earlier = made_modalities().as_json()
    del earlier["slice_filter"]
    assert is_modalities(earlier)
    assert not Modalities.of(earlier).slice_filter
    earlier |= {"sam_sha256": None, "intensity": {name: [0.0, 1.0] for name in earlier["targets"]}}
    assert is_described(earlier, is_hash=lambda _: True)
    assert not is_described({**earlier, "unheard": True}, is_hash=lambda _: True)
