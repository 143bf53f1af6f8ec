"""Scans one after the other: one that cannot be made is left out and told of, the others go on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from nnunet_uhf.errors import Odd
from nnunet_uhf.imageio.files import check_nifti_header
from nnunet_uhf.inference.inputs import Scan

Geometry = TypeVar("Geometry")
Given = TypeVar("Given")
Report = Callable[[int, int], None]
"""Called as ``report(done, total)`` while an image is made."""


class EveryScan(Generic[Geometry]):
    """The scans of a command with the images to be made of them; headers are read at once, images one by one.

    Args:
        tasks: scans and what is written of each.
        prepare: what a header says that making needs.
        dim: axes of an image.

    Raises:
        UHFError: when no scan is left that can be made.
    """

    def __init__(self, tasks: Sequence[tuple[Scan, Path]], *, prepare: Callable[[Scan], Geometry], dim: int) -> None:
        self.tasks = tasks
        self.odd = Odd()
        self.prepared: dict[Scan, Geometry] = {}
        for scan, _ in tasks:
            with self.odd.kept(scan[0].name):
                for path in scan:
                    check_nifti_header(path, dim=dim)
                self.prepared[scan] = prepare(scan)
        self.odd.require_others(len(tasks))

    def make(
        self,
        read: Callable[[Scan, Geometry], Given],
        write: Callable[[Path, Given, Report], None],
        *,
        there: Callable[[Path], bool] | None,
        console: Console,
        progress: bool,
    ) -> list[Path]:
        """Make all images; returns the paths.

        Args:
            read: reads a scan; UHFError where it cannot.
            write: makes the image and writes it.
            there: whether a path need not be written again; None to write all anew.
            console: for what is left out, and the bar.
            progress: whether a bar is shown.

        Raises:
            LeftOutError: when the others are done.
        """
        waiting = [(scan, target) for scan, target in self.tasks if there is None or not there(target)]
        if len(waiting) < len(self.tasks):
            done = len(self.tasks) - len(waiting)
            console.print(f"{done} of {len(self.tasks)} images are already there and stay as they are")
        with Progress(console=console, disable=not progress) as bar:
            task = bar.add_task("enhance", total=len(waiting))
            for index, (scan, target) in enumerate(waiting):
                name = scan[0].name
                bar.update(task, description=escape(name))
                if scan in self.prepared:
                    with self.odd.kept(name):
                        given = read(scan, self.prepared[scan])
                if name in self.odd.reasons:
                    told = f"left out: {self.odd.reasons[name]}"
                    console.print(told, style="red", soft_wrap=True, highlight=False, markup=False)
                    continue
                write(target, given, functools.partial(_report, bar, task, index))
                bar.update(task, completed=index + 1)
        self.odd.require_others(len(self.tasks))
        self.odd.tell()
        return [target for _, target in waiting]


def _report(bar: Progress, task: TaskID, finished: int, done: int, total: int) -> None:
    bar.update(task, completed=finished + done / total)
