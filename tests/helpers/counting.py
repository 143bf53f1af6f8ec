"""How often functions are called."""

from __future__ import annotations

from collections import Counter
from types import ModuleType
from typing import Any

import pytest


def count_calls(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *names: str) -> Counter[str]:
    """Count the calls of functions, by name, that a module makes from now on."""
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        function = getattr(module, name)

        def wrapper(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*args, **options)

        return wrapper

    for name in names:
        monkeypatch.setattr(module, name, counted(name))
    return calls
