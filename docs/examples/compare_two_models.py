"""Compare two models.

Two folders of predictions are held against the true label maps. `compare` writes a page for people, a table of all
scores and a record; the table and the record are drawn here. The label maps are phantoms, and the two "models" are the
truth with more errors and with fewer.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np

from nnunet_uhf import compare
from nnunet_uhf.demo.subjects import make_subject

rng = np.random.default_rng(0)
for case in range(8):
    subject = make_subject("phantom", seed=case, shape=(40, 48, 40), spacing_mm=4.4)
    for folder, share in (("truth", 0.0), ("plain", 0.16), ("guided", 0.14)):
        wrong = (subject.labels > 0) & (rng.random(subject.labels.shape) < share * rng.uniform(0.7, 1.3))
        segmentation = np.where(wrong, rng.integers(1, 4, wrong.shape), subject.labels).astype(np.uint8)
        Path(folder).mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(segmentation, subject.affine), f"{folder}/phantom_{case}.nii.gz")

labels = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}
Path("dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}), encoding="utf-8")
record = compare([], ["plain", "guided"], "comparison", reference="truth")
with Path("comparison/compare.csv").open(newline="", encoding="utf-8") as file:
    table = list(csv.DictReader(file))

structures = ["mean", *(one["name"] for one in record["structures"])]
figure, (subjects, differences) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for place, structure in enumerate(structures):
    lines = [line for line in table if line["structure"] == structure and line["metric"] == "dice"]
    by_model = [[float(line["value"]) for line in lines if line["model"] == name] for name in ("plain", "guided")]
    for pair in zip(*by_model, strict=True):
        subjects.plot((place - 0.15, place + 0.15), pair, "o-", color="tab:blue", markersize=3, linewidth=0.8)
    (found,) = (
        one for one in record["results"] if (one["structure"], one["metric"], one["group"]) == (structure, "dice", None)
    )
    paired = found["paired"]
    below, above = paired["difference"] - paired["ci"][0], paired["ci"][1] - paired["difference"]
    differences.errorbar(place, paired["difference"], [[below], [above]], fmt="o", color="tab:blue", capsize=4)
subjects.set(title="every subject: plain, guided", ylabel="Dice")
differences.set(title="guided minus plain, mean and 95 % interval", ylabel="difference in Dice")
differences.axhline(0, color="grey", linewidth=0.8)
for axis in (subjects, differences):
    axis.set_xticks(range(len(structures)), structures)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "compare_two_models.png", dpi=90)
print(record["verdicts"]["guided"]["headline"])
