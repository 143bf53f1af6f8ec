"""Model folders of translations whose `uhf` block is damaged."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection
from pathlib import Path

from helpers.damage import damaged
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.trained import read_trained_keeper


def told_or_the_same(folder: Path, parts: Collection[str], *, configuration: str = "2d") -> list[str]:
    """What is read otherwise than before, of every way to damage these parts of the block of fold 0; nothing should be.

    A fault told in more than one line is named, too.
    """
    path = folder / "plans.json"
    before = path.read_text()
    plans, found = json.loads(before), []
    sound, header = plans["configurations"][configuration]["uhf"], read_trained_keeper(folder, 0).header
    try:
        for way, change, block in damaged(sound):
            if not way or way[0] not in parts:
                continue
            plans["configurations"][configuration]["uhf"] = block
            path.write_text(json.dumps(plans))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    same = read_trained_keeper(folder, 0).header == header
            except UHFError as error:
                same = "\n" not in str(error) and len(str(error)) < 1000
            if not same:
                found.append(f"{way} {change}")
    finally:
        path.write_text(before)
    return found
