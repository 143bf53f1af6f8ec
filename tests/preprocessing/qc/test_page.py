"""`nnunet-uhf qc`: pictures of pairs that are to scale, the right way round, and there for every case."""

from __future__ import annotations

import json
import re
import urllib.parse
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from helpers.tiny_data import make_channel, make_labels, write_image
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.planes import PLANES, Slice, cut
from nnunet_uhf.preprocessing.datasets.write import write_paired_dataset, write_segmentation_dataset
from nnunet_uhf.preprocessing.qc.findings import exchanged_sides, likeness, suspects, unusual_volumes, volumes_ml
from nnunet_uhf.preprocessing.qc.layout import PIXELS, central_slices, square_pixels
from nnunet_uhf.preprocessing.qc.page import write_pictures
from nnunet_uhf.preprocessing.qc.pictures import STRUCTURE_COLOURS, draw_labelled, draw_pair, make_pair

# array axes run posterior, superior, right, and a little oblique; 2 x 1 x 1.5 mm
STORED = np.array([[0.05, 0.02, 1.5, -25], [-2, 0.03, 0, 20], [0.04, 1, 0.02, -30], [0, 0, 0, 1]])
SHAPE = (20, 30, 28)


def pairs(root: Path, names: tuple[str, ...] = ("anna", "béla 2 #$1"), shape: tuple[int, ...] = SHAPE) -> Path:
    """A paired dataset of made subjects."""
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        labels = make_labels(shape, rng)
        for folder, channel in (("low", "LF"), ("high", "HF")):
            write_image(root / folder / f"{name}.nii.gz", make_channel(labels, channel, rng), STORED)
        write_image(root / "labels" / f"{name}.nii.gz", labels, STORED)
    return write_paired_dataset(
        root / "Dataset701_Pairs",
        sources=case_files(root / "low"),
        targets=case_files(root / "high"),
        labels=case_files(root / "labels"),
        label_names={"background": 0, "CSF": 1, "GM": 2, "WM": 3},
        source_field_T=0.36,
        target_field_T=3.0,
        route="simulated",
        architecture={"base_features": 4},
    )


@pytest.mark.parametrize(
    ("plane", "world", "row", "column"),
    [
        ("axial", (12, 0, 0), "middle", "left"),  # the patient's right
        ("axial", (0, 12, 0), "top", "middle"),  # front
        ("coronal", (12, 0, 0), "middle", "left"),
        ("coronal", (0, 0, 12), "top", "middle"),
        ("sagittal", (0, 12, 0), "middle", "left"),
        ("sagittal", (0, 0, 12), "top", "middle"),
    ],
)
def test_a_spot_in_the_patient_appears_on_the_side_with_its_mark(
    plane: str, world: tuple[int, int, int], row: str, column: str
) -> None:
    rng = np.random.default_rng(0)
    flips = rng.permutation(3)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) * [-1, 1, -1])[:, flips]
    affine[:3, 3] = -affine[:3, :3] @ [20, 20, 20]
    volume = np.zeros((41, 41, 41), np.float32)
    voxel = np.linalg.inv(affine) @ [*world, 1]
    volume[tuple(voxel[:3].round().astype(int))] = 1
    pair = make_pair(volume, volume, volume > -1, affine)
    shown = cut(pair.source, Slice(plane, 20))
    (found,) = np.argwhere(shown)
    names = [("top", "middle", "bottom"), ("left", "middle", "right")]
    assert [n[int(np.sign(i - 20)) + 1] for n, i in zip(names, found, strict=True)] == [row, column]
    marks = dict(zip(("left", "right", "top", "bottom"), PLANES[plane].marks, strict=True))
    direction = "RAS"[int(np.argmax(world))]
    assert marks[column if row == "middle" else row] == direction


def test_voxel_sizes_follow_the_axes_of_a_scan_stored_in_another_order() -> None:
    volume = np.zeros(SHAPE, np.float32)
    pair = make_pair(volume, volume, volume == 0, STORED)
    assert pair.source.shape == (28, 20, 30)
    assert pair.spacing_mm == pytest.approx((1.5, 2, 1), rel=0.01)


