from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.keeper_samples import architecture, make_header, refused, rewrite_header, some_weights, write
from helpers.support import REPOSITORY
from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.keepers.file import (
    build_enhancer,
    build_keeper,
    find_keepers,
    read_header,
    read_keeper,
    weights_sha256,
    write_keeper,
)
from nnunet_uhf.keepers.header import header_json
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.teacher import TeacherDecoder

DECODER = {"dim": 2, "base_features": 4}


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    weights = some_weights()
    decoder = {"output.bias": torch.ones(1)}
    path = tmp_path / "new folder" / "kkn.safetensors"
    header = make_header(decoder_architecture=DECODER, citation="Someone et al.\nA journal, 2025")
    written = write_keeper(path, header=header, keeper_state=weights, decoder_state=decoder)
    file = read_keeper(path)
    assert file.header == written == read_header(path)
    assert (file.header.spacing_mm, file.header.citation) == (header.spacing_mm, header.citation)
    assert file.header.sha256 == weights_sha256(weights)
    assert file.header.decoder_sha256 == weights_sha256(decoder)
    assert file.decoder_state is not None
    assert file.decoder_state.keys() == decoder.keys()
    assert file.keeper_state.keys() == weights.keys()
    for name, tensor in weights.items():
        assert file.keeper_state[name].dtype == tensor.dtype
        assert torch.equal(file.keeper_state[name], tensor)
    assert list(path.parent.iterdir()) == [path]


def test_the_weight_hash_depends_on_names_types_shapes_and_values_only() -> None:
    weights = some_weights()
    reference = weights_sha256(weights)
    reordered = dict(reversed(weights.items()))
    strided = weights | {"level.weight": weights["level.weight"].transpose(0, 1).contiguous().transpose(0, 1)}
    trained = weights | {"scalar": torch.nn.Parameter(weights["scalar"])}
    assert weights_sha256(reordered) == weights_sha256(strided) == weights_sha256(trained) == reference
    weight = weights["level.weight"]
    for other in (weight.double(), weight.reshape(2, 4, 3, 3), weight + 1e-6, weight.flip(0)):
        assert weights_sha256(weights | {"level.weight": other}) != reference
    renamed = {name.replace("half", "whole"): tensor for name, tensor in weights.items()}
    assert weights_sha256(renamed) != reference


def test_the_weight_hash_never_changes_between_releases() -> None:
    state = {"b": torch.arange(3, dtype=torch.float32), "a": torch.tensor(1.5)}
    assert weights_sha256(state) == "1c8bdea2ce5d766877d018584273b8c745dc8caf3e7a3ba60327dd3126ace1dd"


def test_a_flipped_bit_in_the_weights_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    read_header(path)  # the header itself is whole
    refused(path, "SHA-256", "damaged or altered")


def test_a_header_with_another_hash_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors")
    refused(rewrite_header(path, lambda header: header.update(sha256="0" * 64)), "SHA-256")


