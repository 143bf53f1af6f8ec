"""Verbs that share keepers: push, pull."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import add_verbs

Repository = Annotated[str, typer.Option("--repo", metavar="OWNER/NAME", help="Repository on the Hub.")]
Name = Annotated[
    str | None, typer.Option("--name", metavar="FILE", help="Of the file there. Default: that of the local file.")
]


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    add_verbs(
        app,
        ("push", push, "push keeper.safetensors --repo OWNER/NAME"),
        ("pull", pull, "pull OWNER/NAME -o keeper.safetensors --revision COMMIT --sha256 HASH"),
        group="Sharing",
    )


def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Keeper file.")],
    repo: Repository,
    name: Name = None,
    private: Annotated[bool, typer.Option("--private", help="Of a repository that is made.")] = False,
) -> None:
    """Put a keeper file and a model card made from its header into a repository of the Hugging Face Hub."""
    from nnunet_uhf.sharing.hub import push as run

    shared = run(file, repo, name=name, private=private)
    cases = shared.header.training_cases + shared.header.validation_cases
    if cases:
        sys.stderr.write(
            f"note: the header names {len(cases)} cases ({', '.join(cases[:3])}, ..): they must not identify a person\n"
        )
    sys.stdout.write(
        f"pushed {shared.name}; others fetch it with\n"
        f"nnunet-uhf pull {repo} --name {shared.name} --revision {shared.revision} --sha256 {shared.sha256} "
        f"-o {shared.name}\n"
    )


def pull(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")],
    output: Annotated[Path, typer.Option("-o", metavar="FILE", help="Keeper file to write (*.safetensors).")],
    name: Name = None,
    revision: Annotated[str, typer.Option("--revision", help="Commit; a tag or branch moves.")] = "main",
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HASH", help="That the file has to have, as push printed it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Fetch a keeper file from the Hugging Face Hub; it is verified before it appears under its name."""
    from nnunet_uhf.sharing.hub import is_commit
    from nnunet_uhf.sharing.hub import pull as run

    shared = run(repo, output, name=name, revision=revision, sha256=sha256, overwrite=overwrite)
    if sha256 is None or not is_commit(revision):
        sys.stderr.write(
            f"note: not pinned; the same file again: --revision {shared.revision} --sha256 {shared.sha256}\n"
        )
    sys.stdout.write(f"wrote {output}\n")
