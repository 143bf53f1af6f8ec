"""Faults on purpose, counted: `python tests/faults --help`, from the top of the repository."""