def test_planes_go_through_the_centre_of_the_mask() -> None:
    mask = np.zeros((30, 32, 34), bool)
    mask[4:9, 10:15, 20:25] = True
    assert central_slices(mask) == [Slice("axial", 22), Slice("coronal", 12), Slice("sagittal", 6)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((30, 30, 5), [Slice("axial", 0), Slice("axial", 2), Slice("axial", 4)]),
        ((30, 2, 30), [Slice("coronal", 0), Slice("coronal", 1)]),
        ((1, 30, 30), [Slice("sagittal", 0)]),
    ],
)
def test_thin_volumes_show_their_slices(shape: tuple[int, ...], expected: list[Slice]) -> None:
    assert central_slices(np.ones(shape, bool)) == expected


def test_a_ball_stays_round_whatever_the_voxels_are() -> None:
    spacing = (1.0, 3.0)
    rows, columns = np.meshgrid(np.arange(60) - 29.5, 3 * (np.arange(20) - 9.5), indexing="ij")
    ball = (np.hypot(rows, columns) < 20).astype(np.float32)
    shown = square_pixels(ball, spacing, 0.5) > 0.5
    assert shown.shape == (120, 120)
    height, width = (shown.any(axis=axis).sum() for axis in (1, 0))
    assert height == pytest.approx(80, abs=2)
    assert width == pytest.approx(80, abs=4)  # voxels of 3 mm cannot tell better