def test_altered_decoder_weights_are_found(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    header = make_header(decoder_architecture=DECODER)
    write_keeper(path, header=header, keeper_state=some_weights(), decoder_state={"output.bias": torch.ones(1)})
    refused(rewrite_header(path, lambda header: header.update(decoder_sha256="0" * 64)), "SHA-256")


def test_a_decoder_the_header_does_not_mention_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    header = make_header(decoder_architecture=DECODER)
    write_keeper(path, header=header, keeper_state=some_weights(), decoder_state={"output.bias": torch.ones(1)})
    rewrite_header(path, lambda header: header.update(decoder_sha256=None, decoder_architecture=None))
    refused(path, "decoder")


class Explosive:
    """Unpickling it would leave a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_by_the_name_of_safetensors_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "kkn.safetensors"
    path.write_bytes(pickle.dumps(Explosive(), protocol=protocol))
    refused(path, "not", "safetensors", "export-keeper", reader=read_header)
    refused(path, "not", "safetensors", "export-keeper")
    assert not (tmp_path / "unpickled").exists()


def test_a_keeper_is_read_whatever_the_length_of_its_header(tmp_path: Path) -> None:
    # a safetensors file begins with that length: some lengths look like the first bytes of a pickle
    for length in range(0, 800, 8):
        path = write(tmp_path / "kkn.safetensors", citation="x" * length)
        assert len(read_header(path).citation) == length


def test_a_torch_checkpoint_by_the_name_of_safetensors_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    torch.save({"network_weights": some_weights()}, path)
    refused(path, "torch checkpoint", "not safetensors")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("plans.json", "{}")
    refused(path, "zip")


@pytest.mark.parametrize("kept", [0, 5, 8, 9, 100, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "kkn.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "safetensors")


def test_a_huge_container_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    path.write_bytes((5_000_000).to_bytes(8, "little") + b"{" + b" " * 5_000_000)
    refused(path, "header")


def test_safetensors_without_our_header_are_no_keeper(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(some_weights(), path)
    refused(path, "no keeper")


def test_tensors_of_neither_keeper_nor_decoder_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors")
    metadata = {"nnunet_uhf": header_json(read_header(path))}
    save_file(load_file(path) | {"surprise": torch.ones(1)}, path, metadata=metadata)
    refused(path, "neither")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "does not exist")
    refused(tmp_path, "not a file")


def test_the_writer_refuses_what_the_reader_would_refuse(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    for changes in ({"route": "magic"}, {"metrics": {"psnr": float("inf")}}, {"dataset": object()}):
        with pytest.raises(KeeperFileError, match="kkn"):
            write(path, **changes)
    with pytest.raises(KeeperFileError, match="NaN"):
        write_keeper(path, header=make_header(), keeper_state={"weight": torch.tensor([1.0, float("nan")])})
    with pytest.raises(KeeperFileError, match="together"):
        write_keeper(path, header=make_header(decoder_architecture=DECODER), keeper_state=some_weights())
    with pytest.raises(KeeperFileError, match="must end in"):
        write(tmp_path / "kkn.pth")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    bad = {"weight": torch.tensor([1.0, float("inf")])}
    write(path)
    metadata = {"nnunet_uhf": json.dumps(json.loads(header_json(read_header(path))) | {"sha256": weights_sha256(bad)})}
    save_file({"keeper.weight": bad["weight"]}, path, metadata=metadata)
    refused(path, "NaN or infinity")


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import nnunet_uhf.keepers.file as keeper_file
from helpers.keeper_samples import make_header, some_weights

def die(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)

keeper_file.os.fsync = die
weights = {name: tensor * 2 for name, tensor in some_weights().items()}
keeper_file.write_keeper(sys.argv[1], header=make_header(), keeper_state=weights)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_a_kill_during_the_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors")
    before = path.read_bytes()
    arguments = [sys.executable, "-c", KILLED_WRITER, str(path), str(REPOSITORY / "tests")]
    killed = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert path.read_bytes() == before
    assert find_keepers(str(tmp_path)) == [path]  # what is left of the new file is not taken for a keeper


def test_a_keeper_file_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    assert write(tmp_path / "keeper.safetensors").stat().st_mode == plain.stat().st_mode


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "kkn.safetensors")
    before = path.read_bytes()

    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(UHFError, match="No space left"):
        write(path, channel="T2w")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_keepers_are_found_in_files_folders_and_lists(tmp_path: Path) -> None:
    folder, alone = tmp_path / "folder", write(tmp_path / "alone.safetensors")
    second, first = write(folder / "b.safetensors"), write(folder / "a.safetensors")
    (folder / "notes.txt").write_text("no keeper")
    assert find_keepers(None) == find_keepers("") == []
    assert find_keepers(str(alone)) == [alone]
    assert find_keepers(str(folder)) == [first, second]
    mount = folder / f"smb-share{os.pathsep}server=nas{os.pathsep}share=lab"  # as file managers name them
    mount.mkdir()
    other = shutil.copy(alone, mount / "other.safetensors")
    assert find_keepers(f"{mount}{os.pathsep}{alone}") == [Path(other), alone]
    assert find_keepers(f"{alone}{os.pathsep}{mount}") == [alone, Path(other)]
    shutil.rmtree(mount)
    assert find_keepers(os.pathsep.join([str(alone), "", str(folder), str(first)])) == [alone, first, second]


def test_a_path_of_the_variable_that_holds_no_keeper_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "kkn.safetensors")
    missing = tmp_path / "missing.safetensors"
    with pytest.raises(KeeperFileError, match="does not exist"):
        find_keepers(os.pathsep.join([str(tmp_path), str(missing)]))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(KeeperFileError, match="holds no keeper file"):
        find_keepers(str(empty))


def test_a_keeper_built_from_its_file_gives_the_same_guides(tmp_path: Path) -> None:
    keeper = KnowledgeKeeper(**architecture()).eval()
    path = tmp_path / "kkn.safetensors"
    write_keeper(path, header=make_header(architecture=keeper.config()), keeper_state=keeper.state_dict())
    built = build_keeper(read_keeper(path))
    assert not built.training
    assert not any(parameter.requires_grad for parameter in built.parameters())
    assert weights_sha256(built.state_dict()) == read_header(path).sha256
    image = torch.randn(2, 1, 32, 32)
    for one, other in zip(keeper(image), built(image), strict=True):
        assert torch.equal(one, other)


def test_keeper_and_decoder_together_enhance(tmp_path: Path) -> None:
    keeper, decoder = KnowledgeKeeper(**architecture()), TeacherDecoder(dim=2, base_features=4)
    path = tmp_path / "kkn.safetensors"
    header = make_header(architecture=keeper.config(), decoder_architecture=decoder.config())
    write_keeper(path, header=header, keeper_state=keeper.state_dict(), decoder_state=decoder.state_dict())
    enhancer = build_enhancer(read_keeper(path))
    image = torch.randn(1, 1, 32, 32)
    assert not enhancer.training
    expected = decoder.eval()(keeper.eval().features(image), (32, 32))
    assert torch.equal(enhancer(image), expected)


def test_a_keeper_without_decoder_says_so_when_asked_to_enhance(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors")
    refused(path, "no decoder", reader=lambda path: build_enhancer(read_keeper(path)))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    keeper = KnowledgeKeeper(**architecture())
    state = dict(keeper.state_dict())
    path = tmp_path / "kkn.safetensors"
    wider = make_header(architecture=architecture() | {"base_features": 64})
    write_keeper(path, header=wider, keeper_state=state)
    refused(path, "not those of its architecture", reader=lambda path: build_keeper(read_keeper(path)))
    state.pop(next(iter(state)))
    write_keeper(path, header=make_header(), keeper_state=state)
    refused(path, "file lacks it", reader=lambda path: build_keeper(read_keeper(path)))
