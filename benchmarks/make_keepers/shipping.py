"""A training's keeper as files for the package: half precision, and a header that says what it is and is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from make_keepers.batches import Draw, over_whole_image
from make_keepers.maps import LICENCES, SPACING_MM
from make_keepers.pairs import DESCRIPTION, TARGET_FIELD_T
from make_keepers.training import Lesson, Pupil
from nnunet_uhf.evaluation.image_metrics import fitted_quality
from nnunet_uhf.imageio.orientation import MIXED
from nnunet_uhf.keepers.file import build_enhancer, read_keeper, write_keeper
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.origin import LABEL_MAPS, MADE_FROM
from nnunet_uhf.keepers.statistics import channel_means, features_of, summarise_features
from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.space_to_depth.kind import KIND

KINDS = ("brain", "head")
"""Images of the brain alone, normalised in it, and images that are normalised as a whole."""
NOTE = (
    "made of label maps alone: the contrast of 7 T is a signal equation with published relaxation times, the low field "
    "is simulated; no scan of any field strength was seen, no lesions, no vessels"
)
MOST_CASES = 50  # of the statistics


def network_of(pupil: Pupil) -> EnhancementNet:
    """Keeper and decoder as files hold them."""
    return EnhancementNet(pupil.keeper, pupil.decoder).eval()


def ship(
    pupil: Pupil, lesson: Lesson, training: Sequence[Draw], held_out: Sequence[Draw], folder: Path, *, kind: str
) -> dict[str, Any]:
    """Write one file; returns how far half precision changes its maps and image.

    Args:
        pupil: trained.
        lesson: that it was trained by.
        training: draws that it learnt from.
        held_out: draws that it has not seen.
        folder: for the file.
        kind: one of `KINDS`.
    """
    network = network_of(pupil)
    features = features_of(network.keeper)
    patch = (lesson.patch,) * lesson.dim
    means = [
        [channel_means(features, source_of(one, kind)[None], patch) for one in chosen(draws, kind)]
        for draws in (training, held_out)
    ]
    header = KeeperHeader(
        architecture=network.keeper.config(),
        decoder_architecture=network.decoder.config(),
        network=KIND.name,
        dim=lesson.dim,
        channel="T1w",
        spacing_mm=(SPACING_MM,) * lesson.dim,
        transpose_forward=(0, 1, 2),
        patch_size=patch,
        normalisation="ZScoreNormalization",
        use_mask_for_norm=kind == "brain",
        target_intensity=intensity(training, kind),
        source_field_T=None,
        target_field_T=TARGET_FIELD_T,
        route="simulated",
        dataset="label maps of SynthSeg, GOUHFI and SynthSR",
        fold=0,
        configuration="2d" if lesson.dim == 2 else "3d_fullres",
        training_cases=sorted({one.record["case"] for one in training}),
        validation_cases=sorted({one.record["case"] for one in held_out}),
        metrics={**quality(network, held_out, kind), "note": NOTE},
        licence=f"Apache-2.0; made of label maps: {LICENCES}",
        citation=(
            "Billot et al., Medical Image Analysis 2023 (SynthSeg); Fortin et al. (GOUHFI); Billot et al. (SynthSR); "
            "relaxation times: docs/howto/synthesising_images.md"
        ),
        simulation={
            MADE_FROM: LABEL_MAPS,
            "anatomy": "brain" if kind == "brain" else "whole image, of brain or head",
            "taught_by": {"both": "image and structures"}.get(lesson.taught_by, lesson.taught_by),
            "steps": lesson.steps,
            **DESCRIPTION,
        },
        feature_statistics=summarise_features(*means),
        orientation=MIXED,
    )
    path = folder / f"t1w_{lesson.dim}d_{kind}.safetensors"
    write_keeper(
        path,
        header=header,
        keeper_state=network.keeper.state_dict(),
        decoder_state=network.decoder.state_dict(),
        half=True,
    )
    return {"file": path.name, "bytes": path.stat().st_size, **rounding(network, path, held_out, kind)}


def chosen(draws: Sequence[Draw], kind: str) -> list[Draw]:
    """Draws that a kind of images is made of, at most so many."""
    fitting = [one for one in draws if kind == "head" or not one.record["whole_head"]]
    return [fitting[int(i)] for i in np.linspace(0, len(fitting) - 1, min(MOST_CASES, len(fitting)))]


def source_of(draw: Draw, kind: str) -> np.ndarray:
    """The source `(Z, Y, X)` normalised as the kind is."""
    return images_of(draw, kind)[0]


def images_of(draw: Draw, kind: str) -> np.ndarray:
    """Source and target `(2, Z, Y, X)` normalised as the kind is."""
    images = np.asarray(draw.images, np.float32)
    if kind == "head" and not draw.record["whole_head"]:
        images = over_whole_image(images, draw.record)[0]
    return images


def intensity(draws: Sequence[Draw], kind: str) -> dict[str, float]:
    """Usual mean and standard deviation of the targets."""
    where = "brain" if kind == "brain" else "whole"
    found = [one.record["normalisation"]["target"][where] for one in chosen(draws, kind)]
    return {name: float(np.mean([one[name] for one in found])) for name in ("mean", "std")}


@torch.no_grad()
def quality(network: EnhancementNet, draws: Sequence[Draw], kind: str) -> dict[str, dict[str, float]]:
    """PSNR and SSIM of image and input in the brain of held-out draws, both fitted; means."""
    rows: dict[str, list[dict[str, float]]] = {"keeper_fitted": [], "input": []}
    for draw in chosen(draws, kind):
        source, target = images_of(draw, kind)
        step = 4 if network.keeper.dim == 2 else 1
        source, target = source[::step], target[::step]
        inside = np.asarray(draw.structures)[::step] > 0
        given = torch.from_numpy(source)[None, None]
        made = network(given[0, 0][:, None])[:, 0] if network.keeper.dim == 2 else network(given)[0, 0]
        for name, image in (("keeper_fitted", made.numpy()), ("input", source)):
            rows[name].append(fitted_quality(target, image, inside))
    keys = ("psnr", "ssim", "psnr_brain", "ssim_brain")
    return {name: {key: float(np.mean([row[key] for row in found])) for key in keys} for name, found in rows.items()}


@torch.no_grad()
def rounding(network: EnhancementNet, path: Path, draws: Sequence[Draw], kind: str) -> dict[str, float]:
    """Largest difference of maps and image by half precision, as part of each one's standard deviation."""
    stored = build_enhancer(read_keeper(path))
    source = source_of(chosen(draws, kind)[0], kind)
    middle = source[len(source) // 2][None, None] if network.keeper.dim == 2 else source[None, None]
    given = torch.from_numpy(np.ascontiguousarray(middle))
    pairs = [*zip(network.keeper.features(given), stored.keeper.features(given), strict=True)]
    pairs.append((network(given), stored(given)))
    differences = [float((one - other).abs().max() / one.std()) for one, other in pairs]
    return {"maps": max(differences[:-1]), "image": differences[-1]}
