"""``nnunet-uhf probe``: how much of the structures stands in frozen maps, without training a network (ours).

A linear classifier learns from the maps of a few labelled subjects and labels others. Every keeper is held against the
same network with random weights and against the image itself, by the same classifier, voxels and subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.probe.classifier import DrawnVoxels, LinearProbe, draw_voxels
from nnunet_uhf.evaluation.probe.data import ProbeData, ProbedSubject, read_probe_data
from nnunet_uhf.evaluation.probe.points import PointMaps, Reader, image_reader, network_reader
from nnunet_uhf.imageio.volumes import read_any_labels
from nnunet_uhf.inference.map_source import MapSource, map_source
from nnunet_uhf.nnunet.labels import Labels
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.types import FloatArray, Mask

RANDOM, IMAGE, NEIGHBOURHOOD = "random", "image", "neighbourhood"
CONTROLS = (RANDOM, IMAGE, NEIGHBOURHOOD)
"""What a keeper is held against: its network without training, its input, its input with smoothed copies."""
CHUNK = 50_000
"""Voxels whose features are in memory at a time."""


@dataclass(frozen=True)
class Arm:
    """One kind of maps.

    Attributes:
        name: in tables.
        control: which of :data:`CONTROLS` it is; None of what is probed.
        of: name of the arm whose network or input a control has; its own name otherwise.
        source: the network whose preprocessing is used.
        reader: gives the maps.
    """

    name: str
    control: str | None
    of: str
    source: MapSource
    reader: Reader


@dataclass(frozen=True)
class ProbeResult:
    """Dice of all arms.

    Attributes:
        data: the subjects.
        arms: what was probed, in the order of tables.
        dice: by arm, subject and structure, 0 to 1; NaN where truth and prediction have none of it.
        converged: by arm, whether the classifier's optimizer came to rest.
        features: by arm, how many maps there are.
        seed: of voxels and random weights.
    """

    data: ProbeData
    arms: tuple[Arm, ...]
    dice: Mapping[str, Mapping[str, Mapping[str, float]]]
    converged: Mapping[str, bool]
    features: Mapping[str, int]
    seed: int

    def seen(self, arm: Arm) -> list[str]:
        """Tested subjects that the weights of an arm were trained on, by name."""
        learnt_from = () if arm.control is not None else arm.source.learnt_from or ()
        return sorted({subject.name for subject in self.data.tested} & set(learnt_from))


def probe(
    models: Sequence[str | Path],
    dataset: str | int,
    *,
    names: Sequence[str] = (),
    labelled: int = 5,
    tested: int | None = None,
    seed: int = 0,
    fold: int | str | None = None,
    device: str | torch.device = "cpu",
    console: Console | None = None,
) -> ProbeResult:
    """Probe keepers and finished nnU-Net models, and their controls.

    Args:
        models: keeper files, model folders, and names of :data:`CONTROLS`; without any of these, all controls.
        dataset: number or name of a raw dataset with labels.
        names: of keepers and models in tables; by default those of their files.
        labelled: subjects that the classifier learns from.
        tested: subjects that are tested; by default all others.
        seed: of subjects, voxels and random weights.
        fold: of model folders; the first finished one by default.
        device: where networks run.
        console: shows a progress bar when given.

    Raises:
        UHFError: no usable model or dataset; a dataset whose channels a model does not read.
    """
    used = checked_device(device)
    arms = _arms(models, names, seed=seed, fold=fold, device=used)
    data = read_probe_data(dataset, labelled=labelled, tested=tested, seed=seed)
    data.require_sound()
    return probe_arms(arms, data, seed=seed, console=console)


def probe_arms(arms: Sequence[Arm], data: ProbeData, *, seed: int, console: Console | None = None) -> ProbeResult:
    """Fit and test a classifier for every arm.

    Raises:
        UHFError: the dataset has not the channels that an arm reads, or files that cannot be read.
    """
    for arm in arms:
        data.scan(data.labelled[0], arm.source)
    dice: dict[str, dict[str, dict[str, float]]] = {}
    converged: dict[str, bool] = {}
    features: dict[str, int] = {}
    with Progress(console=console, disable=console is None) as bar:
        advance = bar.add_task("probing", total=len(arms) * (len(data.labelled) + len(data.tested)))
        for arm in arms:
            drawn, rows = [], []
            for subject in data.labelled:
                one, row = _sample(arm, data, subject, seed)
                drawn.append(one)
                rows.append(row)
                bar.advance(advance)
            fitted = LinearProbe.fit(np.concatenate(rows), drawn)
            converged[arm.name], features[arm.name] = fitted.converged, rows[0].shape[1]
            dice[arm.name] = {}
            for subject in data.tested:
                dice[arm.name][subject.name] = _test(arm, data, subject, fitted)
                bar.advance(advance)
    return ProbeResult(data, tuple(arms), dice, converged, features, seed)


def _arms(
    models: Sequence[str | Path], names: Sequence[str], *, seed: int, fold: int | str | None, device: torch.device
) -> tuple[Arm, ...]:
    controls = [str(model) for model in models if str(model) in CONTROLS]
    paths = [Path(model) for model in models if str(model) not in CONTROLS]
    if not paths:
        raise UHFError("a probe needs a keeper file or a model folder beside its controls (-m)")
    if names and len(names) != len(paths):
        raise UHFError(f"{len(names)} names were given for {len(paths)} keepers and models (--names)")
    given = list(names) or [path.stem if path.suffix else path.resolve().name for path in paths]
    if len(set(given)) < len(given) or set(given) & set(CONTROLS):
        raise UHFError(f"keepers and models would be called {', '.join(given)}: give each a name of its own (--names)")
    folds = [fold if path.is_dir() else None for path in paths]
    sources = [map_source(path, fold=number) for path, number in zip(paths, folds, strict=True)]
    arms = [
        Arm(name, None, name, source, network_reader(source, device))
        for name, source in zip(given, sources, strict=True)
    ]
    several = len(paths) > 1
    for control in controls or CONTROLS:
        kept: list[tuple[object, ...]] = []
        for name, path, number, source in zip(given, paths, folds, sources, strict=True):
            drawn = map_source(path, fold=number, drawn=seed) if control == RANDOM else source
            if _alike(drawn, control) in kept:
                continue
            kept.append(_alike(drawn, control))
            reader = network_reader(drawn, device) if control == RANDOM else None
            arms.append(
                Arm(
                    f"{control} ({name})" if several and len(kept) > 1 else control,
                    control,
                    name,
                    drawn,
                    reader or image_reader(source, neighbourhood=control == NEIGHBOURHOOD),
                )
            )
    return tuple(arms)


def _alike(source: MapSource, control: str) -> tuple[object, ...]:
    """What decides a control: preprocessing, and of random weights the network."""
    settings = source.configuration
    seen = (tuple(settings.spacing), tuple(source.plans.transpose_forward), source.names, source.channels)
    normalised = (tuple(settings.normalization_schemes), tuple(settings.use_mask_for_norm))
    if control != RANDOM:
        return (*seen, *normalised)
    shapes = tuple((name, tuple(weight.shape)) for name, weight in source.network.state_dict().items())
    return (*seen, *normalised, type(source.network), shapes)


def _points(size: tuple[int, ...], affine: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Places in mm `(N, 3)` of voxels of a label map (X, Y, Z), by their place in the flattened array."""
    return np.asarray(apply_affine(affine, np.stack(np.unravel_index(index, size), axis=1)))


