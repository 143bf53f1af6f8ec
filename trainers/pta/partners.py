"""Which slices of two domains belong together, by the nearest of all embeddings (the bank; ours)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from nnunet_uhf.networks.pta.matching import nearest
from nnunet_uhf.trainers.pta.slice_gap import Embedder
from nnunet_uhf.trainers.pta.slice_loader import Domain, Partners


def nearest_partners(
    domains: Mapping[str, Domain], encoders: Mapping[str, Embedder], subject: Callable[[str], str]
) -> Partners:
    """For every low-field slice of one side of a fold the nearest high-field slice of another subject."""
    found = {
        name: [encoders[name].of_case(case, *domain.dataset.load_case(case)[:2]) for case in domain.cases]
        for name, domain in domains.items()
    }
    places = [(one.case, place) for one in found["target"] for place in range(len(one.embeddings))]
    bank = torch.cat([one.embeddings for one in found["target"]])
    partners: dict[tuple[str, int], tuple[str, int]] = {}
    for one in found["source"]:
        same = torch.tensor([subject(case) == subject(one.case) for case, _ in places])
        forbidden = None if bool(same.all()) else same.expand(len(one.embeddings), -1)
        for place, partner in enumerate(nearest(one.embeddings, bank, forbidden=forbidden).tolist()):
            partners[one.case, place] = places[partner]
    return partners
