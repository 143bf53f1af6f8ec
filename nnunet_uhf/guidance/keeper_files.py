"""Keeper files at hand, each read once, and the one rule by which a configuration gets one of them (ours)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_uhf.errors import MatchError
from nnunet_uhf.guidance.attach import attach
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.keepers.file import KeeperFile, find_keepers, keeper_files, read_header, read_weights
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.nnunet.dataset_json import channel_names

KEEPER_VARIABLE = "nnUNet_UHF_KKN"


class KeeperAtHand:
    """One keeper file: its header is parsed once, and its weights are read and hashed once, when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def header(self) -> KeeperHeader:
        """What it says of itself; KeeperFileError when that is damaged."""
        return read_header(self.path)

    @cached_property
    def content(self) -> KeeperFile:
        """Header and weights; KeeperFileError when they do not belong together."""
        return read_weights(self.path, self.header)

    def forget_weights(self) -> None:
        """Let go of the weights, once a network has them."""
        self.__dict__.pop("content", None)


class Candidate(NamedTuple):
    """A keeper that fits a configuration, and the block that ties it to that."""

    file: KeeperAtHand
    block: GuidedBlock


class KeeperFiles:
    """The keeper files that a user names."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._files = [KeeperAtHand(path) for path in dict.fromkeys(map(Path, paths))]

    @classmethod
    def in_places(cls, places: Sequence[str | Path]) -> KeeperFiles:
        """Files, and those of folders.

        Raises:
            KeeperFileError: a place does not exist, or is a folder without keeper files.
        """
        return cls([path for place in places for path in keeper_files(place)])

    @classmethod
    def of_environment(cls) -> KeeperFiles:
        """Those that ``nnUNet_UHF_KKN`` names; none where it is not set.

        Raises:
            KeeperFileError: a place does not exist, or is a folder without keeper files.
        """
        return cls(find_keepers(os.environ.get(KEEPER_VARIABLE)))

    def __iter__(self) -> Iterator[KeeperAtHand]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def with_hash(self, sha256: str) -> KeeperAtHand | None:
        """The file whose keeper has this hash."""
        return next((file for file in self if file.header.sha256 == sha256), None)

    def choose(
        self,
        plans: Mapping[str, Any],
        configuration: str,
        dataset_json: Mapping[str, Any],
        *,
        preset: str | None = None,
    ) -> Candidate:
        """The keeper that guides a configuration; the plans stay untouched.

        Of the keepers that fit (dimension, can guide, axes, channel, normalisation, spacing within a factor of 8) the
        one whose own channel the guide channel is, which ``nnUNet_UHF_GUIDE_CHANNEL`` may name; of several the one at
        the configuration's own spacing, within 10 %. Copies of the same weights count as one.

        Raises:
            MatchError: none fits (with the reason of each), or several different ones do (all of them listed).
            KeeperFileError: a file is no keeper file.
            UHFError: there is no such preset.
        """
        if not self._files:
            raise MatchError(f"No keeper file is given. Set {KEEPER_VARIABLE} to a keeper file or a folder of them.")
        fitting: list[Candidate] = []
        refusals: list[str] = []
        for file in self:
            header = file.header  # a damaged file is told as such, whichever keeper would have been chosen
            try:
                block = attach(plans, configuration, dataset_json, header, preset=preset)
            except MatchError as error:
                refusals.append(f"{file.path}: {error}")
            else:
                fitting.append(Candidate(file, block))
        if not fitting:
            raise MatchError(f"No keeper fits configuration {configuration}. {' '.join(refusals)}")
        names = channel_names(dataset_json)
        of_channel = [one for one in fitting if _reads_its_own(one, names)]
        left = of_channel or fitting
        exact = [one for one in left if all(ratio == 1.0 for ratio in one.block.spacing_ratio)]
        left = exact or left
        if len({one.file.header.sha256 for one in left}) > 1:
            listed = ", ".join(str(one.file.path) for one in left)
            raise MatchError(
                f"Several different keepers fit configuration {configuration}: {listed}. Name only the one to use."
            )
        return left[0]


def _reads_its_own(candidate: Candidate, names: Sequence[str]) -> bool:
    """Whether the guide channels are called like those the keeper was trained on."""
    pairs = zip(candidate.file.header.inputs, candidate.block.guide_channels, strict=True)
    return all(one.channel.casefold() == names[guide].casefold() for one, guide in pairs)
