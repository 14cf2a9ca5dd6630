"""What a run has used and how its process ended, in numbers, as its agent puts them into the last state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: Names and units are those of exit.json (flowherd_runner/contract/files.py).
FIGURES = ("exit_code", "signal", "cpu_time_s", "peak_memory_bytes", "lines", "lines_dropped")
#: Left out if it is 0, as it is of nearly all runs.
_USUALLY_ZERO = "lines_dropped"


def known_figures(value: Any) -> tuple[tuple[str, float], ...]:
    """Return those of FIGURES that a mapping from outside has."""
    found = value if isinstance(value, Mapping) else {}
    numbers = ((name, found[name]) for name in FIGURES if _is_number(found.get(name)))
    return tuple((name, number) for name, number in numbers if number or name != _USUALLY_ZERO)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value < 2**63
    )
