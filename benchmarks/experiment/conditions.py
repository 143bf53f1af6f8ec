"""The ways of training that `run.py` compares, and what each is held against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PAIRS, LOW, HIGH = "Dataset201_ExperimentPairs", "Dataset202_ExperimentLow", "Dataset203_ExperimentHigh"
BOTH, LABELLED_PAIRS = "Dataset204_ExperimentBoth", "Dataset205_ExperimentLabelledPairs"
WIDE_PAIRS = "Dataset206_ExperimentWidePairs"


@dataclass(frozen=True)
class PretrainedKeeper:
    """How a keeper file comes about.

    Attributes:
        dataset: of its pairs.
        suffix: behind the names of its trainers.
        taught: by a teacher; else it learns from image to image, and is a space-to-depth keeper.
    """

    dataset: str = PAIRS
    suffix: str = ""
    taught: bool = True

    @property
    def trainers(self) -> dict[str, str]:
        """By what each makes, in order; the last one's keeper is exported."""
        if not self.taught:
            return {"keeper": f"UHFKeeperTrainerDirect{self.suffix}_experiment"}
        return {role.lower(): f"UHF{role}Trainer{self.suffix}_experiment" for role in ("Teacher", "Keeper")}


HF_KEEPER, SAME_KEEPER = "high_field", "same_field"
SEGMENTED_KEEPER, LABELS_KEEPER = "segmented", "labels_only"
"""Of a teacher that segments high-field images, and of one that segments low-field images with the same labels."""
WIDE_KEEPER, WIDE_SAME_KEEPER = "wide", "wide_same_field"
"""Of low field from mild to severe, with one clean target, and with the low-field image itself as the target."""
DIRECT_KEEPER, DIRECT_SAME_KEEPER = "direct", "direct_same_field"
"""A U-Net of the efficient preset from image to image, and the same without a higher field."""
SAME_FIELD = "SameField"
KEEPERS = {
    HF_KEEPER: PretrainedKeeper(),
    SAME_KEEPER: PretrainedKeeper(suffix=SAME_FIELD),
    SEGMENTED_KEEPER: PretrainedKeeper(LABELLED_PAIRS),
    LABELS_KEEPER: PretrainedKeeper(LABELLED_PAIRS, SAME_FIELD),
    WIDE_KEEPER: PretrainedKeeper(WIDE_PAIRS),
    WIDE_SAME_KEEPER: PretrainedKeeper(WIDE_PAIRS, SAME_FIELD),
    DIRECT_KEEPER: PretrainedKeeper(taught=False),
    DIRECT_SAME_KEEPER: PretrainedKeeper(suffix=SAME_FIELD, taught=False),
}
MASKED_START = "masked autoencoder"
"""A start that is no condition: the backbone of the masked autoencoder."""


@dataclass(frozen=True)
class Condition:
    """One way to train.

    Attributes:
        trainer: class of `experiment_trainers`.
        keeper: file under `keepers/` that guides it, none for plain nnU-Net.
        dataset: LOW (labels on low-field images), HIGH (labels on high-field images) or BOTH (low- and high-field
            image of a labelled subject as two channels).
        draws: of HIGH, whether it trains on simulated low-field images of the labelled ones in their place.
        variables: further environment.
        everybody: all keeper subjects, with labels, beside the few.
        labelled_by: the condition whose model labels the keeper subjects; their own labels without it.
        starts_from: the condition whose model gives the first weights, or MASKED_START.
        tested_on: whose test images it is given; those of its dataset without it.
        teacher: whether it needs the teacher of the high-field keeper, not the keeper file alone.
    """

    trainer: str
    keeper: str | None = None
    dataset: str = LOW
    draws: bool = False
    variables: tuple[tuple[str, str], ...] = ()
    everybody: bool = False
    labelled_by: str = ""
    starts_from: str = ""
    tested_on: str = ""
    teacher: bool = False

    @property
    def test_images(self) -> str:
        """Dataset whose test images it is given."""
        return self.tested_on or self.dataset

    @property
    def needs(self) -> list[str]:
        """Conditions that have to be trained before it."""
        return [name for name in (self.labelled_by, self.starts_from) if name in CONDITIONS]


