"""Zip files of nnU-Net models from strangers: what is wrong with their members, and the models in them (ours).

nnU-Net extracts such a file as it is, into ``nnUNet_results``.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.model_folder import PLANS_JSON, ModelFolder

MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 16 * 2**30
MAX_TOTAL_BYTES = 128 * 2**30
MAX_RATIO = 100
"""Weights hardly shrink, and JSON by a factor of ten or twenty."""
RATIO_COUNTS_FROM = 2**26
"""Bytes; a small file that shrinks by more harms nobody."""
#: Endings of what nnU-Net exports and leaves in its model folders.
ENDINGS = (".json", ".pth", ".png", ".pdf", ".txt", ".nii.gz", ".nii", ".csv", ".md")
#: Without which a model cannot be checked.
NEEDED = (".json", ".pth")
CHUNK_BYTES = 2**20


def member_faults(path: Path) -> list[str]:
    """What is wrong with the members of a zip file, a line each; its name stands before the line where it is shown.

    Raises:
        UHFError: it is no zip file.
    """
    with _opened(path) as archive:
        members = archive.infolist()
    faults = [fault for member in members for fault in _faults_of(member)]
    names = [member.filename for member in members]
    faults += [
        f"member {name!r:.200} is there twice" for name in sorted({one for one in names if names.count(one) > 1})
    ]
    if len(members) > MAX_MEMBERS:
        faults.append(f"it has {len(members)} members, more than {MAX_MEMBERS}")
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL_BYTES:
        faults.append(f"its members would be {total / 2**30:.0f} GiB, more than {MAX_TOTAL_BYTES / 2**30:.0f}")
    return faults


def unpack_models(path: Path, folder: Path) -> list[ModelFolder]:
    """Unpack JSON files and checkpoints of a zip file whose members have no faults, and name the models among them.

    Raises:
        UHFError: a member is damaged, or larger than it says; no model is in it.
    """
    with _opened(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and member.filename.lower().endswith(NEEDED):
                _unpack(archive, member, folder / member.filename, path)
    models = sorted(found.parent for found in folder.rglob(PLANS_JSON))
    if not models:
        raise UHFError(f"{path} holds no model: no {PLANS_JSON} is in it; give a file of nnUNetv2_export_model_to_zip")
    return [ModelFolder(model) for model in models]


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise UHFError(f"{path} cannot be read as a zip file: fetch it again") from error


def _faults_of(member: zipfile.ZipInfo) -> list[str]:
    name, mode = member.filename, member.external_attr >> 16
    place, shown = PurePosixPath(name), f"member {name!r:.200}"
    faults = []
    if place.is_absolute() or ".." in place.parts or "\\" in name or ":" in name or "\0" in name:
        faults.append(f"{shown} leads out of the folder it is unpacked to")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        faults.append(f"{shown} is a link or a device, no file")
    if member.flag_bits & 1:
        faults.append(f"{shown} is encrypted")
    if member.file_size > MAX_MEMBER_BYTES:
        faults.append(f"{shown} would be {member.file_size / 2**30:.0f} GiB")
    if member.file_size > max(RATIO_COUNTS_FROM, MAX_RATIO * member.compress_size):
        faults.append(f"{shown} would be {member.file_size // max(member.compress_size, 1)} times its size")
    if not member.is_dir() and not name.lower().endswith(ENDINGS):
        faults.append(f"{shown} is no file of a model")
    return faults


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, path: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    try:
        with archive.open(member) as source, target.open("wb") as file:
            while block := source.read(CHUNK_BYTES):
                left -= len(block)
                if left < 0:
                    raise UHFError(f"{path}: member {member.filename!r:.200} is larger than it says; fetch it again")
                file.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UHFError(f"{path}: member {member.filename!r:.200} is damaged; fetch it again") from error
