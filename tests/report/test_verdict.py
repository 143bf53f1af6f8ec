"""The sentence for the reader claims no more than the numbers do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnunet_uhf.evaluation.label_scores import MEAN
from nnunet_uhf.evaluation.statistics import compare_paired
from nnunet_uhf.nnunet.model_folder import FoldFolder
from nnunet_uhf.report.analysis import Result
from nnunet_uhf.report.entries import Entry
from nnunet_uhf.report.verdict import Verdict, verdict

FOLDS = {"0": FoldFolder(Path()), "1": FoldFolder(Path())}
PLAIN = Entry("plain", Path("plain"), {}, trainer="nnUNetTrainer", fold_folders=FOLDS)
GUIDED = Entry("guided", Path("guided"), {}, trainer="UHFTrainer", fold_folders=FOLDS)


def judge(
    differences: np.ndarray, *, p_holm: float | None = None, overlap: tuple[str, ...] = (), dropped: int = 0
) -> Verdict:
    paired = compare_paired(np.full(len(differences), 0.5), 0.5 + differences, higher_is_better=True)
    result = Result("guided", MEAN, "dice", None, paired, p_holm=paired.p if p_holm is None else p_holm, primary=True)
    return verdict(result, PLAIN, GUIDED, models=1, compared=len(differences) + dropped, overlap=overlap)


RISE = np.linspace(0.01, 0.03, 12)


def test_a_clear_gain_is_called_better_and_a_clear_loss_worse() -> None:
    assert judge(RISE).kind == "better"
    assert "guided is better than plain" in judge(RISE).sentences[0]
    assert judge(-RISE).kind == "worse"


def test_an_interval_with_zero_shows_neither_a_difference_nor_equality() -> None:
    found = judge(np.array([0.02, -0.02] * 6) + 0.001)
    assert found.kind == "unclear"
    assert "nor that they are equal" in found.sentences[0]


def test_a_test_that_does_not_confirm_the_interval_leaves_it_open() -> None:
    found = judge(RISE, p_holm=0.2)
    assert found.kind == "unclear"
    assert "does not confirm" in found.sentences[0]


def test_few_subjects_are_told_what_they_cannot_show() -> None:
    found = judge(np.array([0.01, 0.02, 0.03, 0.04]))
    assert found.kind == "unclear"
    assert any("4 subjects are few" in each and "p below 0.125" in each for each in found.sentences)


def test_identical_scores_are_called_the_same() -> None:
    found = judge(np.zeros(5))
    assert found.kind == "equal"
    assert "exactly the same Dice" in found.headline


def test_subjects_of_the_keepers_training_spoil_any_gain() -> None:
    found = judge(RISE, overlap=("a",))
    assert found.kind == "spoiled"
    assert "nothing can be concluded" in found.sentences[0]


def test_the_luck_of_training_is_never_passed_over() -> None:
    assert all("nothing in this report corrects for it" in judge(each).sentences[-1] for each in (RISE, np.zeros(5)))
    assert "trained 2 and 2 times, once a fold" in judge(RISE).sentences[-1]


def test_without_any_pair_nothing_is_concluded() -> None:
    assert judge(np.array([np.nan])).sentences == ("Nothing can be concluded.",)
    assert judge(np.array([0.1])).sentences[0] == "One subject says nothing about others."


def test_subjects_without_a_score_are_counted_aloud() -> None:
    assert any("3 of 15 subjects are not in it" in sentence for sentence in judge(RISE, dropped=3).sentences)
    assert not any("not in it" in sentence for sentence in judge(RISE).sentences)


def test_ties_count_for_nothing_in_what_a_test_can_find() -> None:
    sentences = judge(np.array([0.01] * 5 + [0.0] * 2)).sentences
    assert any("no signed-rank test of 5 can give a p below 0.0625" in sentence for sentence in sentences)
