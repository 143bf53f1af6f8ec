"""Where the keeper of a guided block comes from: for people, logs and reports; no network depends on it (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_uhf.keepers.table import in_tesla

#: What is left of a keeper's provenance when its weights are drawn anew: what the network's input depends on.
_OF_THE_ARCHITECTURE = ("spacing_mm", "patch_size")
_NO_ROUTE = "none"


@dataclass(frozen=True)
class Provenance:
    """A keeper's header without architecture and hashes, as plans keep it; what is not stated is None or empty.

    Nothing of it is checked but that it is an object, since nothing is built from it: other versions may say more.
    """

    content: Mapping[str, Any]

    @property
    def dataset(self) -> str | None:
        """Name of the dataset it was trained on."""
        return self._text("dataset")

    @property
    def configuration(self) -> str | None:
        """Configuration it was trained in."""
        return self._text("configuration")

    @property
    def fold(self) -> str | None:
        """Fold it was trained on, or the seed of drawn weights."""
        fold = self.content.get("fold")
        return None if fold is None else str(fold)

    @property
    def route(self) -> str | None:
        """How its pairs came about."""
        return self._text("route")

    @property
    def source_field(self) -> float | None:
        """Field strength of the source in tesla."""
        return self._number("source_field_T")

    @property
    def target_field(self) -> float | None:
        """Field strength of the target in tesla."""
        return self._number("target_field_T")

    @property
    def training_cases(self) -> list[str]:
        """Cases it was trained on."""
        return self._cases("training_cases")

    @property
    def validation_cases(self) -> list[str]:
        """Cases its training was validated on."""
        return self._cases("validation_cases")

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Held-out quality by what was measured."""
        metrics = self.content.get("metrics")
        return metrics if isinstance(metrics, Mapping) else {}

    @property
    def spacing_mm(self) -> Sequence[float] | None:
        """Voxel size it was trained at, in nnU-Net's transposed axis order."""
        return self.content.get("spacing_mm")

    @property
    def patch_size(self) -> Sequence[int] | None:
        """Patch size it was trained on, in voxels."""
        return self.content.get("patch_size")

    @property
    def orientation(self) -> str | None:
        """In which the images of its training are stored; "mixed" of several."""
        return self._text("orientation")

    def described(self) -> str:
        """Field strengths, route and training for people, and what its maker says of it."""
        if self.route == _NO_ROUTE:
            return f"random weights, {self.fold}: it has learnt nothing"
        fields = f"{in_tesla(self.source_field)} -> {in_tesla(self.target_field)}"
        note = self.metrics.get("note")
        said = f" ({note})" if note else ""
        return f"{fields}, route {self.route}, trained on {self.dataset}, {self.configuration}, fold {self.fold}{said}"

    def drawn(self, seed: int) -> Provenance:
        """That of random weights in the same architecture: they know nothing."""
        kept = {name: self.content[name] for name in _OF_THE_ARCHITECTURE if name in self.content}
        nothing: dict[str, Any] = {
            "dataset": "nothing",
            "configuration": "random weights",
            "fold": f"seed {seed}",
            "route": _NO_ROUTE,
            "source_field_T": None,
            "target_field_T": None,
            "training_cases": [],
            "validation_cases": [],
            "metrics": {},
        }
        return Provenance(kept | nothing)

    def _text(self, name: str) -> str | None:
        value = self.content.get(name)
        return None if value is None else str(value)

    def _number(self, name: str) -> float | None:
        value = self.content.get(name)
        return value if isinstance(value, int | float) else None

    def _cases(self, name: str) -> list[str]:
        cases = self.content.get(name)
        return [str(case) for case in cases] if isinstance(cases, list | tuple) else []
