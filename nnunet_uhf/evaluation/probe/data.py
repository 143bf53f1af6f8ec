"""The subjects of a probe: which are labelled, which are tested, and the images of each (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import CHANNEL_SUFFIX, case_files, check_nifti_header, is_nifti
from nnunet_uhf.imageio.volumes import volume_files
from nnunet_uhf.inference.inputs import Scan, require_one_grid
from nnunet_uhf.inference.map_source import MapSource
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.files import dataset_name, read_json, root_folder
from nnunet_uhf.nnunet.labels import Labels, read_structures


@dataclass(frozen=True)
class ProbedSubject:
    """A case: its image by number of the channel, and its true label map."""

    name: str
    channels: dict[int, Path]
    labels: Path


@dataclass(frozen=True)
class ProbeData:
    """What a probe is run on.

    Attributes:
        dataset: full name.
        channels: names by index.
        task: its structures.
        labelled: subjects that the classifier learns from.
        tested: others.
    """

    dataset: str
    channels: list[str]
    task: Labels
    labelled: list[ProbedSubject]
    tested: list[ProbedSubject]

    def require_sound(self) -> None:
        """UHFError, before anything is computed, for an image that can be none, or labels that lie elsewhere."""
        for subject in (*self.labelled, *self.tested):
            files = (*subject.channels.values(), subject.labels)
            for path in filter(is_nifti, files):
                check_nifti_header(path, dim=2)  # or a single slice
            require_one_grid(tuple(filter(is_nifti, files)))

    def scan(self, subject: ProbedSubject, source: MapSource) -> Scan:
        """The images that a source reads of a subject.

        Raises:
            UHFError: the dataset has not the channels that it reads.
        """
        if source.names is None:
            wanted = list(range(len(self.channels)))
            if len(wanted) != source.channels:
                raise UHFError(
                    f"{source.path} reads {source.channels} channels, {self.dataset} has {len(wanted)}: probe it on a "
                    "dataset like its own (-d)"
                )
        elif len(self.channels) == 1 == len(source.names):
            wanted = [0]
        else:
            known = [name.casefold() for name in self.channels]
            missing = [name for name in source.names if known.count(name.casefold()) != 1]
            if missing:
                raise UHFError(
                    f"{source.path} reads the channel {missing[0]!r}, {self.dataset} has {', '.join(self.channels)}: "
                    "probe it on a dataset with that channel (-d)"
                )
            wanted = [known.index(name.casefold()) for name in source.names]
        return tuple(subject.channels[number] for number in wanted)


def read_probe_data(dataset: str | int, *, labelled: int, tested: int | None, seed: int) -> ProbeData:
    """Read a raw dataset: labelled subjects drawn of imagesTr; tested ones of imagesTs, else the rest of imagesTr.

    Args:
        dataset: number or name; in nnUNet_raw.
        labelled: how many the classifier learns from.
        tested: how many are tested; all by default.
        seed: of the draw.

    Raises:
        UHFError: no such dataset, no NIfTI images, or too few subjects.
    """
    name = dataset_name(dataset)
    folder = root_folder("nnUNet_raw") / name
    where = folder / "dataset.json"
    content = read_json(where, advice="probe needs the raw dataset")
    channels = channel_names(content, where=where)
    training = _subjects(folder, "Tr", channels)
    rng = np.random.default_rng(seed)
    order = [training[index] for index in rng.permutation(len(training))]
    held_out = _subjects(folder, "Ts", channels) if (folder / "labelsTs").is_dir() else []
    tests = held_out or sorted(order[labelled:], key=lambda subject: subject.name)
    if len(training) < labelled or len(tests) < 2:
        raise UHFError(
            f"{folder} has {len(training)} labelled subjects and {len(tests)} to test beside {labelled} to learn from; "
            "a probe tests two or more: add some, or ask for fewer labelled ones (--labelled)"
        )
    return ProbeData(
        dataset=name,
        channels=channels,
        task=read_structures(content, where=where),
        labelled=sorted(order[:labelled], key=lambda subject: subject.name),
        tested=tests if tested is None else tests[:tested],
    )


def _subjects(folder: Path, part: str, channels: list[str]) -> list[ProbedSubject]:
    """Subjects with all channels and labels, by name."""
    truth = volume_files(folder / f"labels{part}")
    images: dict[str, dict[int, Path]] = {}
    for name, path in case_files(folder / f"images{part}").items():
        if CHANNEL_SUFFIX.search(name):
            images.setdefault(name[:-5], {})[int(name[-4:])] = path
    complete = [case for case in sorted(images) if case in truth and images[case].keys() >= set(range(len(channels)))]
    return [ProbedSubject(case, images[case], truth[case]) for case in complete]
