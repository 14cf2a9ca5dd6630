"""What a table field is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowherd_server.errors import Refused


@dataclass(frozen=True)
class Arguments:
    """The arguments of a table field; None and empty mean not given."""

    where: Mapping[str, Any] | None = None
    order_by: Sequence[Mapping[str, Any]] = ()
    distinct_on: Sequence[str] = ()
    limit: int | None = None
    offset: int | None = None


@dataclass(frozen=True)
class Parents:
    """A restriction to rows whose `column` is one of `keys`.

    Limit, offset and distinct_on apply to each key separately.
    """

    column: str
    keys: Sequence[Any]


def natural(name: str, value: int | None) -> int | None:
    """Return `value`. Raises Refused if it is negative."""
    if value is not None and value < 0:
        raise Refused(f"{name} is {value}, but must not be negative")
    return value
