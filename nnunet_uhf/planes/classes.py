"""Which classes of one view's model are which classes of another's: by name, sides of the body merged or not.

A sagittal slice does not show whether it lies left or right, so sagittal models are often trained on labels without
sides (arXiv:2402.08409; FastSurfer, doi:10.1016/j.neuroimage.2020.117012). The rule by names is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.labels import side_and_name


def match_classes(
    names: Sequence[str],
    view_names: Sequence[str],
    *,
    merged: Mapping[str, Sequence[str]] | None = None,
    where: str,
) -> list[tuple[int, ...]]:
    """Return, for every channel of a view, the output channel it counts for, or the several that it merges.

    Args:
        names: of the output's channels.
        view_names: of the view's channels.
        merged: class of the view -> the classes of the output that it merges; the others go by their own name. None:
            a class that the output lacks merges the two that have its name and a word for left or right.
        where: the view's folder, for messages.

    Raises:
        UHFError: a class of either that has no counterpart, or several.
    """
    if merged is not None and (unknown := sorted(set(merged) - set(view_names))):
        raise UHFError(f"{where} has no class {unknown[0]!r}, which the mapping names. It has: {', '.join(view_names)}")
    targets = []
    for name in view_names:
        wanted = _sides_of(name, names) if merged is None else list(merged.get(name, [name]))
        if not wanted or (unknown := [each for each in wanted if each not in names]):
            missing = repr(name if not wanted else unknown[0])
            raise UHFError(
                f"{where}: class {name!r} has no counterpart ({missing} is none of {', '.join(names)}). Say what it "
                'merges in a JSON file for --sagittal-merged, such as {"hippocampus": ["left_hippocampus", '
                '"right_hippocampus"]}'
            )
        targets.append(tuple(names.index(each) for each in wanted))
    counts = Counter(index for group in targets for index in group)
    for index, name in enumerate(names):
        if counts[index] != 1:
            how = "no class" if not counts[index] else "more than one class"
            raise UHFError(
                f"{where} has {how} for {name!r}. Correct the mapping (--sagittal-merged) or the folders (-i)"
            )
    return targets


def is_merged(targets: Sequence[tuple[int, ...]]) -> bool:
    """Whether a view merges classes of the output."""
    return any(len(group) > 1 for group in targets)


def read_merged(content: Mapping[str, Any], *, where: str) -> dict[str, list[str]]:
    """Check a mapping of merged classes as it stands in JSON; UHFError when it is none."""
    for name, parts in content.items():
        if not isinstance(parts, list) or len(parts) < 2 or not all(isinstance(part, str) for part in parts):
            raise UHFError(
                f"{where}: {name!r} is not followed by a list of two or more class names. Write it as "
                '{"hippocampus": ["left_hippocampus", "right_hippocampus"]}'
            )
    return {name: list(parts) for name, parts in content.items()}


def _sides_of(name: str, names: Sequence[str]) -> list[str]:
    """The class of that name, else the two that are its left and its right; empty when there are none."""
    if name in names:
        return [name]
    side, bare = side_and_name(name)
    found = [each for each in names if (parts := side_and_name(each))[0] is not None and parts[1] == bare]
    if side is not None or sorted(str(side_and_name(each)[0]) for each in found) != ["left", "right"]:
        return []
    return found
