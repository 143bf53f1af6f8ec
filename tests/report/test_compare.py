"""`nnunet-uhf compare` from files to page."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.report_samples import (
    AFFINE,
    CASES,
    DATASET,
    dataset_json,
    keeper_block,
    spoiled,
    truth,
    write_labels,
    write_model,
    write_raw,
)
from helpers.tiny_data import REGIONS, write_image
from nnunet_uhf.cli import main
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.evaluation.measuring import Case, measure_cases
from nnunet_uhf.nnunet.labels import structures_of_values
from nnunet_uhf.report.compare import compare

GOOD = {case: spoiled(case, 0.1) for case in CASES}
BAD = {case: spoiled(case, 0.2) for case in CASES}
FILES = ["compare.csv", "compare.json", "index.html"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders with a raw dataset, whose labels are the truth."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    write_raw(tmp_path)
    return tmp_path


def result(record: dict[str, Any], structure: str, metric: str, *, group: list[str] | None = None) -> dict[str, Any]:
    wanted = (structure, metric, group)
    (found,) = [r for r in record["results"] if (r["structure"], r["metric"], r["group"]) == wanted]
    return dict(found)


class Page(HTMLParser):
    """Collects what a page refers to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        self.references += [str(value) for name, value in attributes if name in names]


def test_identical_predictions_differ_by_exactly_nothing(root: Path) -> None:
    models = [write_model(root, name, BAD) for name in ("nnUNetTrainer", "UHFTrainer")]
    record = compare(models, [], root / "out")
    assert record["cases"] == list(CASES)
    for found in record["results"]:
        paired = found["paired"]
        assert (paired["difference"], paired["ci"], paired["p"]) == (0.0, [0.0, 0.0], 1.0)
        assert (paired["wins"], paired["losses"], paired["ties"]) == (0, 0, paired["n"])
        assert found["p_holm"] == (1.0 if found["group"] is None else None)
    assert record["verdicts"]["UHFTrainer"]["kind"] == "equal"


def test_a_known_shift_is_found_in_mm(root: Path) -> None:
    perfect = write_labels(root / "perfect", {case: truth(case) for case in CASES})
    # 2 voxels of 1.5 mm; the border of every case is empty, so nothing comes in at the other side
    moved = write_labels(root / "moved", {case: np.roll(truth(case), 2, axis=2) for case in CASES})
    record = compare([], [perfect, moved], root / "out", reference=root / "raw" / DATASET / "labelsTr")
    for structure in ("CSF", "GM", "WM"):
        assert result(record, structure, "volume_error_mm3")["paired"]["ci"] == [0.0, 0.0]
        assert 0 < result(record, structure, "hd95_mm")["paired"]["difference"] <= 3.0
        dice = result(record, structure, "dice")["paired"]
        assert (dice["baseline_mean"], dice["losses"], dice["n"]) == (1.0, len(CASES), len(CASES))
    assert result(record, "GM", "hd95_mm")["paired"]["difference"] > 1.5
    assert record["verdicts"]["moved"]["kind"] == "worse"


def test_the_better_model_wins_pooled_and_in_every_fold_and_subgroup(root: Path) -> None:
    (root / "subjects.csv").write_text("case,sex\n" + "".join(f"{c},{'FM'[i % 2]}\n" for i, c in enumerate(CASES[:-1])))
    models = [write_model(root, "nnUNetTrainer", BAD), write_model(root, "UHFTrainer", GOOD)]
    record = compare(models, [], root / "out", subgroups=root / "subjects.csv")
    main_result = result(record, "mean", "dice")
    assert main_result["primary"]
    assert main_result["paired"]["wins"] == len(CASES)
    assert main_result["p_holm"] == main_result["paired"]["p"]  # the main question is asked of one model
    assert record["verdicts"]["UHFTrainer"]["kind"] == "better"
    for group in (["fold", "0"], ["fold", "1"], ["sex", "F"], ["sex", "M"]):
        assert result(record, "mean", "dice", group=group)["paired"]["losses"] == 0
    assert sum(result(record, "mean", "dice", group=["sex", each])["paired"]["n"] for each in "FM") == len(CASES) - 1
    assert any(CASES[-1] in warning and "sex" in warning for warning in record["warnings"])
    others = [r for r in record["results"] if r["group"] is None and not r["primary"]]
    assert len(others) == 4 * 5 - 1
    lowest = min(r["paired"]["p"] for r in others)
    assert min(r["p_holm"] for r in others) == pytest.approx(min(1, lowest * len(others)))


