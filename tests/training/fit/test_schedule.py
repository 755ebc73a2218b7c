"""A run that ends by the clock says how much of the clock is left."""

import time
from pathlib import Path

import pytest

from training.fit.schedule import Schedule
from training.fit.settings import PretrainConfig


@pytest.mark.parametrize("step", [10, 1000])
def test_the_time_left_of_a_run_that_ends_by_the_clock_is_the_clocks(step):
    config = PretrainConfig((), Path("run"), max_minutes=60.0)
    assert Schedule(config, time.monotonic() - 20 * 60).left(step) == "40 min"


def test_a_run_with_few_steps_left_is_over_before_the_clock():
    loop = Schedule(PretrainConfig((), Path("run"), max_minutes=60.0, max_steps=101), time.monotonic() - 100)
    assert loop.left(100) == "1 s"