def _covered(maps: PointMaps, size: tuple[int, ...], affine: NDArray[np.float64]) -> Mask:
    """Which voxels of a label map, flattened, the network saw."""
    every = np.arange(int(np.prod(size)))
    parts = np.array_split(every, max(1, len(every) // (20 * CHUNK)))
    return np.concatenate([maps.covers(_points(size, affine, part)) for part in parts])


def _sample(arm: Arm, data: ProbeData, subject: ProbedSubject, seed: int) -> tuple[DrawnVoxels, FloatArray]:
    """Voxels drawn of a labelled subject, the same for all arms that see them, and their features."""
    labels, affine = read_any_labels(subject.labels)
    maps = arm.reader(data.scan(subject, arm.source))
    flat = labels.reshape(-1).astype(np.int32)
    allowed = _covered(maps, labels.shape, affine)
    if data.task.ignore is not None:
        allowed &= flat != data.task.ignore
    if len(np.unique(flat[allowed])) < 2:
        raise UHFError(f"{subject.labels} has one label where {arm.source.path} sees the scan: check its grid")
    drawn = draw_voxels(flat, allowed, case_generator(seed, subject.name))
    return drawn, maps.at(_points(labels.shape, affine, drawn.index))


def _test(arm: Arm, data: ProbeData, subject: ProbedSubject, fitted: LinearProbe) -> dict[str, float]:
    """Dice by structure of a tested subject; voxels that the network did not see are background."""
    labels, affine = read_any_labels(subject.labels)
    maps = arm.reader(data.scan(subject, arm.source))
    predicted = np.zeros(labels.size, dtype=np.int32)
    seen = np.flatnonzero(_covered(maps, labels.shape, affine))
    for part in np.array_split(seen, max(1, -(-len(seen) // CHUNK))):
        predicted[part] = fitted.predict(maps.at(_points(labels.shape, affine, part)))
    return structure_dice(labels, predicted.reshape(labels.shape), data.task)


def structure_dice(truth: NDArray[np.int32], predicted: NDArray[np.int32], task: Labels) -> dict[str, float]:
    """Dice, 0 to 1, of every structure in label maps (*S); NaN where neither has it. Ignored voxels do not count."""
    if task.ignore is not None:
        predicted = np.where(truth == task.ignore, 0, predicted)
    found = {}
    for structure in task.structures:
        first, second = structure.mask(truth), structure.mask(predicted)
        size = int(first.sum()) + int(second.sum())
        found[structure.name] = 2 * int((first & second).sum()) / size if size else float("nan")
    return found


def subject_means(result: ProbeResult, arm: str) -> list[float]:
    """Mean Dice over structures of every tested subject, in their order; NaN of a subject without any structure."""
    means = []
    for subject in result.data.tested:
        values = [value for value in result.dice[arm][subject.name].values() if not np.isnan(value)]
        means.append(float(np.mean(values)) if values else float("nan"))
    return means


def all_structures(result: ProbeResult) -> list[str]:
    """Names of the structures that any tested subject has, in the order of dataset.json."""
    present = {
        name
        for scores in chain.from_iterable(by_subject.values() for by_subject in result.dice.values())
        for name, value in scores.items()
        if not np.isnan(value)
    }
    return [structure.name for structure in result.data.task.structures if structure.name in present]
