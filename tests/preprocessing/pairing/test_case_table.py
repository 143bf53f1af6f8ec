from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.pairing.case_table import cases_of_folders, cases_of_subjects, cases_of_table


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for name in ("lf/anna.nii.gz", "lf/béla 2.nii", "hf/anna.nii.gz", "hf/béla 2.nii.gz", "masks/anna.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def table(folder: Path, text: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_cases_of_folders_go_by_name_whatever_the_ending(scans: Path) -> None:
    cases = cases_of_folders(scans / "lf", scans / "hf")
    assert list(cases) == ["anna", "béla 2"]
    assert cases["béla 2"].files == {"lf": scans / "lf" / "béla 2.nii", "hf": scans / "hf" / "béla 2.nii.gz"}


def test_a_scan_or_mask_without_its_partner_is_refused(scans: Path) -> None:
    with pytest.raises(UHFError, match="masks holds no béla 2"):
        cases_of_folders(scans / "lf", scans / "hf", masks=scans / "masks")
    with pytest.raises(UHFError, match="not both"):
        cases_of_folders(scans / "lf", scans / "hf", masks=scans / "masks", labels=scans / "masks")
    (scans / "lf" / "anna.nii.gz").unlink()
    with pytest.raises(UHFError, match="lf holds no anna"):
        cases_of_folders(scans / "lf", scans / "hf")


def test_a_table_names_files_relative_to_itself_and_voxel_sizes_by_case(scans: Path) -> None:
    text = "\ufeffcase, lf,hf,mask,spacing_hf\nA,lf/anna.nii.gz,hf/anna.nii.gz,masks/anna.nii.gz,0.9 0.9 5\n"
    cases = cases_of_table(table(scans, text))
    assert cases["A"].files["mask"] == scans / "masks" / "anna.nii.gz"
    assert (cases["A"].spacing_lf, cases["A"].spacing_hf) == (None, (0.9, 0.9, 5.0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("case,lf\nA,lf/anna.nii.gz\n", "no column 'hf'"),
        ("case,lf,hf,age\n", "unknown or repeated column 'age'"),
        ("case,lf,hf,mask,labels\n", "columns mask and labels"),
        ("case,lf,hf\n", "holds no case"),
        ("case,lf,hf\nA,lf/anna.nii.gz,hf/no.nii.gz\n", "no.nii.gz does not exist, named in line 2"),
        ("case,lf,hf\nA,lf/anna.nii.gz,\n", "line 2 .* has an empty field"),
        ("case,lf,hf\nA,lf/anna.nii.gz,hf/anna.nii.gz,x\n", "more fields than columns"),
        ("case,lf,hf\n" + 2 * "A,lf/anna.nii.gz,hf/anna.nii.gz\n", "line 3 .* names case A again"),
        ("case,lf,hf,spacing_lf\nA,lf/anna.nii.gz,hf/anna.nii.gz,1x1\n", "three lengths"),
    ],
)
def test_a_wrong_table_is_one_line_that_names_the_place(scans: Path, text: str, reason: str) -> None:
    with pytest.raises(UHFError, match=reason) as error:
        cases_of_table(table(scans, text))
    assert "\n" not in str(error.value)


def test_a_missing_table_and_one_of_another_encoding_are_refused(scans: Path) -> None:
    with pytest.raises(UHFError, match="cannot be read"):
        cases_of_table(scans / "absent.csv")
    (scans / "pairs.csv").write_bytes(b"case,lf,hf\nb\xe9la,a,b\n")
    with pytest.raises(UHFError, match="no CSV table in UTF-8"):
        cases_of_table(scans / "pairs.csv")


def test_an_empty_last_line_of_a_spreadsheet_is_no_case(scans: Path) -> None:
    path = table(scans, "case,lf,hf\na,lf/anna.nii.gz,hf/anna.nii.gz\n,,\n")
    assert list(cases_of_table(path)) == ["a"]


@pytest.fixture
def subjects(tmp_path: Path) -> Path:
    """The paper's layout."""
    for name in ("S_01/3t_norm.nii", "S_01/7t_norm.nii", "S_02/3t_norm.nii", "S_02/7t_norm.nii", "S_02/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_subjects_folders_of_the_paper_are_pairs_by_their_field_strengths(subjects: Path) -> None:
    cases = cases_of_subjects(subjects)
    assert list(cases) == ["S_01", "S_02"]
    assert cases["S_02"].files == {"lf": subjects / "S_02/3t_norm.nii", "hf": subjects / "S_02/7t_norm.nii"}


def test_other_field_strengths_and_endings_are_pairs_too_and_the_lower_one_is_the_source(subjects: Path) -> None:
    for name in ("S_01/3t_norm.nii", "S_01/7t_norm.nii"):
        (subjects / name).unlink()
    for name in ("S_01/3T.nii.gz", "S_01/0.064T.nii.gz"):
        (subjects / name).touch()
    assert cases_of_subjects(subjects)["S_01"].files == {
        "lf": subjects / "S_01/0.064T.nii.gz",
        "hf": subjects / "S_01/3T.nii.gz",
    }


def test_a_scan_that_is_named_by_its_field_alone_goes_before_copies_of_it(subjects: Path) -> None:
    (subjects / "S_01/3t.nii.gz").touch()
    assert cases_of_subjects(subjects)["S_01"].lf == subjects / "S_01/3t.nii.gz"
    (subjects / "S_02/3t_raw.nii").touch()
    with pytest.raises(UHFError, match=r"S_02 holds 3t_norm\.nii and 3t_raw\.nii: keep one"):
        cases_of_subjects(subjects)


def test_a_subject_with_one_field_strength_and_a_folder_without_subjects_are_told(subjects: Path) -> None:
    (subjects / "S_02/7t_norm.nii").unlink()
    with pytest.raises(UHFError, match=r"S_02 must hold scans of two field strengths.*\(found: 3 T\)"):
        cases_of_subjects(subjects)
    (subjects / "empty").mkdir()
    with pytest.raises(UHFError, match="holds no subject"):
        cases_of_subjects(subjects / "empty")
    with pytest.raises(UHFError, match="is not a folder"):
        cases_of_subjects(subjects / "none")
