"""Print the lower bounds of a pyproject.toml's dependencies as pip's constraints: `name==bound`, one a line."""

import re
import sys
import tomllib
from pathlib import Path

BOUND = re.compile(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9][^,;\s]*)")


def lower_bounds(pyproject: Path) -> list[str]:
    """Constraints that hold every dependency to its lower bound; SystemExit where one has none."""
    found = []
    for dependency in tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]:
        match = BOUND.match(dependency)
        if match is None:
            raise SystemExit(f"{pyproject}: {dependency} has no lower bound: state the lowest version that was tried")
        found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lower_bounds(Path(sys.argv[1])))
