"""How long work tells its caller how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """One report of a long job: `done` of `total` steps, what is being done now, and named figures such as the loss."""

    done: int
    total: int
    text: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """Finished part, 0..1; 0 while the total is not known (0)."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary for one line of JSON."""
        return {**asdict(self), "values": dict(self.values)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Progress:
        """The report that `to_dict` wrote."""
        values = {str(name): float(value) for name, value in dict(record.get("values", {})).items()}
        return cls(int(record["done"]), int(record["total"]), str(record.get("text", "")), values)


ProgressCallback = Callable[[Progress], None]
"""Called with each report; it raises `training.errors.Cancelled` to stop the job."""


def report(callback: ProgressCallback | None, done: int, total: int, text: str = "", **values: float) -> None:
    """Call `callback` with a Progress if there is one."""
    if callback is not None:
        callback(Progress(done, total, text, values))
