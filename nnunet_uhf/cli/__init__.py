"""The command line: ``nnunet-uhf <verb>``."""

from nnunet_uhf.cli.run import main

__all__ = ["main"]
