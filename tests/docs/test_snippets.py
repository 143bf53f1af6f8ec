"""Every Python block of README and docs is run: those of a page in order, in one namespace, in an empty folder."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.support import REPOSITORY

BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHAPE = (32, 32, 32)


def pages() -> list[Path]:
    """README and docs, those that have a block of Python."""
    found = [REPOSITORY / "README.md", REPOSITORY / "ARCHITECTURE.md", REPOSITORY / "CONTRIBUTING.md"]
    found += sorted((REPOSITORY / "docs").rglob("*.md"))
    return [page for page in found if page.exists() and BLOCK.search(page.read_text(encoding="utf-8"))]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def tissues() -> np.ndarray:
    """White matter in grey matter in CSF."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for value, margin in ((1, 2), (2, 4), (3, 10)):
        labels[(slice(margin, -margin),) * 3] = value
    return labels


def scan() -> np.ndarray:
    return np.choose(tissues(), [0.0, 30.0, 60.0, 90.0]).astype(np.float32)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def of_readme(_: Path) -> dict[str, object]:
    """A trainer of the reader's own."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    return {"MyTrainer": type("MyTrainer", (nnUNetTrainer,), {})}


def of_simulation(folder: Path) -> dict[str, object]:
    """Arrays of a scan and its labels, and folders of both."""
    for case in ("sub_01", "sub_02"):
        save(folder / "low_field" / f"{case}.nii.gz", scan() + 1)
        save(folder / "high_field" / f"{case}.nii.gz", scan())
        save(folder / "tissue_labels" / f"{case}.nii.gz", tissues())
    return {"image": scan(), "labels": tissues()}


def of_synthesis(folder: Path) -> dict[str, object]:
    """What `nnunet-uhf synthesise` has written."""
    for case in ("sub_01", "sub_02"):
        save(folder / "synthetic" / "simulated_0.36T" / f"{case}.nii.gz", scan() + 1)
        save(folder / "synthetic" / "simulated_7T" / f"{case}.nii.gz", scan())
        save(folder / "synthetic" / "tissues" / f"{case}.nii.gz", tissues())
    return {}


def of_volumes(folder: Path) -> dict[str, object]:
    """What `nnunet-uhf volumes` has written."""
    lines = ("case,structure,volume_mm3", "sub_01,GM,10.0", "sub_01,WM,20.0", "sub_02,GM,11.0", "sub_02,WM,21.0")
    (folder / "volumes.csv").write_text("\n".join(lines) + "\n")
    return {}


# what a page takes for granted
SETTINGS: dict[str, Callable[[Path], dict[str, object]]] = {
    "README.md": of_readme,
    "docs/howto/low_field_simulation.md": of_simulation,
    "docs/howto/synthesising_images.md": of_synthesis,
    "docs/howto/structure_volumes.md": of_volumes,
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the page is read."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_python_block_of_a_page_runs(page: Path, folder: Path) -> None:
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "page"}
    if (setting := SETTINGS.get(name_of(page))) is not None:
        namespace |= setting(folder)
    for match in BLOCK.finditer(text):
        # blank lines in front, so that a traceback names the line of the page
        code = "\n" * text[: match.start(1)].count("\n") + match[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(code, str(page), "exec"), namespace)
    for trainer in trainers_of(namespace):  # nnU-Net keeps what these names stand for, and *args stands for nothing
        kinds = {parameter.kind for parameter in inspect.signature(trainer.__init__).parameters.values()}
        assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}, trainer


def trainers_of(namespace: Mapping[str, object]) -> list[type]:
    """Trainers that a page defines."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    classes = [value for value in namespace.values() if isinstance(value, type)]
    return [value for value in classes if issubclass(value, nnUNetTrainer) and value.__module__ == "page"]


def test_every_setting_is_of_a_page_that_has_blocks() -> None:
    assert set(SETTINGS) <= {name_of(page) for page in pages()}
