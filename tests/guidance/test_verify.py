"""`nnunet-uhf verify`: sound models pass, whatever is changed in them is one line, and nothing of them is run."""

from __future__ import annotations

import json
import lzma
import os
import pickle
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.verify import verify
from nnunet_uhf.nnunet import archives

RESULTS = Path(__file__).parents[1] / "fixtures" / "v0_1_0" / "results"
REFERENCE = "Dataset501_Tiny/UHFTrainer_1epoch__reference__2d"
CHECKPOINT = "fold_0/checkpoint_final.pth"


def unpacked(name: str, place: Path) -> Path:
    model = place / name
    shutil.copytree(RESULTS / name, model)
    for packed in model.rglob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    return model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return unpacked(REFERENCE, tmp_path)


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parents[1]))
    return path


def faults(model: Path) -> list[str]:
    return [check.said for check in verify(model) if check.fault]


@pytest.mark.parametrize(
    "name",
    [REFERENCE, *(path.parent.relative_to(RESULTS).as_posix() for path in RESULTS.glob("*/*Random*/plans.json"))],
)
def test_models_of_version_0_1_0_pass_as_folders_and_as_zip_files(name: str, tmp_path: Path) -> None:
    folder = unpacked(name, tmp_path)
    for model in (folder, zipped(folder, tmp_path / "model.zip")):
        assert faults(model) == []
        said = "\n".join(check.said for check in verify(model))
        assert "as plans name it, spacing ratio 1 x 1" in said


def edit_plans(model: Path, change: Any) -> None:
    path = model / "plans.json"
    plans = json.loads(path.read_text())
    change(plans["configurations"]["2d"]["uhf"])
    path.write_text(json.dumps(plans))


def edit_checkpoint(model: Path, change: Any) -> None:
    path = model / CHECKPOINT
    content = torch.load(path, weights_only=False)
    change(content)
    torch.save(content, path)


def first(weights: dict[str, torch.Tensor], beginning: str) -> torch.Tensor:
    return next(value for name, value in weights.items() if name.startswith(beginning))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: edit_plans(m, lambda b: b["keeper"].update(sha256="0" * 64)), "plans.json names 00000000"),
        (lambda m: edit_plans(m, lambda b: b.update(spacing_ratio=[2.0, 2.0])), "spacing ratio"),
        (lambda m: edit_plans(m, lambda b: b.update(guide_channel=True)), "guide_channel"),
        (lambda m: edit_plans(m, lambda b: b["fusion"].update(gate="hard")), "fusion"),
        (lambda m: edit_checkpoint(m, lambda c: first(c["network_weights"], "keeper.").add_(1)), "holds keeper"),
        (lambda m: edit_checkpoint(m, lambda c: first(c["network_weights"], "enc").fill_(torch.nan)), "finite"),
        (lambda m: edit_checkpoint(m, lambda c: c.pop("trainer_name")), "lacks trainer_name"),
        (lambda m: (m / CHECKPOINT).write_bytes((m / CHECKPOINT).read_bytes()[:5000]), "not a readable"),
        (lambda m: (m / CHECKPOINT).unlink(), "no fold with a checkpoint"),
        (lambda m: (m / "plans.json").write_text("{"), "not readable"),
        (lambda m: (m / "plans.json").write_text("{}"), "not what nnU-Net writes"),
        (lambda m: (m / "dataset.json").unlink(), "does not exist"),
    ],
)
def test_whatever_is_changed_in_a_model_is_one_fault(model: Path, change: Any, told: str) -> None:
    change(model)
    (fault,) = faults(model)
    assert told in fault
    assert "\n" not in fault


class Harm:
    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)

    def __init__(self, place: Path) -> None:
        self.place = place


def test_a_checkpoint_that_would_run_code_is_a_fault_and_runs_none(model: Path, tmp_path: Path) -> None:
    edit_checkpoint(model, lambda content: content.update(logging=Harm(tmp_path / "harm")))
    assert len(faults(model)) == 1
    (model / CHECKPOINT).write_bytes(pickle.dumps(Harm(tmp_path / "harm")))
    assert len(faults(model)) == 1
    assert not (tmp_path / "harm").exists()


def member(name: str, *, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@pytest.mark.parametrize(
    ("info", "content", "told"),
    [
        (member("../../evil.json"), b"{}", "leads out"),
        (member("/etc/evil.json"), b"{}", "leads out"),
        (member("a/..\\evil.json"), b"{}", "leads out"),
        (member("C:/evil.json"), b"{}", "leads out"),
        (member("model/link.json", mode=stat.S_IFLNK | 0o777), b"/etc/passwd", "is a link"),
        (member("model/trainer.py"), b"print()", "no file of a model"),
        (member("model/plans.json"), b"\0" * (archives.RATIO_COUNTS_FROM + 1), "times its size"),
    ],
)
def test_a_zip_file_with_a_member_of_that_kind_is_not_unpacked(
    info: zipfile.ZipInfo, content: bytes, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(info, content)
    monkeypatch.setattr("nnunet_uhf.guidance.verify.unpack_models", None)
    (fault,) = faults(tmp_path / "model.zip")
    assert told in fault


def test_a_damaged_member_a_name_twice_and_a_zip_file_of_something_else_are_faults(model: Path, tmp_path: Path) -> None:
    path = zipped(model, tmp_path / "model.zip")
    content = bytearray(path.read_bytes())
    content[content.index(b"checkpoint_final.pth") + 5000] ^= 255
    path.write_bytes(content)
    assert "is damaged" in faults(path)[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/plans.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/plans.json", "{}")
    assert "is there twice" in faults(path)[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/notes.json", "{}")
    assert "holds no model" in faults(path)[0]
    path.write_bytes(b"PK no zip")
    with pytest.raises(UHFError, match="cannot be read as a zip file"):
        verify(path)


def test_the_verb_ends_with_0_or_with_2_and_a_line_a_fault(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(model)])
    assert stopped.value.code == 0
    assert "weights" in capsys.readouterr().out
    edit_plans(model, lambda block: block["keeper"].update(sha256="0" * 64))
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(model)])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
