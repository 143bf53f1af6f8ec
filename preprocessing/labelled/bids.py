"""A BIDS dataset with label maps in its derivatives -> raw nnU-Net dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.labelled.bids_files import OWN_SPACES, BidsFile, field_strength, subject_images
from nnunet_uhf.preprocessing.labelled.bids_labels import bids_table, label_maps
from nnunet_uhf.preprocessing.labelled.scans import (
    DEFAULTS,
    Conversion,
    ConversionOptions,
    LabelledScan,
    leave_out_incomplete,
    write_labelled_scans,
)
from nnunet_uhf.preprocessing.labelled.tree import require_folder

CONTRASTS = ("T1w", "T2w", "FLAIR")
#: Part by which field strengths may differ and still be the same kind of scanner (2.89 T is sold as 3 T).
FIELD_TOLERANCE = 0.1


def convert_bids(
    source: Path,
    output: Path,
    *,
    contrasts: Iterable[str] = ("T1w",),
    derivatives: Path | None = None,
    entities: Iterable[str] = (),
    label_entities: Iterable[str] = (),
    field: float | None = None,
    options: ConversionOptions = DEFAULTS,
    console: Console | None = None,
) -> Conversion:
    """Write a dataset with one channel per contrast; a case is a session of a subject.

    Args:
        source: root of the BIDS dataset.
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        contrasts: T1w, T2w, FLAIR or another suffix of ``anat``, in the order of the channels.
        derivatives: folder of pipelines or of one pipeline; default `source`/derivatives.
        entities: what the scans' names must hold, as ``acq-iso`` or ``run-1``; ``acq-``: that they hold no ``acq``.
            Scans of another space are passed over, as long as none is named.
        label_entities: what the label maps' names must hold or not hold, as ``desc-manual`` or ``desc-``.
        field: keep only scans of this field strength in tesla, within a tenth.
        options: what every layout has; test cases are ``sub-01`` or ``sub-01_ses-a``, the mapping names the label
            numbers in place of ``dseg.tsv``.
        console: shows a progress bar when given.

    Raises:
        UHFError: one line on the file and what to do.
    """
    require_folder(source)
    channels = tuple(dict.fromkeys(contrasts))
    pipelines = source / "derivatives" if derivatives is None else derivatives
    images = _scans(source, channels, _entities(entities), field)
    labels = label_maps(pipelines, wanted=_entities(label_entities), contrasts=channels)
    problems: dict[str, str] = {}
    scans: dict[str, LabelledScan] = {}
    maps: dict[str, BidsFile] = {}
    for case in sorted({*images, *labels}):
        given = images.get(case, {})
        missing = [channel for channel in channels if channel not in given]
        if missing and field is not None and not given:
            continue  # a session at another field strength
        if missing:
            where = next(iter(given.values())).path if given else labels[case][0].path
            problems[case] = f"{where} has no {missing[0]} scan of {case} beside it"
        elif case not in labels:
            problems[case] = f"{given[channels[0]].path} has no label map *_dseg in {pipelines}"
        else:
            maps[case] = _only(labels[case], "--label-entity")
            strengths = {channel: field_strength(file, root=source) for channel, file in given.items()}
            files = {channel: given[channel].path for channel in channels}
            scans[case] = LabelledScan(files, maps[case].path, {"field_strength_T": strengths})
    warnings = leave_out_incomplete(problems, options, layout="BIDS", found=len(scans))
    return write_labelled_scans(
        output,
        layout="BIDS",
        scans=scans,
        table=bids_table(maps, derivatives=pipelines, mapping=options.mapping),
        options=options,
        warnings=[*warnings, *_about_fields(scans)],
        console=console,
    )


def _scans(
    source: Path, channels: tuple[str, ...], wanted: Mapping[str, str], field: float | None
) -> dict[str, dict[str, BidsFile]]:
    """By case and contrast, the one scan that fits."""
    if not channels:
        raise UHFError(f"no contrast is chosen of {source}: use {', '.join(CONTRASTS)}")
    found: dict[str, dict[str, list[BidsFile]]] = {}
    for file in subject_images(source, channels):
        if not file.fits(wanted, own_spaces=(*OWN_SPACES, *channels)) or not _of_field(file, source, field):
            continue
        found.setdefault(file.case, {}).setdefault(file.suffix, []).append(file)
    if not found:
        chosen = f"{' or '.join(channels)} scan" + ("" if field is None else f" of {field:g} T")
        raise UHFError(f"{source} holds no {chosen} in sub-*/[ses-*/]anat: check folder, --contrast, --entity, --field")
    return {case: {name: _only(files, "--entity") for name, files in of.items()} for case, of in found.items()}


def _of_field(file: BidsFile, source: Path, field: float | None) -> bool:
    """Whether a scan has the wanted field strength; UHFError where its sidecars do not say."""
    if field is None:
        return True
    strength = field_strength(file, root=source)
    if strength is None:
        raise UHFError(f"{file.path} has no MagneticFieldStrength in its JSON: add it, or leave out --field")
    return abs(strength - field) <= FIELD_TOLERANCE * field


def _only(files: list[BidsFile], option: str) -> BidsFile:
    """The one file, or UHFError that says how to choose."""
    if len(files) > 1:
        stems = {file.path.name.lower().removesuffix(".gz") for file in files}
        if len(stems) == 1:
            raise UHFError(f"{files[0].path} and {files[1].path} are one scan twice: remove one of them")
        raise UHFError(
            f"{files[0].path} and {files[1].path} both fit {files[0].case}: choose one by {option} KEY-VALUE, or "
            "KEY- for the one without it"
        )
    return files[0]


def _entities(given: Iterable[str]) -> dict[str, str]:
    """``["acq-iso", "desc-"]`` -> ``{"acq": "iso", "desc": ""}``; the empty one must not be there."""
    entities: dict[str, str] = {}
    for text in given:
        key, dash, value = text.partition("-")
        if not (key and dash):
            raise UHFError(
                f"{text!r} is no BIDS entity: write KEY-VALUE, as acq-iso or desc-manual, or KEY- for files without it"
            )
        entities[key] = value
    return entities


def _about_fields(scans: Mapping[str, LabelledScan]) -> list[str]:
    """Warnings about field strengths that are unknown or mixed within a channel."""
    told = []
    by_channel: dict[str, dict[str, Any]] = {}
    for case, scan in scans.items():
        for channel, strength in scan.facts["field_strength_T"].items():
            by_channel.setdefault(channel, {})[case] = strength
    for channel, strengths in by_channel.items():
        unknown = [case for case, strength in strengths.items() if strength is None]
        if unknown:
            told.append(f"no MagneticFieldStrength is given for {len(unknown)} {channel} scans, first {unknown[0]}")
        known = sorted({strength for strength in strengths.values() if strength is not None})
        if known and known[-1] - known[0] > FIELD_TOLERANCE * known[-1]:
            listed = ", ".join(f"{strength:g}" for strength in known)
            told.append(f"the {channel} scans were made at {listed} T: choose one field by --field, or mean it")
    return told
