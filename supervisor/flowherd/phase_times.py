"""The times at which a run went on, as its runner writes them into exit.json and its agent into the last state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The names in their order; what they mean is in flowherd_runner/contract/files.py.
PHASES = ("intent", "asked", "code", "first_line", "recorded")
#: In the year 9999; no datetime is later.
_END_S = 253_370_764_800.0


def known_phases(value: Any) -> tuple[tuple[str, float], ...]:
    """Return those of PHASES that a mapping from outside has, as seconds since the epoch."""
    found = value if isinstance(value, Mapping) else {}
    numbers = {name: found[name] for name in PHASES if isinstance(found.get(name), int | float)}
    return tuple((name, float(at_s)) for name, at_s in numbers.items() if 0 < at_s < _END_S)