@pytest.mark.parametrize("shape", [(30, 34, 32), (30, 34, 4), (30, 34, 1), (1, 34, 30)])
def test_every_shape_gives_a_picture_with_edges_and_outline(shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros(shape, bool)
    mask[tuple(slice(n // 4, n - n // 4) for n in shape)] = True
    image = (mask * 100 + rng.standard_normal(shape)).astype(np.float32)
    draw_pair(
        make_pair(image, image, mask, np.diag([1.0, 1, 4, 1])),
        tmp_path / "a.png",
        title="$a_1",
        source_name="LF",
        target_name="HF",
    )
    picture = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    assert 4 * PIXELS * 0.3 < picture.shape[1] <= 4 * PIXELS + 40
    orange = (picture[..., 0] > 0.8) & (picture[..., 1] > 0.5) & (picture[..., 1] < 0.7) & (picture[..., 2] < 0.1)
    blue = (picture[..., 2] > 0.8) & (picture[..., 0] < 0.5)
    assert orange.sum() > 100
    assert blue.sum() > 100


def test_an_image_that_is_constant_or_a_mask_of_one_voxel_still_gives_a_picture(tmp_path: Path) -> None:
    flat = np.ones((12, 12, 12), np.float32)
    mask = np.zeros(flat.shape, bool)
    mask[0, 11, 5] = True
    pair = make_pair(flat, flat, mask, np.eye(4))
    draw_pair(pair, tmp_path / "a.png", title="flat", source_name="LF", target_name="HF")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert likeness(flat, flat, mask) == 1


def test_likeness_ignores_contrast_and_falls_with_a_shift() -> None:
    rng = np.random.default_rng(0)
    labels = make_labels((30, 30, 30), rng)
    low, high = make_channel(labels, "LF", rng), make_channel(labels, "HF", rng)
    aligned = likeness(low, high, labels > 0)
    assert likeness(low, 200 - high, labels > 0) == pytest.approx(aligned, abs=0.02)
    assert likeness(np.roll(low, 3, axis=0), high, labels > 0) < aligned - 0.02


def test_only_values_far_below_the_others_are_suspect() -> None:
    assert suspects([1.2, 1.21, 1.19, 1.2, 1.22, 1.18, 1.2, 1.05]) == [False] * 7 + [True]
    assert suspects([1.2, 1.2, 1.2, 0.5]) == [False] * 4


def test_the_page_shows_every_case_and_refers_to_files_that_are_there(tmp_path: Path) -> None:
    page = write_pictures(pairs(tmp_path), tmp_path / "qc")
    text = page.read_text(encoding="utf-8")
    names = [urllib.parse.unquote(name) for name in re.findall(r'<img src="([^"]+)"', text)]
    assert names == ["anna.png", "béla 2 #$1.png"]
    assert sorted(path.name for path in page.parent.iterdir()) == [*names, "index.html"]
    assert "28 x 20 x 30 voxels of 1.5 x 2 x 1 mm" in text
    assert "LF (0.36 T)" in text
    assert "http" not in text


def test_a_dataset_that_lists_its_files_is_shown_too(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, ("anna",))
    description = json.loads((dataset / "dataset.json").read_text())
    images = [f"imagesTr/anna_{channel:04d}.nii.gz" for channel in (0, 1)]
    description["dataset"] = {"listed": {"images": images, "label": "labelsTr/anna.nii.gz"}}
    (dataset / "dataset.json").write_text(json.dumps(description))
    assert (write_pictures(dataset, tmp_path / "qc").parent / "listed.png").is_file()


def test_what_the_conversion_measured_stands_beside_the_pair(tmp_path: Path) -> None:
    dataset = pairs(tmp_path)
    measured = {"outline_mm": 1.25, "outline_p95_mm": 4.0, "reasons": []}
    cases = {
        "anna": {"alignment": measured},
        "béla 2 #$1": {"alignment": {**measured, "outline_mm": 7.0, "reasons": ["outlines 7.0 mm apart"]}},
    }
    (dataset / "conversion.json").write_text(json.dumps({"converter": "paired", "cases": cases}))
    simulated = write_pictures(dataset, tmp_path / "simulated").read_text(encoding="utf-8")
    assert 'class="warning"' not in simulated  # aligned by construction
    assert "outlines 7.0 mm apart (95 %" in simulated
    description = json.loads((dataset / "dataset.json").read_text())
    description["uhf"]["route"] = "paired"
    (dataset / "dataset.json").write_text(json.dumps(description))
    text = write_pictures(dataset, tmp_path / "qc").read_text(encoding="utf-8")
    anna, bela = text.split("<article")[1:]
    assert "outlines 1.2 mm apart (95 %: 4.0 mm)" in anna
    assert 'class="warning"' not in anna
    assert '<p class="warning">outlines 7.0 mm apart</p>' in bela


def labelled(root: Path, *, exchanged: bool = False) -> Path:
    """A labelled dataset of two channels, left and right in the names; the left half lies on the right on request."""
    labels = np.zeros((16, 18, 20), np.uint8)
    halves = (slice(2, 8), slice(8, 14))
    for value, half in zip((2, 1) if exchanged else (1, 2), halves, strict=True):
        labels[half, 4:14, 4:16] = value
    for channel in ("T1w", "FLAIR"):
        write_image(root / channel / "eva.nii.gz", (50.0 * labels + 10).astype(np.float32), np.eye(4))
    write_image(root / "labels" / "eva.nii.gz", labels, np.eye(4))
    return write_segmentation_dataset(
        root / "Dataset702_Sides",
        channels={name: case_files(root / name) for name in ("T1w", "FLAIR")},
        labels=case_files(root / "labels"),
        label_names={"background": 0, "Left-Half": 1, "Right-Half": 2, "Nowhere": 3},
    )


@pytest.mark.parametrize("exchanged", [False, True])
def test_labelled_scans_show_every_channel_and_which_structures_are_amiss(exchanged: bool, tmp_path: Path) -> None:
    page = write_pictures(labelled(tmp_path, exchanged=exchanged), tmp_path / "qc")
    text = page.read_text(encoding="utf-8")
    assert "Cases of Dataset702_Sides" in text
    assert "2 of 3 structures" in text
    assert '<p class="warning">Nowhere is missing</p>' in text
    assert ("Left-Half lies to the right of Right-Half" in text) is exchanged
    picture = matplotlib.image.imread(page.parent / "eva.png")
    assert picture.shape[1] > 4 * 0.5 * PIXELS  # both channels, labels, outlines


def test_values_without_a_name_are_told_and_fractions_refused(tmp_path: Path) -> None:
    dataset = labelled(tmp_path)
    path = dataset / "labelsTr" / "eva.nii.gz"
    labels = nib.load(path).get_fdata()
    labels[0, 0, 0] = 200
    write_image(path, labels.astype(np.uint8), np.eye(4))
    text = write_pictures(dataset, tmp_path / "qc").read_text(encoding="utf-8")
    assert "label 200 has no name in dataset.json" in text
    write_image(path, (0.9 * labels).astype(np.float32), np.eye(4))
    with pytest.raises(UHFError, match=r"eva\.nii\.gz holds values that are no whole numbers"):
        write_pictures(dataset, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_regions_are_structures_and_the_ignore_label_has_a_name(tmp_path: Path) -> None:
    dataset = labelled(tmp_path)
    labels = {"background": 0, "Both": [1, 2], "Right-Half": 2, "ignore": 3}
    change_json(dataset, labels=labels, regions_class_order=[1, 2])
    path = dataset / "labelsTr" / "eva.nii.gz"
    values = nib.load(path).get_fdata()
    values[0, 0, 0] = 3
    write_image(path, values.astype(np.uint8), np.eye(4))
    text = write_pictures(dataset, tmp_path / "qc").read_text(encoding="utf-8")
    assert "2 of 2 structures" in text
    assert 'class="warning"' not in text


def test_every_structure_has_a_colour_and_its_outline_is_hollow(tmp_path: Path) -> None:
    labels = np.zeros((30, 30, 30), np.int64)
    labels[4:26, 4:15, 4:26], labels[4:26, 15:26, 4:26] = 1, 2
    draw_labelled({"T1w": np.ones(labels.shape, np.float32)}, labels, (1, 1, 1), tmp_path / "a.png", title="a")
    picture = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    image, filled, outlined = np.array_split(picture, 3, axis=1)
    for colour in (np.array(shade[:3]) for shade in STRUCTURE_COLOURS[:2]):
        blended = 0.5 * colour + 0.5 * np.median(image, axis=(0, 1))
        inside, border = (
            int((np.abs(part - shade).max(axis=-1) < 0.02).sum())
            for part, shade in ((filled, blended), (outlined, colour))
        )
        assert (np.abs(image - colour).max(axis=-1) > 0.02).all()
        assert inside > 10 * border > 1000


def test_sides_are_read_from_names_of_every_style() -> None:
    labels = np.zeros((10, 4, 4), np.int64)
    labels[1:3], labels[7:9] = 1, 2
    for left, right in (("Left-Putamen", "Right-Putamen"), ("ctx_lh_insula", "ctx_rh_insula"), ("x left", "X Right")):
        assert exchanged_sides(labels, {left: (1,), right: (2,)}) == []
        (found,) = exchanged_sides(labels, {left: (2,), right: (1,)})
        assert found.startswith(f"{left} lies to the right of {right}")
    assert exchanged_sides(labels, {"Left-Putamen": (2,), "Right-Caudate": (1,)}) == []
    assert exchanged_sides(labels, {"Left-Putamen": (2,), "Right-Putamen": (5,)}) == []


def test_volumes_are_those_of_regions_and_far_ones_are_named() -> None:
    labels = np.repeat([0, 1, 2, 2, 4], 10).reshape(10, 5, 1)
    assert volumes_ml(labels, {"a": (1,), "b": (1, 2), "c": (3,)}, 100.0) == {"a": 1.0, "b": 3.0, "c": 0.0}
    usual = [{"a": 10 + 0.1 * k, "b": 5.0 + 0.1 * k} for k in range(8)]
    assert unusual_volumes([*usual, {"a": 10.2, "b": 9.0}])[8] == ["b has 9 ml, the median case 5.4"]
    assert unusual_volumes([*usual, {"a": 10.2, "b": 0.0}]) == [[]] * 8 + [["b is missing"]]
    assert unusual_volumes([{"a": 1.0}, {"a": 100.0}]) == [[], []]


def change_json(dataset: Path, /, **changes: Any) -> None:
    path = dataset / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def spoil_task(dataset: Path) -> str:
    change_json(dataset, uhf={"target": "HF", "target_field_T": 3.0})
    return "uhf.*source"


def spoil_channels(dataset: Path) -> str:
    change_json(dataset, uhf=None, channel_names=["LF", "HF"])
    return "dataset.json has no usable 'channel_names'"


def spoil_labels(dataset: Path) -> str:
    change_json(dataset, uhf=None, labels={"background": 0, "brain": "one"})
    return "dataset.json: 'labels' are not as nnU-Net wants them"


def spoil_record(dataset: Path) -> str:
    (dataset / "conversion.json").write_text('{"converter": "paired", "cases": {"anna": {}}}')
    return "conversion.json is not what convert paired writes"


def spoil_ending(dataset: Path) -> str:
    change_json(dataset, file_ending=".png")
    return "file_ending '.png'"


def spoil_no_json(dataset: Path) -> str:
    (dataset / "dataset.json").unlink()
    return "dataset.json does not exist"


def spoil_no_cases(dataset: Path) -> str:
    (dataset / "imagesTr" / "anna_0000.nii.gz").unlink()
    return "imagesTr holds no file that ends in _0000.nii.gz"


def spoil_list(dataset: Path) -> str:
    change_json(dataset, dataset={"anna": {"images": ["imagesTr/anna_0000.nii.gz"], "label": "labelsTr/anna.nii.gz"}})
    return "lists too few images of case anna"


def spoil_missing_target(dataset: Path) -> str:
    (dataset / "imagesTr" / "anna_0001.nii.gz").unlink()
    return "anna_0001.nii.gz does not exist"


def spoil_grid(dataset: Path) -> str:
    write_image(dataset / "imagesTr" / "anna_0001.nii.gz", np.ones((20, 30, 27), np.float32), STORED)
    return r"anna_0001.nii.gz has shape \(20, 30, 27\)"


def test_an_odd_case_is_a_line_of_the_page_and_the_others_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = pairs(tmp_path, names=("anna", "carl"))
    write_image(dataset / "labelsTr" / "anna.nii.gz", np.zeros(SHAPE, np.uint8), STORED)
    with pytest.raises(SystemExit) as left:
        main(["qc", "-i", str(dataset), "-o", str(tmp_path / "out")])
    assert left.value.code == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["carl.png", "index.html"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "labelsTr/anna.nii.gz is empty" in page
    assert page.count("<img") == 1
    assert "1 case was left out" in capsys.readouterr().err


def test_a_label_map_may_be_empty_where_that_is_a_finding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = make_labels(SHAPE, rng)
    for name, given in (("healthy", np.zeros_like(labels)), ("ill", np.where(labels == 1, 1, 0).astype(np.uint8))):
        write_image(tmp_path / "images" / f"{name}.nii.gz", make_channel(labels, "LF", rng), STORED)
        write_image(tmp_path / "labels" / f"{name}.nii.gz", given, STORED)
    dataset = write_segmentation_dataset(
        tmp_path / "Dataset703_Lesions",
        channels={"T1w": case_files(tmp_path / "images")},
        labels=case_files(tmp_path / "labels"),
        label_names={"background": 0, "lesion": 1},
    )
    page = write_pictures(dataset, tmp_path / "out").read_text()
    assert (tmp_path / "out" / "healthy.png").is_file()
    assert page.count("lesion is missing") == 1


def spoil_empty(dataset: Path) -> str:
    path = dataset / "labelsTr" / "anna.nii.gz"
    write_image(path, np.zeros(SHAPE, np.uint8), nib.load(path).affine)
    return "labelsTr/anna.nii.gz is empty"


def spoil_nan(dataset: Path) -> str:
    write_image(dataset / "imagesTr" / "anna_0000.nii.gz", np.full(SHAPE, np.nan, np.float32), STORED)
    return "anna_0000.nii.gz contains NaN"


@pytest.mark.parametrize("spoil", [value for name, value in list(globals().items()) if name.startswith("spoil_")])
def test_what_the_user_can_put_right_is_one_line_that_names_the_file(tmp_path: Path, spoil: Any) -> None:
    dataset = pairs(tmp_path, ("anna",))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UHFError, match=spoil(dataset)) as caught:
        write_pictures(dataset, tmp_path / "qc")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = pairs(tmp_path, ("anna",))
    with pytest.raises(SystemExit) as left:
        main(["qc", "-i", str(dataset), "-o", str(tmp_path / "qc")])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'qc' / 'index.html'}\n"
    with pytest.raises(SystemExit) as left:
        main(["qc", "-i", str(tmp_path / "none"), "-o", str(tmp_path / "other")])
    assert left.value.code == 2
    assert "none is not a folder" in capsys.readouterr().err