def test_the_table_has_every_score_of_every_subject_once(root: Path) -> None:
    models = [write_model(root, "nnUNetTrainer", BAD), write_model(root, "UHFTrainer", GOOD)]
    record = compare(models, [], root / "out", tolerance_mm=1.5)
    with (root / "out" / "compare.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [(r["case"], r["model"], r["structure"], r["metric"]) for r in rows]
    assert len(set(keys)) == len(keys) == len(CASES) * 2 * (3 * 7 + 5)
    values = [
        float(r["value"]) for r in rows if (r["model"], r["structure"], r["metric"]) == ("UHFTrainer", "GM", "dice")
    ]
    assert np.mean(values) == pytest.approx(result(record, "GM", "dice")["paired"]["model_mean"])
    assert {r["fold"] for r in rows} == {"0", "1"}
    assert json.loads((root / "out" / "compare.json").read_text()) == record
    assert record["nsd_tolerance_mm"] == 1.5


def test_the_page_needs_nothing_but_itself_and_shows_every_part(root: Path) -> None:
    block = keeper_block([CASES[2]])
    models = [write_model(root, "nnUNetTrainer", BAD), write_model(root, "UHFTrainer<b>", GOOD, block=block)]
    compare(models, [], root / "out", names=["plain & simple", "<b>guided</b>"])
    text = (root / "out" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.references
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in page.references)
    assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe", text.replace("data:image/png;base64,", ""))
    assert page.tags.count("img") == 3 * 2 * 5  # subjects, planes, panels
    assert page.tags.count("svg") == 1 + 5 + 5 + 1 + 3  # paired, distributions, forests, folds, curves
    assert "<b>guided" not in text
    assert "&lt;b&gt;guided&lt;/b&gt;" in text
    assert f"WAS TRAINED ON 1 OF THE 8 COMPARED SUBJECTS ({CASES[2]})" in text
    for part in ("right is on", "not recorded", "Wilcoxon", "only plain &amp; simple is wrong", "0.36 T → 3 T"):
        assert part in text
    assert "secret" not in text
    assert sorted(path.name for path in (root / "out").iterdir()) == FILES


def test_subjects_that_are_not_everywhere_are_named_and_left_out(root: Path) -> None:
    few = {case: GOOD[case] for case in CASES[2:]}
    (root / "raw" / DATASET / "labelsTr" / f"{CASES[7]}.nii.gz").unlink()
    record = compare([write_model(root, "nnUNetTrainer", BAD), write_model(root, "UHFTrainer", few)], [], root / "out")
    assert record["cases"] == list(CASES[2:7])
    assert record["left_out"] == {
        CASES[0]: ["UHFTrainer"],
        CASES[1]: ["UHFTrainer"],
        CASES[7]: ["the true label maps"],
    }
    (warning,) = record["warnings"]
    assert all(case in warning for case in (CASES[0], CASES[1], CASES[7]))


def test_more_models_are_each_held_against_the_baseline(root: Path) -> None:
    folders = [write_labels(root / name, values) for name, values in (("bad", BAD), ("good", GOOD), ("bad_2", BAD))]
    record = compare([], folders, root / "out", reference=root / "raw" / DATASET / "labelsTr", baseline="good")
    assert record["baseline"] == "good"
    assert list(record["verdicts"]) == ["bad", "bad_2"]
    main_results = [r for r in record["results"] if r["primary"]]
    assert [r["p_holm"] for r in main_results] == [pytest.approx(2 * r["paired"]["p"]) for r in main_results]
    assert "over 2 models" in record["verdicts"]["bad"]["sentences"][0]


def test_models_and_predictions_can_be_mixed_and_regions_are_compared(root: Path) -> None:
    model = write_model(root, "nnUNetTrainer", BAD, labels=REGIONS)
    record = compare([model], [write_labels(root / "made", GOOD)], root / "out")
    assert [each["name"] for each in record["structures"]] == ["brain", "matter", "WM"]
    brain = result(record, "brain", "dice")["paired"]
    assert brain["baseline_mean"] == brain["model_mean"] == 1.0  # only tissues are confused
    assert record["costs"][1]["parameters"] is None


def test_values_that_are_no_structure_are_named(root: Path) -> None:
    good = write_labels(root / "good", GOOD)
    strange = write_labels(root / "strange", {case: np.where(truth(case) == 1, 9, truth(case)) for case in CASES})
    (good / "dataset.json").write_text(json.dumps(dataset_json()))
    record = compare([], [good, strange], root / "out", reference=root / "raw" / DATASET / "labelsTr")
    (warning,) = record["warnings"]
    assert "Label maps of strange hold values that are no structure of the task" in warning
    assert f"in 8 of 8 subjects, such as {CASES[0]}: 9." in warning


def test_predictions_alone_have_no_table_of_costs(root: Path) -> None:
    folders = [write_labels(root / name, GOOD) for name in ("a", "b")]
    compare([], folders, root / "out", reference=root / "raw" / DATASET / "labelsTr")
    assert "<h2>Cost</h2>" not in (root / "out" / "index.html").read_text()


def test_worker_processes_change_nothing(root: Path) -> None:
    made = write_labels(root / "made", BAD)
    jobs = [
        Case(case, root / "raw" / DATASET / "labelsTr" / f"{case}.nii.gz", {"made": made / f"{case}.nii.gz"})
        for case in CASES
    ]
    task = structures_of_values([1, 2, 3])
    alone, together = (
        measure_cases(jobs, task, tolerance_mm=1.0, num_processes=number, odd=Odd()) for number in (1, 2)
    )
    assert alone == together
    assert list(together) == list(CASES)


def spoil_alone(root: Path) -> tuple[dict[str, Any], str]:
    return {"predictions": [root / "good"]}, "two or more folders"


def spoil_no_reference(root: Path) -> tuple[dict[str, Any], str]:
    return {"reference": None}, "add -ref FOLDER"


def spoil_names(root: Path) -> tuple[dict[str, Any], str]:
    return {"names": ["a"]}, "1 names for 2 folders"


def spoil_same(root: Path) -> tuple[dict[str, Any], str]:
    return {"predictions": [root / "good", root / "good"]}, "Several folders are called 'good'"


def spoil_damage(root: Path) -> tuple[dict[str, Any], str]:
    path = root / "good" / f"{CASES[1]}.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    return {}, f"good/{CASES[1]}.nii.gz cannot be read"


def spoil_grid(root: Path) -> tuple[dict[str, Any], str]:
    write_image(root / "good" / f"{CASES[1]}.nii.gz", truth(CASES[1])[1:], np.eye(4))
    return {}, "has shape"


def spoil_values(root: Path) -> tuple[dict[str, Any], str]:
    write_image(root / "good" / f"{CASES[1]}.nii.gz", truth(CASES[1]).astype(np.float32) / 2, AFFINE)
    return {}, "no whole numbers"


def spoil_cases(root: Path) -> tuple[dict[str, Any], str]:
    write_labels(root / "elsewhere", {"someone_00": truth(CASES[0])})
    return {"predictions": [root / "good", root / "elsewhere"]}, "No subject is in all of good, elsewhere"


def spoil_labels(root: Path) -> tuple[dict[str, Any], str]:
    for name, label in (("good", "CSF"), ("bad", "GM")):
        (root / name / "dataset.json").write_text(json.dumps({"labels": {"background": 0, label: 1}}))
    return {}, "different labels"


def spoil_tolerance(root: Path) -> tuple[dict[str, Any], str]:
    return {"tolerance_mm": 0.0}, "--metric-tolerance 0"


def spoil_bins(root: Path) -> tuple[dict[str, Any], str]:
    return {"bins": {"age": [3.0]}}, "--subgroups"


@pytest.mark.parametrize("spoil", [value for name, value in list(globals().items()) if name.startswith("spoil_")])
def test_what_the_user_can_put_right_is_one_line_and_nothing_is_written(root: Path, spoil: Any) -> None:
    folders = [write_labels(root / name, values) for name, values in (("bad", BAD), ("good", GOOD))]
    changes, message = spoil(root)
    before = sorted(path.name for path in root.iterdir())
    arguments = {"predictions": folders, "reference": root / "raw" / DATASET / "labelsTr", **changes}
    with pytest.raises(UHFError, match=message) as caught:
        compare([], arguments.pop("predictions"), root / "out", **arguments)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in root.iterdir()) == before


def test_the_command_compares_as_it_is_typed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [write_model(root, "nnUNetTrainer", BAD), write_model(root, "UHFTrainer", GOOD)]
    again = [f"guided={write_model(root, name, GOOD)}" for name in ("UHFTrainerTwo", "UHFTrainerThree")]
    arguments = ["compare", "-m", *map(str, models), "-names", "plain", "guided", "-o", str(root / "out"), "-np", "1"]
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--baseline", "plain", "--metric-tolerance", "2", "--again", *again])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "guided was trained 3 times" in text
    assert "guided against plain: Dice (mean over structures)" in text
    assert f"wrote {root / 'out' / 'index.html'}" in text
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "is not empty" in " ".join(capsys.readouterr().err.split())
