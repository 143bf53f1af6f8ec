"""Runs the command line: arguments as nnU-Net's users write them, and errors in one line.

Verbs import what they need when they run, so that ``--help`` and ``--version`` do not wait for torch.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

from nnunet_uhf import __version__
from nnunet_uhf.cli import (
    chain,
    datasets,
    features,
    images,
    installation,
    keepers,
    probing,
    prolonging,
    segmentations,
    sharing,
    simulation,
)
from nnunet_uhf.cli.arguments import HELP
from nnunet_uhf.errors import LeftOutError, UHFError, UHFWarning

# typer brings its own copy of click, whose names are not public
UsageError = typer.BadParameter.__bases__[0]

app = typer.Typer(pretty_exceptions_enable=False, context_settings=HELP)
for verbs in (
    installation,
    chain,
    datasets,
    simulation,
    keepers,
    prolonging,
    probing,
    images,
    features,
    segmentations,
    sharing,
):  # as a user meets them
    verbs.add_to(app)


@app.callback(invoke_without_command=True, epilog="Example: nnunet-uhf demo --out demo -device cpu")
def _nnunet_uhf(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 - read in main
) -> None:
    """Ultra-high-field guidance for nnU-Net: everything stock nnU-Net commands do not do themselves."""
    if version:
        sys.stdout.write(f"nnunet-uhf {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status: 2 for whatever the user can put right, 1 for cases left out.

    What a console cannot show is replaced; warnings of ours are one line, and what libraries say of their own future is
    for those who write code against them.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with warnings.catch_warnings():
        warnings.simplefilter("default", UHFWarning)
        if not debug:
            warnings.simplefilter("ignore", FutureWarning)
        warnings.showwarning = partial(_show, set())
        _run(given, debug=debug)


def _run(given: list[str], *, debug: bool) -> None:
    try:
        status = app(
            repeat_list_options([argument for argument in given if argument != "--debug"]),
            prog_name="nnunet-uhf",
            standalone_mode=False,
        )
    except (Exception, KeyboardInterrupt) as error:
        message = one_line(error)
        if debug or message is None:
            raise
        Console(stderr=True, soft_wrap=True).print(Text(f"error: {message}", style="red"))
        sys.exit(1 if isinstance(error, LeftOutError) else 2)
    sys.exit(status if isinstance(status, int) else 0)


def _show(
    shown: set[str],
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line for our own warnings, each once; Python's way for those of others."""
    if issubclass(category, UHFWarning):
        text = f"warning: {' '.join(str(message).split())}"
        if text not in shown:
            shown.add(text)
            Console(stderr=True, soft_wrap=True).print(Text(text, style="yellow"))
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def repeat_list_options(arguments: Sequence[str]) -> list[str]:
    """Write ``-c 2d 3d_fullres``, as nnU-Net has it, as ``-c 2d -c 3d_fullres``, as typer wants it."""
    lists = list_options(verb_of(arguments))
    expanded: list[str] = []
    option = None
    for argument in arguments:
        if argument.startswith("-"):
            option = argument if argument in lists else None
        elif option is not None and expanded[-1] != option:
            expanded.append(option)
        expanded.append(argument)
    return expanded


def verb_of(arguments: Sequence[str]) -> Any:
    """The verb that the arguments name, or what there is of one: click's command, of which typer's are a kind."""
    command: Any = typer.main.get_command(app)
    for argument in arguments:
        if not argument.startswith("-"):
            verbs = getattr(command, "commands", {})
            if argument not in verbs:
                break
            command = verbs[argument]
    return command


def list_options(verb: Any) -> set[str]:
    """Names of the verb's options that are declared as lists and so take several values."""
    return {name for option in verb.params if getattr(option, "multiple", False) for name in option.opts}


def one_line(error: BaseException) -> str | None:
    """Return what to tell the user, or None where the error is a defect that needs its traceback."""
    if isinstance(error, UHFError):
        message = str(error)
    elif isinstance(error, UsageError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "nnunet-uhf"
        message = f"{error.format_message().rstrip('.')}. See `{command} --help`."  # type: ignore[attr-defined]
    elif isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    elif isinstance(error, (KeyboardInterrupt, typer.Abort)):
        message = "interrupted"
    else:
        return None
    return " ".join(message.split())
