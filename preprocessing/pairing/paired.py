"""LF and HF scans of the same subjects -> raw enhancement dataset (`nnunet-uhf convert paired`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError, already_told
from nnunet_uhf.imageio.nifti import require_distinct
from nnunet_uhf.imageio.opening import require_file
from nnunet_uhf.imageio.output import working_folder
from nnunet_uhf.preprocessing.datasets.checks import check_case_names, check_dataset_folder
from nnunet_uhf.preprocessing.datasets.write import paired_block, write_paired_dataset
from nnunet_uhf.preprocessing.pairing.alignment import Alignment, alignment_table, flag_outliers
from nnunet_uhf.preprocessing.pairing.case_table import LABELS, PairFiles
from nnunet_uhf.preprocessing.pairing.masks import mask_labels
from nnunet_uhf.preprocessing.pairing.one_grid import register_pair, write_on_one_grid
from nnunet_uhf.preprocessing.pairing.options import PairingOptions
from nnunet_uhf.preprocessing.pairing.provenance import StoredRoute, provenance

TABLE_NAME = "alignment.csv"


def convert_paired(
    output: Path,
    cases: Mapping[str, PairFiles],
    *,
    source_field_T: float,
    target_field_T: float,
    source_channel: str = "LF",
    target_channel: str = "HF",
    route: StoredRoute | None = None,
    label_names: Mapping[str, int] | None = None,
    options: PairingOptions | None = None,
    console: Console | None = None,
) -> dict[str, Alignment]:
    """Register each pair, bring it on one grid, and write the dataset with a report on the alignment.

    The dataset holds `conversion.json` and `alignment.csv` with what registration found for every case. Sources are
    read, never changed; the dataset appears complete or not at all.

    Args:
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        cases: the files of each case; all have a mask, or all a label map, or none has either.
        source_field_T: field strength of the LF scans in tesla.
        target_field_T: field strength of the HF scans in tesla.
        source_channel: name of the LF channel; guided datasets are matched to it.
        target_channel: name of the HF channel.
        route: `paired` or `simulated`; None to go by `simulation.json` beside the LF scans and by their headers.
        label_names: name to value, needed for label maps.
        options: how pairs are made.
        console: shows a progress bar when given.

    Returns:
        The alignment of each case; those with reasons want a look.

    Raises:
        UHFError: one line on the file and what to do.
    """
    options = options or PairingOptions()
    names = _check(output, cases, label_names, options)
    made = provenance((pair.lf for pair in cases.values()), stated=route, field_T=source_field_T)
    paired_block(  # fails here, not after hours of registration
        output,
        source_channel=source_channel,
        target_channel=target_channel,
        source_field_T=source_field_T,
        target_field_T=target_field_T,
        route=made.route,
    )
    report: dict[str, Alignment] = {}
    record: dict[str, Any] = {}
    staged: dict[str, dict[str, Path]] = {"lf": {}, "hf": {}, "labels": {}}
    with working_folder(output) as folder:
        for case in sorted(cases) if console is None else track(sorted(cases), "pairing", console=console):
            link, report[case] = register_pair(cases[case], options)
            for part, path in write_on_one_grid(folder / f"{len(report):04d}", cases[case], link, options).items():
                staged[part][case] = path
            record[case] = {
                **{part: str(path) for part, path in cases[case].files.items()},
                "reference_to_moving_lps_mm": link.matrices(),
                "motions": [asdict(found) for found in link.motions()],
            }
        flag_outliers(report)
        with already_told():
            write_paired_dataset(
                output,
                sources=staged["lf"],
                targets=staged["hf"],
                labels=staged["labels"],
                label_names=names,
                source_channel=source_channel,
                target_channel=target_channel,
                source_field_T=source_field_T,
                target_field_T=target_field_T,
                route=made.route,
                simulation=made.simulation,
                record={
                    "format": 1,
                    "package_version": nnunet_uhf.__version__,
                    "converter": "paired",
                    "parameters": asdict(options),
                    "cases": {case: {**record[case], "alignment": asdict(report[case])} for case in report},
                },
                notes={TABLE_NAME: alignment_table(report)},
            )
    return report


def _check(
    output: Path, cases: Mapping[str, PairFiles], label_names: Mapping[str, int] | None, options: PairingOptions
) -> dict[str, int]:
    """Everything that is wrong before any scan is read; returns the label names."""
    if not cases:
        raise UHFError(f"no pairs are given for {output.name}: name at least one")
    if options.seed < 0:
        raise UHFError(f"seed is {options.seed}: use a whole number >= 0")
    if options.slicewise and options.registration == "none":
        raise UHFError("--slicewise is a way to register: leave it out or choose --registration rigid or affine")
    given = {part for pair in cases.values() for part in pair.files if part in LABELS}
    if len(given) > 1 or any(not given <= set(pair.files) for pair in cases.values()):
        raise UHFError("some cases have a mask or a label map and others do not: give all the same")
    if ("labels" in given) != (label_names is not None):
        raise UHFError("label maps and label names belong together: give both (--label-names) or none")
    names = dict(label_names) if label_names is not None else mask_labels(options.mask, given="mask" in given)
    check_dataset_folder(output, names)
    check_case_names(list(cases))
    scans = {}
    for case, pair in cases.items():
        for part, path in pair.files.items():
            require_file(path)
            if part not in LABELS:  # scans that lie on a template share its mask
                scans[f"{case} ({part})"] = path
    require_distinct(scans)
    return names
