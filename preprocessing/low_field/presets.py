"""Simulation parameters with their sources. Nothing here is estimated by us unless it says so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.contrast import SNRDistribution
from nnunet_uhf.preprocessing.low_field.slice_profile import SliceProfile

FORMAT_PAGE = "docs/howto/low_field_simulation.md"
SIQT = "Lin et al., Medical Image Analysis 2023 (SIQT), constants of the published code"


@dataclass(frozen=True, kw_only=True)
class LowFieldPreset:
    """What a scanner and sequence look like.

    Attributes:
        name: as typed by the user.
        contrast: sequence, for example T1w.
        field_tesla: field strength in tesla.
        snr: SNR of white and grey matter over scans.
        source: where the numbers come from.
        note: what a reader of the numbers must know.
    """

    name: str
    contrast: str
    field_tesla: float
    snr: SNRDistribution
    source: str
    note: str = ""


PRESETS: dict[str, LowFieldPreset] = {
    preset.name: preset
    for preset in (
        LowFieldPreset(
            name="flair_0.36T",
            contrast="FLAIR",
            field_tesla=0.36,
            snr=SNRDistribution(mean=(35.031, 42.329), covariance=((34.048, 39.850), (39.850, 50.293))),
            source=SIQT,
        ),
        LowFieldPreset(
            name="t1w_0.36T_probable",
            contrast="T1w",
            field_tesla=0.36,
            snr=SNRDistribution(mean=(64.50, 54.14), covariance=((78.47, 71.50), (71.50, 73.91))),
            source=SIQT,
            note="commented out there without a name; white matter is the brighter one, hence probably T1w",
        ),
    )
}

# Slice distance r in voxels -> profile. r = 4 and 8 are those of SIQT; the others are ours, the gap as near to a
# quarter of r as theirs.
PROFILES: dict[int, SliceProfile] = {
    1: SliceProfile(thickness=1, gap=0),
    2: SliceProfile(thickness=1.5, gap=0.5),
    3: SliceProfile(thickness=2, gap=1),
    4: SliceProfile(thickness=3, gap=1),
    6: SliceProfile(thickness=4.5, gap=1.5),
    8: SliceProfile(thickness=6, gap=2),
}


def find_preset(name: str) -> LowFieldPreset:
    """A preset by name, or from a JSON file of the user's own measurements.

    The file holds `contrast`, `field_T`, `mean` [WM, GM], `covariance` [[..], [..]] and `source`.

    Raises:
        UHFError: unknown name, or a file that does not hold these.
    """
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if path.suffix.lower() != ".json":
        raise UHFError(f"there is no preset {name!r}: use {', '.join(PRESETS)} or a JSON file of your own")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        (wm, gm), ((wm_wm, wm_gm), (gm_wm, gm_gm)) = content["mean"], content["covariance"]
        snr = SNRDistribution(
            mean=(float(wm), float(gm)),
            covariance=((float(wm_wm), float(wm_gm)), (float(gm_wm), float(gm_gm))),
        )
        return LowFieldPreset(
            name=path.stem,
            contrast=str(content["contrast"]),
            field_tesla=float(content["field_T"]),
            snr=snr,
            source=str(content["source"]),
        )
    except OSError as error:
        raise UHFError(f"preset file {path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise UHFError(f"preset file {path} lacks {error.args[0]}: see {FORMAT_PAGE}") from error
    except (ValueError, TypeError) as error:
        raise UHFError(f"preset file {path} is not readable ({error}): see {FORMAT_PAGE}") from error
    except UHFError as error:
        raise UHFError(f"preset file {path}: {error}") from error


def choose_profile(ratio: int | None, *, thickness: float | None = None, gap: float | None = None) -> SliceProfile:
    """Thickness and gap where both are given, else those of the table for a slice distance; all in voxels.

    Raises:
        UHFError: one of the two alone, neither of them nor a ratio, or a ratio that the table does not have.
    """
    if thickness is not None and gap is not None:
        return SliceProfile(thickness=thickness, gap=gap)
    if thickness is not None or gap is not None:
        raise UHFError("slice thickness and gap belong together: give both, or the ratio alone")
    if ratio is None:
        raise UHFError("the slices are not described: give a ratio, or thickness and gap")
    return profile_for_ratio(ratio)


def profile_for_ratio(ratio: int) -> SliceProfile:
    """Thickness and gap for a slice distance in voxels; UHFError when the table has none."""
    if ratio not in PROFILES:
        known = ", ".join(map(str, PROFILES))
        raise UHFError(f"there is no slice profile for ratio {ratio}: use {known} or give thickness and gap")
    return PROFILES[ratio]
