"""The model card of a keeper file: its header in words, for people who find it on the Hub."""

from __future__ import annotations

from huggingface_hub import ModelCardData

from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.origin import taught_on
from nnunet_uhf.keepers.table import header_rows

TAGS = ("nnunet", "mri", "low-field-mri", "knowledge-keeper")


def model_card(header: KeeperHeader, *, name: str, repo: str, sha256: str) -> str:
    """The text of README.md in the repository.

    Args:
        header: of the keeper, already checked.
        name: of the file there.
        repo: OWNER/NAME.
        sha256: of the whole file, which `pull` verifies.
    """
    data = ModelCardData(license="other", library_name="nnunet-uhf", tags=[*TAGS, f"{header.dim}d", header.route])
    rows = "\n".join(f"| {literal(row)} | {literal(value)} |" for row, value in header_rows(header))
    return f"""---
{data.to_yaml()}
---

# {literal(name)}

A knowledge keeper for [nnU-Net](https://github.com/MIC-DKFZ/nnUNet) with nnunet-uhf: a frozen {header.dim}D network
that makes feature maps of {literal(header.channel)} images, and guides the networks that nnU-Net plans. It was trained
on {literal(taught_on(header))}. {literal(str(header.metrics.get("note", "")))}

Research software, not a medical device. Images that it makes are estimates: structures may be missing or invented.

```bash
nnunet-uhf pull {repo} --name {name} --revision REVISION --sha256 {sha256} -o {name}
nnunet-uhf inspect {name}
export nnUNet_UHF_KKN=$PWD/{name}
nnUNetv2_train DATASET {"2d" if header.dim == 2 else "3d_fullres"} 0 -tr UHFTrainer
```

REVISION is the commit that holds this file. Subjects of the training must not be test subjects of a segmentation: the
header in the file lists {len(header.training_cases)} of them.

| Header | |
|---|---|
{rows}
"""


def literal(text: str) -> str:
    """Text of a header as Markdown shows it, in one line, without becoming markup of its own."""
    flat = " ".join(text.split())
    for letter in "\\`*_[]<>|#!":
        flat = flat.replace(letter, f"\\{letter}")
    return flat
