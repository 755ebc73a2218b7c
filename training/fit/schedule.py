"""How far a run is, how fast it learns there, and when it will be done."""

from __future__ import annotations

import time

from training.fit.settings import PretrainConfig


def learning_rate(config: PretrainConfig, fraction: float) -> float:
    """Linear warm-up, a plateau, and a linear way down to nothing; fraction: 0..1 of the run."""
    up = max(fraction / config.warmup, 1e-3) if config.warmup else 1.0
    down = (1 - min(fraction, 1.0)) / config.cooldown if config.cooldown else 1.0
    return config.learning_rate * min(1.0, up, down)


class Schedule:
    """How far a run is, by steps or by the clock."""

    def __init__(self, config: PretrainConfig, started: float) -> None:
        self._config, self._started = config, started
        self._first: tuple[int, float] | None = None

    def fraction(self, step: int) -> float:
        """Finished part of the schedule, 0..1; the clock ends a run counted in steps without bending its schedule."""
        steps, minutes = self._config.max_steps, self._config.max_minutes
        clock = (time.monotonic() - self._started) / 60 / minutes if minutes else 0.0
        if steps is None:
            return min(1.0, clock)
        return 1.0 if clock >= 1 else min(1.0, step / steps)

    def pace(self, step: int) -> float:
        """Seconds per step since this process began."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
            return (now - self._started) / max(step, 1)
        return (now - self._first[1]) / max(step - self._first[0], 1)

    def steps(self, step: int) -> int:
        """Steps the whole run will have."""
        fraction = self.fraction(step)
        return self._config.max_steps or max(step, round(step / max(fraction, 1e-6)))

    def left(self, step: int) -> str:
        """Time left in words."""
        minutes = (self.steps(step) - step) * self.pace(step) / 60
        if self._config.max_minutes:
            rest = max(0.0, self._config.max_minutes - (time.monotonic() - self._started) / 60)
            minutes = rest if self._config.max_steps is None else min(minutes, rest)
        return f"{minutes:.0f} min" if minutes >= 1.5 else f"{60 * minutes:.0f} s"
