"""Reading of small objects that another process has sent, of any release and with any content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Kind = type[Any] | tuple[type[Any], ...]

#: Kinds of values: whole numbers, and numbers.
WHOLE, NUMBER = int, (int, float)
#: Numbers from here on are left out; so are infinity and NaN.
_MOST = 1 << 63


def readable(value: Mapping[str, Any], kinds: Mapping[str, Kind], longest: int | None = None) -> dict[str, Any]:
    """Return the values that are of their kind; texts are cut to `longest` characters, and all else is left out."""
    found = {name: value[name] for name, kind in kinds.items() if _is_readable(value.get(name), kind)}
    return {name: one[:longest] if isinstance(one, str) else one for name, one in found.items()}


def _is_readable(value: Any, kind: Kind) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return isinstance(value, str) or abs(value) < _MOST
