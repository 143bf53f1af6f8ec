"""``nnunet-uhf probe``: how much of the structures stands in frozen maps, without training a network (ours).

A linear classifier learns from the maps of a few labelled subjects and labels others. Every keeper is held against the
same network with random weights and against the image itself, by the same classifier, voxels and subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.probe.classifier import DrawnVoxels, LinearProbe, draw_voxels
from nnunet_uhf.evaluation.probe.data import ProbeData, ProbedSubject, read_probe_data
from nnunet_uhf.evaluation.probe.readers import Reader, image_reader, network_reader, side_by_side
from nnunet_uhf.imageio.volumes import read_any_labels
from nnunet_uhf.inference.inputs import Scan
from nnunet_uhf.inference.map_source import MapSource, Prepared, map_source
from nnunet_uhf.nnunet.labels import Labels
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.types import FloatArray

RANDOM, IMAGE, NEIGHBOURHOOD = "random", "image", "neighbourhood"
CONTROLS = (RANDOM, IMAGE, NEIGHBOURHOOD)
"""What a keeper is held against: its network without training, its input, its input with smoothed copies."""


@dataclass(frozen=True)
class Arm:
    """One kind of maps.

    Attributes:
        name: in tables.
        control: which of :data:`CONTROLS` it is; None of what is probed.
        of: names of the keepers and models whose control it is; none of what is probed.
        source: the network whose preprocessing is used.
        reader: gives the maps.
    """

    name: str
    control: str | None
    of: tuple[str, ...]
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
        beside_image: whether the maps of networks, random ones too, had the image and its neighbourhood beside them.
    """

    data: ProbeData
    arms: tuple[Arm, ...]
    dice: Mapping[str, Mapping[str, Mapping[str, float]]]
    converged: Mapping[str, bool]
    features: Mapping[str, int]
    seed: int
    beside_image: bool = False

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
    beside_image: bool = False,
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
        beside_image: give the classifiers of networks, random ones too, the image and its neighbourhood beside their
            maps: a keeper minus `neighbourhood` is then what its maps add to what filters find.
        device: where networks run.
        console: shows a progress bar when given.

    Raises:
        UHFError: no usable model or dataset; a dataset whose channels a model does not read.
    """
    used = checked_device(device)
    arms = _arms(models, names, seed=seed, fold=fold, beside_image=beside_image, device=used)
    data = read_probe_data(dataset, labelled=labelled, tested=tested, seed=seed)
    data.require_sound()
    return replace(probe_arms(arms, data, seed=seed, console=console), beside_image=beside_image)


def probe_arms(arms: Sequence[Arm], data: ProbeData, *, seed: int, console: Console | None = None) -> ProbeResult:
    """Fit and test a classifier for every arm.

    Raises:
        UHFError: the dataset has not the channels that an arm reads, or files that cannot be read.
    """
    for arm in arms:
        data.scan(data.labelled[0], arm.source)
    drawn: dict[str, list[DrawnVoxels]] = {arm.name: [] for arm in arms}
    rows: dict[str, list[FloatArray]] = {arm.name: [] for arm in arms}
    fitted: dict[str, LinearProbe] = {}
    dice: dict[str, dict[str, dict[str, float]]] = {arm.name: {} for arm in arms}
    # subject by subject, so that a scan is prepared once for all arms that prepare it alike
    with Progress(console=console, disable=console is None, speed_estimate_period=600) as bar:
        advance = bar.add_task("probing", total=len(arms) * (len(data.labelled) + 1 + len(data.tested)))
        for subject, arm in product(data.labelled, arms):
            one, row = _sample(arm, data, subject, seed)
            drawn[arm.name].append(one)
            rows[arm.name].append(row)
            bar.advance(advance)
        for arm in arms:
            fitted[arm.name] = LinearProbe.fit(np.concatenate(rows.pop(arm.name)), drawn[arm.name])
            bar.advance(advance)
        for subject, arm in product(data.tested, arms):
            dice[arm.name][subject.name] = _test(arm, data, subject, fitted[arm.name])
            bar.advance(advance)
    converged = {name: one.converged for name, one in fitted.items()}
    features = {name: len(one.weights) for name, one in fitted.items()}
    return ProbeResult(data, tuple(arms), dice, converged, features, seed)


def _arms(
    models: Sequence[str | Path],
    names: Sequence[str],
    *,
    seed: int,
    fold: int | str | None,
    beside_image: bool,
    device: torch.device,
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
    preparations: dict[str, _LastScan] = {}

    def source_of(path: Path, number: int | str | None, drawn: int | None = None) -> MapSource:
        source = map_source(path, fold=number, drawn=drawn)
        return replace(source, prepare=preparations.setdefault(source.preparation, _LastScan(source.prepare)))

    def reader_of(source: MapSource) -> Reader:
        maps = network_reader(source, device)
        return side_by_side(maps, image_reader(source, neighbourhood=True)) if beside_image else maps

    sources = [source_of(path, number) for path, number in zip(paths, folds, strict=True)]
    arms = [Arm(name, None, (), source, reader_of(source)) for name, source in zip(given, sources, strict=True)]
    for control in controls or CONTROLS:
        alike: dict[tuple[object, ...], tuple[MapSource, list[str]]] = {}
        for name, path, number, source in zip(given, paths, folds, sources, strict=True):
            drawn = source_of(path, number, seed) if control == RANDOM else source
            alike.setdefault(_alike(drawn, control), (drawn, []))[1].append(name)
        for index, (source, served) in enumerate(alike.values()):
            if control == RANDOM:
                reader = reader_of(source)
            else:
                reader = image_reader(source, neighbourhood=control == NEIGHBOURHOOD)
            name = f"{control} ({served[0]})" if index else control
            arms.append(Arm(name, control, tuple(served), source, reader))
    return tuple(arms)


def _alike(source: MapSource, control: str) -> tuple[object, ...]:
    """What decides a control: preprocessing, and of random weights the network."""
    if control != RANDOM:
        return (source.preparation,)
    shapes = tuple((name, tuple(weight.shape)) for name, weight in source.network.state_dict().items())
    return (source.preparation, type(source.network), shapes)


class _LastScan:
    """Preparation of scans that keeps the last: all arms that prepare alike ask for it one after another."""

    def __init__(self, prepare: Callable[[Scan], Prepared]) -> None:
        self.prepare = prepare
        self.last: tuple[Scan, Prepared] | None = None

    def __call__(self, scan: Scan) -> Prepared:
        if self.last is None or self.last[0] != scan:
            self.last = None  # two do not have to fit into memory
            self.last = (scan, self.prepare(scan))
        return self.last[1]


def _sample(arm: Arm, data: ProbeData, subject: ProbedSubject, seed: int) -> tuple[DrawnVoxels, FloatArray]:
    """Voxels drawn of a labelled subject, the same for all arms that see them, and their features."""
    labels, _ = read_any_labels(subject.labels)
    maps = arm.reader(data.scan(subject, arm.source))
    flat = labels.reshape(-1)
    seen = np.zeros(labels.shape, bool)
    seen[maps.seen(labels.shape)] = True
    allowed = seen.reshape(-1)
    if data.task.ignore is not None:
        allowed &= flat != data.task.ignore
    if len(np.unique(flat[allowed])) < 2:
        raise UHFError(f"{subject.labels} has one label where {arm.source.path} sees the scan: check its grid")
    drawn = draw_voxels(flat, allowed, case_generator(seed, subject.name))
    return drawn, maps.at_voxels(drawn.index, labels.shape)


def _test(arm: Arm, data: ProbeData, subject: ProbedSubject, fitted: LinearProbe) -> dict[str, float]:
    """Dice by structure of a tested subject; voxels that the network did not see are background."""
    labels, _ = read_any_labels(subject.labels)
    maps = arm.reader(data.scan(subject, arm.source))
    return structure_dice(labels, fitted.label(maps, labels.shape), data.task)


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
