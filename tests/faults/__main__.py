"""Run all faults and write the table of docs/RELIABILITY.md: `python tests/faults`, long by default.

python tests/faults --short                  # what continuous integration runs
python tests/faults --write                  # the long form, into docs/RELIABILITY.md
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "RELIABILITY.md"
BEGIN, END = "<!-- the table begins -->\n", "<!-- the table ends -->\n"

if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from faults.run import Fault, faults  # noqa: E402 - found once the path is set


def table(found: list[Fault], command: str) -> str:
    """The faults as a table of Markdown."""
    rows = ["| Fault | Tried | Outcome expected | Seen |", "|---|---|---|---|"]
    for one in found:
        seen = ", ".join(f"{count} {name}" for name, count in one.outcomes.most_common())
        rows.append(f"| {one.what} | {one.tried} | {one.expected} | {seen} |")
    sums = {name: sum(one.outcomes[name] for one in found) for name in ("lost", "traceback", "wrong")}
    rows.append(
        f"| **all** | **{sum(one.tried for one in found)}** | | **{sums['lost']} lost, {sums['traceback']} tracebacks, "
        f"{sums['wrong']} silent wrong results** |"
    )
    return f"`{command}`, {datetime.date.today():%Y-%m-%d}:\n\n" + "\n".join(rows) + "\n"


def told(found: Iterator[Fault]) -> Iterator[Fault]:
    """Each fault, once it is printed."""
    for one in found:
        print(f"{one.tried:5d}  {one.what}: {dict(one.outcomes)}", flush=True)  # noqa: T201 - a command
        for note in one.notes:
            print(f"       {note}", flush=True)  # noqa: T201
        yield one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tenth of it, as in continuous integration")
    parser.add_argument("--write", action="store_true", help="write the table into docs/RELIABILITY.md")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        found = list(told(faults(Path(folder), short=chosen.short)))
    text = table(found, "python tests/faults" + " --short" * chosen.short)
    print(text)  # noqa: T201
    if chosen.write:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return 1 if any(one.bad for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
