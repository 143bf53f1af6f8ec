"""What a dataset.json may say of the training of teacher and keeper."""

from __future__ import annotations

from typing import Any

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.table import read_task
from nnunet_uhf.routes.training import LEARNERS, TrainingWishes

PAIRED = {"source": "LF", "target": "HF", "source_field_T": 0.36, "target_field_T": 3.0}
SIMULATED = {
    "target": "HF",
    "target_field_T": 3.0,
    "simulate": {"preset": "t1w_0.36T_probable", "source": "LF", "ratios": [2]},
}


def wishes(training: Any, route: dict[str, Any] = PAIRED) -> TrainingWishes:
    channels = ["LF", "HF"] if route is PAIRED else ["HF"]
    names = {str(index): name for index, name in enumerate(channels)}
    return read_task({"channel_names": names, "uhf": {**route, "training": training}}, dataset="D").training


@pytest.mark.parametrize("route", [PAIRED, SIMULATED], ids=["paired", "simulated"])
def test_either_route_may_set_rates_schedule_and_weights(route: dict[str, Any]) -> None:
    asked = {
        "learning_rate": 2e-4,
        "schedule": "constant",
        "weights": {"image": 10, "adversarial": 0},
        "gradient_clip": 5,
    }
    assert wishes(asked, route) == TrainingWishes(
        learning_rates=dict.fromkeys(LEARNERS, 2e-4),
        schedule="constant",
        weights={"image": 10.0, "adversarial": 0.0},
        gradient_clip=5.0,
    )
    assert wishes({}, route) == TrainingWishes()


def test_a_learning_rate_may_be_of_one_network_alone() -> None:
    assert wishes({"learning_rate": {"discriminator": 1e-4}}).learning_rates == {"discriminator": 1e-4}


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ([], r"uhf\.training is \[\]"),
        ({"epochs": 5}, "may set learning_rate, schedule, weights, gradient_clip"),
        ({"gradient_clip": 0}, "gradient_clip is 0; give a number from 1e-06 to 1e\\+09"),
        ({"gradient_clip": "12"}, "gradient_clip is '12'"),
        ({"learning_rate": 0}, r"learning_rate of the teacher is 0; give a number from 1e-09 to 1"),
        ({"learning_rate": True}, "learning_rate of the teacher is True"),
        ({"learning_rate": "1e-3"}, "learning_rate of the teacher is '1e-3'"),
        ({"learning_rate": {"keeper": float("nan")}}, "learning_rate of the keeper is nan"),
        ({"learning_rate": {"guide": 1e-3}}, "may set teacher, keeper, generator, discriminator"),
        ({"schedule": "cosine"}, "schedule is 'cosine'; choose one of polynomial, constant"),
        ({"schedule": ["constant"]}, "choose one of polynomial, constant"),
        ({"weights": [1]}, r"weights is \[1\]"),
        ({"weights": {"mse": 1}}, "may set image, reconstruction, features, statistics, adversarial, discriminator"),
        ({"weights": {"image": -1}}, "weights of the image is -1"),
    ],
)
def test_what_cannot_be_trained_with_is_refused_by_name_in_one_line(training: Any, told: str) -> None:
    with pytest.raises(UHFError, match=told) as caught:
        wishes(training)
    assert "dataset.json of D" in str(caught.value)
    assert "\n" not in str(caught.value)