PLAIN, GUIDED = "nnUNetTrainer_experiment", "UHFTrainer_experiment"
LINEAR = "nnUNetTrainerLinearHead_experiment"
FROM_BASELINE, FROZEN = "UHFTrainerFromBaseline_experiment", "UHFTrainerFrozenBaseline_experiment"
CONDITIONS = {
    "plain": Condition(PLAIN),
    # gates: what there is to gain at all, see gates.py
    "plain_longer": Condition("nnUNetTrainerGoesOn_experiment", starts_from="plain"),
    "low_all": Condition(PLAIN, everybody=True),
    "true_guides": Condition("UHFTrainerTrueGuides_experiment", HF_KEEPER, dataset=BOTH, teacher=True),
    "guided": Condition(GUIDED, HF_KEEPER),
    "same_field": Condition(GUIDED, SAME_KEEPER),
    # a teacher that segments
    "segmented": Condition(GUIDED, SEGMENTED_KEEPER),
    "labels_only": Condition(GUIDED, LABELS_KEEPER),
    "pseudo_labels": Condition(PLAIN, everybody=True, labelled_by="high_plain"),
    "self_labels": Condition(PLAIN, everybody=True, labelled_by="plain"),
    # time for the fusion
    "from_baseline": Condition(FROM_BASELINE, HF_KEEPER, starts_from="plain"),
    "from_baseline_same_field": Condition(FROM_BASELINE, SAME_KEEPER, starts_from="plain"),
    "from_baseline_random": Condition("UHFTrainerRandomKeeperFromBaseline_experiment", HF_KEEPER, starts_from="plain"),
    "frozen_baseline": Condition(FROZEN, HF_KEEPER, starts_from="plain"),
    "frozen_baseline_same_field": Condition(FROZEN, SAME_KEEPER, starts_from="plain"),
    # one clean target for mild to severe degradation
    "one_target": Condition(GUIDED, WIDE_KEEPER),
    "one_target_same_field": Condition(GUIDED, WIDE_SAME_KEEPER),
    # privileged guides
    "privileged": Condition("UHFPrivilegedTrainer_experiment", HF_KEEPER, dataset=BOTH, tested_on=LOW, teacher=True),
    # another keeper
    "direct": Condition(GUIDED, DIRECT_KEEPER, variables=(("nnUNet_UHF_PRESET", "efficient"),)),
    "direct_same_field": Condition(GUIDED, DIRECT_SAME_KEEPER, variables=(("nnUNet_UHF_PRESET", "efficient"),)),
    # the maps alone, under a linear head
    "linear_high_field": Condition(LINEAR, HF_KEEPER),
    "linear_same_field": Condition(LINEAR, SAME_KEEPER),
    "linear_segmented": Condition(LINEAR, SEGMENTED_KEEPER),
    "linear_labels_only": Condition(LINEAR, LABELS_KEEPER),
    "linear_random": Condition(LINEAR, HF_KEEPER, variables=(("UHF_EXPERIMENT_DRAWN_KEEPER", "1"),)),
    # other uses of the keeper subjects' images
    "masked": Condition("nnUNetTrainerFromMasked_experiment", starts_from=MASKED_START),
    "random": Condition("UHFTrainerRandomKeeper_experiment", HF_KEEPER),
    "zero": Condition("UHFTrainerZeroGuide_experiment", HF_KEEPER),
    "trainable": Condition("UHFTrainerTrainableKeeper_experiment", HF_KEEPER),
    "unfrozen": Condition("UHFTrainerUnfrozenKeeper_experiment", HF_KEEPER),
    "enhanced_input": Condition("UHFTrainerEnhancedInput_experiment", HF_KEEPER),
    "light": Condition(GUIDED, HF_KEEPER, variables=(("nnUNet_UHF_PRESET", "light"),)),
    "efficient": Condition(GUIDED, HF_KEEPER, variables=(("nnUNet_UHF_PRESET", "efficient"),)),
    # labels on high-field images alone
    "high_plain": Condition(PLAIN, dataset=HIGH),
    "high_simulated": Condition(PLAIN, dataset=HIGH, draws=True),
    "high_guided": Condition(GUIDED, HF_KEEPER, dataset=HIGH, draws=True),
    "high_same_field": Condition(GUIDED, SAME_KEEPER, dataset=HIGH, draws=True),
}
USUAL = (
    "plain", "plain_longer", "low_all", "true_guides", "guided", "same_field", "segmented", "labels_only", "random",
    "zero", "trainable", "unfrozen", "enhanced_input", "light", "high_plain", "high_simulated", "high_guided",
    "high_same_field",
)  # fmt: skip
"""What is trained where nothing is asked for."""
BASELINES = {
    **dict.fromkeys(("high_guided", "high_same_field", "high_plain"), "high_simulated"),
    **{name: "plain_longer" for name, one in CONDITIONS.items() if one.starts_from == "plain" and one.keeper},
}
"""What a condition is held against, where it is not `plain`."""
CONTROLS = {
    "guided": ("same_field", "random", "zero", "trainable", "unfrozen", "enhanced_input", "masked"),
    "segmented": ("labels_only", "pseudo_labels", "self_labels", "random"),
    "from_baseline": ("from_baseline_same_field", "from_baseline_random"),
    "frozen_baseline": ("frozen_baseline_same_field", "from_baseline"),
    "one_target": ("one_target_same_field", "guided", "random"),
    "privileged": ("guided", "same_field"),
    "direct": ("direct_same_field", "efficient", "guided"),
    "linear_high_field": ("linear_same_field", "linear_random", "guided"),
    "linear_segmented": ("linear_labels_only", "linear_random", "segmented"),
    "light": ("guided",),
    "efficient": ("guided",),
    "high_guided": ("high_same_field",),
}
"""What each way of being guided has to be better than, beside its baseline, before anything is said of high field."""


def with_needed(names: Iterable[str]) -> list[str]:
    """Conditions in this order, each once, every one behind those it needs."""
    ordered: dict[str, None] = {}
    for name in names:
        ordered |= dict.fromkeys([*with_needed(CONDITIONS[name].needs), name])
    return list(ordered)
