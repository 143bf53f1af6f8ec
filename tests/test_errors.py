from __future__ import annotations

import pytest

from nnunet_uhf.errors import first_line


@pytest.mark.parametrize(
    ("error", "said", "without_kind"),
    [
        (ValueError("bad header\nat byte 4"), "ValueError: bad header", "bad header"),
        (EOFError(), "EOFError", "EOFError"),
        (RuntimeError("\n  late words"), "RuntimeError: late words", "late words"),
        (RuntimeError("x" * 500), f"RuntimeError: {'x' * 150}", "x" * 150),
    ],
)
def test_what_another_library_says_is_told_in_one_line(error: Exception, said: str, without_kind: str) -> None:
    assert first_line(error) == said
    assert first_line(error, kind=False) == without_kind
