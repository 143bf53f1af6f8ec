"""What nnunet-uhf relies on in nnU-Net and its own packages is still there, with the parameters it had.

A failure here means: read that change in nnU-Net, adapt what uses it, then write the contract anew
(python tests/nnunet/make_contract.py).
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest


def _maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_contract", Path(__file__).with_name("make_contract.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _maker()
CONTRACT: dict[str, list[str] | None] = json.loads(MAKER.CONTRACT.read_text())
PLACES = dict(MAKER.names())
HOOKS = {name for name, place in PLACES.items() if place[1] == "nnUNetTrainer" and len(place) == 3}


def fits(known: list[str], now: list[str], *, exactly: bool) -> bool:
    """Whether calls with the known parameters still hold; what came new must have a default."""
    if exactly:
        return known == now
    bare = [one.rstrip("=") for one in now]
    kept = [one for one in bare if one in {name.rstrip("=") for name in known}]
    new = [one for one in now if one.rstrip("=") not in {name.rstrip("=") for name in known}]
    required = {one for one in now if not one.endswith("=")} <= {one for one in known if not one.endswith("=")}
    return (
        kept == [one.rstrip("=") for one in known] and required and all(one[0] == "*" or one[-1] == "=" for one in new)
    )


def test_the_contract_names_everything_that_is_imported_called_and_overridden() -> None:
    assert set(PLACES) == set(CONTRACT), "write it anew: python tests/nnunet/make_contract.py"
    assert len(HOOKS) > 15


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_what_nnunet_gives_is_still_there_with_its_parameters(name: str) -> None:
    known = CONTRACT[name]
    now = MAKER.parameters(MAKER.resolve(PLACES[name]))
    if known is not None:
        assert now is not None, f"{name} is no longer called"
        assert fits(known, now, exactly=name in HOOKS), f"{name} had {known}, has {now}"


@pytest.mark.parametrize(
    ("now", "exactly", "good"),
    [
        (["a", "b="], False, True),
        (["a", "b=", "c="], False, True),
        (["a", "b=", "c="], True, False),
        (["a", "b=", "c"], False, False),
        (["b=", "a"], False, False),
        (["a"], False, False),
        (["a", "b"], False, False),
    ],
)
def test_a_changed_signature_is_seen(now: list[str], exactly: bool, good: bool) -> None:
    assert fits(["a", "b="], now, exactly=exactly) == good
