"""A worker whose wall clock is off: ``skewed SECONDS ...`` is ``worker ...`` with another time."""

from __future__ import annotations

import runpy
import sys
import time

_time, _time_ns = time.time, time.time_ns


def skew(seconds: float) -> None:
    """From now on, tell every module another time of day; what measures durations is right."""
    time.time = lambda: _time() + seconds
    time.time_ns = lambda: _time_ns() + round(seconds * 1e9)


if __name__ == "__main__":
    skew(float(sys.argv.pop(1)))
    runpy.run_module("tests.torment.worker", run_name="__main__")
