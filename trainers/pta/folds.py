"""Folds of unpaired scans: both domains on both sides, a subject on one, held-out pairs never learnt from (ours).

nnU-Net splits all cases alike: of 8 low-field and 30 high-field cases its first fold holds out no low-field one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.nnunet.training_data import FOLDS, SPLITS, folds_in
from nnunet_uhf.routes.unpaired import UnpairedTask

SEED = 12345  # nnU-Net's

Split = Mapping[str, Sequence[str]]


def domain_folds(task: UnpairedTask, cases: Iterable[str]) -> list[dict[str, list[str]]]:
    """Up to five folds of the cases, `train` and `val` each.

    Raises:
        UHFError: a domain has fewer than two subjects that may be learnt from.
    """
    subjects: dict[str, list[str]] = {}
    for case in sorted(cases):
        subjects.setdefault(task.subject(case), []).append(case)
    held = {task.subject(case) for pair in task.held_out_pairs.items() for case in pair}
    always = sorted(case for name in held for case in subjects.pop(name, []))
    random = np.random.default_rng(SEED)
    by_domains: dict[frozenset[str], list[str]] = {}
    for name in sorted(subjects):
        by_domains.setdefault(frozenset(task.domains[case] for case in subjects[name]), []).append(name)
    both = by_domains.get(frozenset((task.source, task.target)), [])
    alone = {domain: by_domains.get(frozenset((domain,)), []) for domain in (task.source, task.target)}
    fewest = min(len(both) + len(names) for names in alone.values())
    if fewest < 2:
        raise UHFError(
            f"unpaired dataset: a domain has {fewest} subject(s) beside uhf.unpaired.held_out_pairs; every fold learns "
            "from some and holds out others of each domain, so add scans, or take pairs back"
        )
    folds = min(FOLDS, fewest)
    place: dict[str, int] = {}
    for offset, names in ((0, both), *((len(both), names) for names in alone.values())):
        for number, name in enumerate(random.permutation(np.array(names, dtype=object)).tolist()):
            place[name] = (offset + number) % folds
    result = []
    for fold in range(folds):
        held_out = sorted(case for name in place for case in subjects[name] if place[name] == fold)
        learnt = sorted(case for name in place for case in subjects[name] if place[name] != fold)
        result.append({"train": learnt, "val": sorted([*held_out, *always])})
    return result


def require_folds(task: UnpairedTask, preprocessed: Path, cases: Iterable[str]) -> None:
    """Write the folds of a dataset where there are none; UHFError when those that are there are none for two domains.

    Args:
        task: of the dataset.
        preprocessed: its folder in nnUNet_preprocessed.
        cases: that are preprocessed.
    """
    splits = preprocessed / SPLITS
    known = sorted(cases)
    strange = [case for case in known if case not in task.domains]
    if strange:
        raise UHFError(
            f"{preprocessed}: case {strange[0]} is of no domain; name it in uhf.unpaired.domains of dataset.json, in "
            "nnUNet_raw and nnUNet_preprocessed"
        )
    if not splits.is_file():
        with written_whole(splits) as temporary:
            temporary.write_text(json.dumps(domain_folds(task, known), indent=4))
        return
    advice = "delete that file to have folds of both domains made"
    for number, split in enumerate(folds_in(splits)):
        problem = fold_problem(task, split)
        if problem is not None:
            raise UHFError(f"{splits}: fold {number} {problem}; {advice}")


def fold_problem(task: UnpairedTask, split: Split) -> str | None:
    """Why a fold is none for two domains, as the end of a sentence about it; None when it is one."""
    for side, doing in (("train", "learns from"), ("val", "holds out")):
        for domain in (task.source, task.target):
            if not any(task.domains.get(case) == domain for case in split[side]):
                return f"{doing} no case of {domain}"
    held = {case for pair in task.held_out_pairs.items() for case in pair}
    learnt = {task.subject(case) for case in split["train"]}
    if held & set(split["train"]) or {task.subject(case) for case in held} & learnt:
        return "learns from a subject of uhf.unpaired.held_out_pairs"
    shared = sorted(learnt & {task.subject(case) for case in split["val"]})
    return f"has the subject {shared[0]} on both sides" if shared else None
